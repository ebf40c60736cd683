use std::path::PathBuf;

use crate::section::Section;
use crate::server::path::absolute;
use crate::size;
use crate::value::Value;

/// `[proxy.access_log]`: a line of JSON for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessLogSection {
    /// `path`: the file.
    pub path: PathBuf,
    /// `max_size`: how long it grows before it is put aside for a new one, in bytes; 100 MiB if unset, and
    /// 1 MiB at least.
    pub max_size: u64,
    /// `keep`: how many of those that were put aside stay, 1 to 1000; 5 if unset.
    pub keep: u32,
}

impl AccessLogSection {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let path = section.required("path", r#"path = "/var/log/vela/access.log""#);
        let max_size = section.read("max_size", |value| value.size_in(1 << 20..=size::MAX));
        let keep = section.read("keep", |value| value.integer(1..=1000));
        Some(Self {
            path: path.and_then(|path| file(&path))?,
            max_size: max_size.unwrap_or(100 << 20),
            keep: keep.unwrap_or(5),
        })
    }
}

fn file(value: &Value<'_>) -> Option<PathBuf> {
    let path = absolute(value)?;
    if value.string()?.ends_with('/') {
        value.report("expected a file, not a directory", None);
        return None;
    }
    Some(path)
}
