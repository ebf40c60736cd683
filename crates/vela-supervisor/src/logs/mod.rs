//! Log files: the lines that instances wrote, with the time of each.
//!
//! A line is `2026-11-21T00:55:17.123Z out text`; `out` is `err` for standard error, and
//! `out@tag` where the [`LogSpec`](crate::LogSpec) has a tag. A file of `max_bytes` is renamed to
//! `<path>.1`, that one to `<path>.2`, and so on. A line longer than 16 KiB is split.

mod follow;
mod line;
mod tail;
mod writer;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use follow::{follow, tail_and_follow};
pub use line::{LogLine, LogStream};
pub use tail::tail;
pub(crate) use writer::{LineBuffer, LogWriter};

/// `<path>.<index>`, or the current file for 0.
fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path);
    name.push(format!(".{index}"));
    name.into()
}
