use std::path::PathBuf;
use std::time::Duration;

use crate::section::Section;
use crate::server::path::absolute;
use crate::value::{Found, Value};

/// `[backup]`: what is saved, when, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupSection {
    /// `schedule`: when; only on demand if unset.
    pub schedule: Option<Schedule>,
    /// `retain`: how many backups are kept, 7.
    pub retain: u32,
    /// `destination`: where to; the data directory's `backups/` if unset.
    pub destination: Option<Destination>,
    /// `[backup.include]`: what.
    pub include: BackupInclude,
}

impl BackupSection {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            schedule: section.read("schedule", schedule),
            retain: section
                .read("retain", |value| value.integer(1..=100_000))
                .unwrap_or(7),
            destination: section.read("destination", destination),
            include: BackupInclude::read(section.section("include")),
        }
    }
}

/// `backup.schedule`: when backups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// `"hourly"`.
    Hourly,
    /// `"daily"`.
    Daily,
    /// `"weekly"`.
    Weekly,
    /// `"12h"`: this long after the last; a minute at least.
    Every(Duration),
}

/// `backup.destination`: where backups go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination {
    /// A directory.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the keys start with; may be empty.
        prefix: String,
    },
}

/// `[backup.include]`: what a backup has in it; everything by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInclude {
    /// `app_data`: the apps' data directories.
    pub app_data: bool,
    /// `secrets`: the apps' secrets.
    pub secrets: bool,
    /// `postgres`: the databases.
    pub postgres: bool,
}

impl BackupInclude {
    fn read(mut section: Section<'_>) -> Self {
        let mut read = |key| section.read(key, Value::boolean).unwrap_or(true);
        Self {
            app_data: read("app_data"),
            secrets: read("secrets"),
            postgres: read("postgres"),
        }
    }
}

fn schedule(value: &Value<'_>) -> Option<Schedule> {
    const WORDS: [(&str, Schedule); 3] = [
        ("hourly", Schedule::Hourly),
        ("daily", Schedule::Daily),
        ("weekly", Schedule::Weekly),
    ];
    let is_duration = value.found() != Found::String
        || value
            .string()
            .is_some_and(|text| text.starts_with(|c: char| c.is_ascii_digit()));
    if !is_duration {
        return value.choice(&WORDS);
    }
    let every = value.duration()?;
    if every < Duration::from_secs(60) {
        value.report("backups less than a minute apart", None);
        return None;
    }
    Some(Schedule::Every(every))
}

fn destination(value: &Value<'_>) -> Option<Destination> {
    let Some(location) = value.string()?.strip_prefix("s3://") else {
        return absolute(value).map(Destination::Directory);
    };
    let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
    let bucket_ok = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
    if !bucket_ok || prefix.contains(|c: char| !c.is_ascii_graphic()) {
        value.report("not an S3 location", Some(r#"as in "s3://bucket/prefix""#));
        return None;
    }
    let prefix = prefix.trim_end_matches('/').to_owned();
    Some(Destination::S3 {
        bucket: bucket.to_owned(),
        prefix,
    })
}
