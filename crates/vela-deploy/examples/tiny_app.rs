//! The smallest app that Vela can deploy: it listens on `$PORT`, answers every request with the release it belongs
//! to, and needs nothing else. The tests of this crate deploy it.
//!
//! `PORT=8080 VELA_RELEASE=demo cargo run -p vela-deploy --example tiny_app`; without `PORT` it says so and ends.
//!
//! `TINY_HEALTH=500` makes `/health` fail, `TINY_EXIT=3` makes it exit at once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

#[expect(clippy::print_stdout, reason = "what an app prints goes into its log")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(port) = std::env::var("PORT") else {
        println!("PORT is not set: this is an app, to be started by a supervisor");
        return Ok(());
    };
    if let Ok(code) = std::env::var("TINY_EXIT") {
        println!("exiting with {code}, as told");
        std::process::exit(code.parse()?);
    }
    let health = std::env::var("TINY_HEALTH").unwrap_or_else(|_| "200".to_owned());
    let release = std::env::var("VELA_RELEASE").unwrap_or_default();
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    println!("{release} listens on {port}");
    for stream in listener.incoming() {
        let (stream, release, health) = (stream?, release.clone(), health.clone());
        std::thread::spawn(move || answer(stream, &release, &health));
    }
    Ok(())
}

/// Answers the requests of one connection until it ends.
fn answer(stream: std::net::TcpStream, release: &str, health: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let status = if line.contains(" /health ") {
            health
        } else {
            "200"
        };
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        write!(
            writer,
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{release}",
            release.len()
        )?;
    }
}
