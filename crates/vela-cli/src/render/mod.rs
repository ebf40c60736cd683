//! What people and programs see: nothing here decides anything.

mod failure;
mod live;
mod narrator;
mod paint;
mod phase;
mod plain;
mod printable;
mod quantity;
mod screen;
mod table;
mod verdict;

pub(crate) use failure::problems;
pub(crate) use narrator::Narrator;
pub(crate) use paint::Paint;
pub(crate) use phase::Phase;
pub(crate) use printable::{printable, printable_coloured};
pub(crate) use quantity::{bytes, date, days, plural, took, uptime};
pub(crate) use screen::{Screen, to_stdout};
pub(crate) use table::table;
pub(crate) use verdict::{Verdict, verdict};

use std::time::Duration;

/// What shows the phases of an operation: a live list, or plain lines.
pub(crate) trait View: Send {
    /// The phases that will be taken are known.
    fn planned(&mut self, title: &str, phases: &[Phase]);
    /// A phase began.
    fn started(&mut self, phase: Phase);
    /// How far the running phase is; said often, so it may be dropped.
    fn progressed(&mut self, phase: Phase, detail: &str);
    /// An attempt of the running phase failed, and there will be others.
    fn attempted(&mut self, phase: Phase, what: &str);
    /// A phase succeeded.
    fn finished(&mut self, phase: Phase, took: Duration, detail: Option<&str>);
    /// A phase failed.
    fn failed(&mut self, phase: Phase, took: Duration, why: &str);
    /// The effects of a phase were taken back, wholly or not.
    fn undone(&mut self, phase: Phase, took: Duration, left: Option<&str>);
    /// A line of its own: a hook's output, a warning.
    fn line(&mut self, text: &str);
    /// The operation is over, or is left: whatever is printed next stands below.
    fn closed(&mut self);
}
