use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read from the instance.
    pub time: Timestamp,
    /// Where the instance wrote it.
    pub stream: LogStream,
    /// The tag of [`LogSpec`](crate::LogSpec), if it had one.
    pub tag: Option<String>,
    /// Without the newline. What was not UTF-8 is replaced; control characters are kept.
    pub text: String,
}

impl LogLine {
    /// Reads one line of a log file, without its newline. A line of another form, such as the end
    /// of one that a full disk tore, becomes the text of a line without a time.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        Self::parse_whole(line).unwrap_or_else(|| Self {
            time: Timestamp::UNIX_EPOCH,
            stream: LogStream::Err,
            tag: None,
            text: String::from_utf8_lossy(line).into_owned(),
        })
    }

    fn parse_whole(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(3, |byte| *byte == b' ');
        let time = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let origin = str::from_utf8(fields.next()?).ok()?;
        let text = String::from_utf8_lossy(fields.next()?).into_owned();
        let (stream, tag) = match origin.split_once('@') {
            Some((stream, tag)) => (stream, Some(tag.to_owned())),
            None => (origin, None),
        };
        let stream = match stream {
            "out" => LogStream::Out,
            "err" => LogStream::Err,
            _ => return None,
        };
        Some(Self {
            time,
            stream,
            tag,
            text,
        })
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} {}", self.time, self.stream)?;
        if let Some(tag) = &self.tag {
            write!(f, "@{tag}")?;
        }
        write!(f, " {}", self.text)
    }
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "out",
            Self::Err => "err",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        for text in [
            "2026-11-21T00:55:17.123Z out hello  world ",
            "2026-11-21T00:55:17.000Z err ",
            "2026-11-21T00:55:17.120Z out@20261121-005517 a@b",
        ] {
            assert_eq!(LogLine::parse(text.as_bytes()).to_string(), text);
        }
    }

    #[test]
    fn other_lines_keep_their_text() {
        for line in [
            &b""[..],
            b"x",
            b"2026-11-21T00:55:17Z",
            b"now out x",
            b"\xff\xfe a b",
        ] {
            let parsed = LogLine::parse(line);
            assert_eq!(parsed.time, Timestamp::UNIX_EPOCH);
            assert_eq!(parsed.text, String::from_utf8_lossy(line));
        }
    }
}
