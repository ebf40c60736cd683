//! Reads a history file, or two sample lines without one, and prints how long each step took.
//!
//! `cargo run -p vela-protocol --example read_history -- /var/vela/apps/my-app/history/20260305-143022.jsonl`

use vela_protocol::{Envelope, Event};

const SAMPLE: &str = r#"{"v":1,"seq":0,"time":"2026-03-05T14:30:22Z","deploy":"6f1c2d9e-8f0b-4f43-9d8a-0d5a4c1f2b3c","kind":"step_finished","step":"switch","ms":2}
{"v":1,"seq":1,"time":"2026-03-05T14:30:22Z","deploy":"6f1c2d9e-8f0b-4f43-9d8a-0d5a4c1f2b3c","kind":"succeeded","release":"20260305-143022","ms":140}"#;

#[expect(clippy::print_stdout, reason = "an example prints")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => SAMPLE.to_owned(),
    };
    for line in text.lines() {
        let envelope: Envelope = serde_json::from_str(line)?;
        match envelope.event {
            Event::StepFinished { step, ms } => println!("{step:<12} {ms:>6} ms"),
            Event::Succeeded { release, ms, .. } => println!("{release} serves after {ms} ms"),
            _ => {}
        }
    }
    Ok(())
}
