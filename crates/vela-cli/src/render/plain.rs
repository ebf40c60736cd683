use std::io::Write;
use std::time::Duration;

use super::{Phase, View, took};

/// One line for each thing that ended, with no escapes: for logs of CI, pipes and files.
pub(crate) struct Plain<W> {
    out: W,
}

impl<W: Write> Plain<W> {
    pub(crate) fn new(out: W) -> Plain<W> {
        Plain { out }
    }

    fn write(&mut self, line: &str) {
        // Progress that nobody can read any more must not end a deploy.
        drop(writeln!(self.out, "{line}"));
    }
}

impl<W: Write + Send> View for Plain<W> {
    fn planned(&mut self, title: &str, _phases: &[Phase]) {
        self.write(title);
    }

    fn started(&mut self, _phase: Phase) {}

    fn progressed(&mut self, _phase: Phase, _detail: &str) {}

    fn attempted(&mut self, phase: Phase, what: &str) {
        self.write(&format!("{}: {what}", phase.name()));
    }

    fn finished(&mut self, phase: Phase, duration: Duration, detail: Option<&str>) {
        let detail = detail.map(|text| format!(" ({text})")).unwrap_or_default();
        self.write(&format!("{}: {}{detail}", phase.name(), took(duration)));
    }

    fn failed(&mut self, phase: Phase, duration: Duration, why: &str) {
        self.write(&format!(
            "{}: failed after {}: {why}",
            phase.name(),
            took(duration)
        ));
    }

    fn undone(&mut self, phase: Phase, duration: Duration, left: Option<&str>) {
        self.write(&match left {
            None => format!("{}: undone in {}", phase.name(), took(duration)),
            Some(why) => format!("{}: not wholly undone: {why}", phase.name()),
        });
    }

    fn line(&mut self, text: &str) {
        self.write(text);
    }

    fn closed(&mut self) {}
}
