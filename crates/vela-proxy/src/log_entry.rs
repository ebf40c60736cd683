use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::forwarded::Provenance;
use crate::record::milliseconds;
use crate::request_id::RequestId;

/// A line of the access log in the making.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LogEntry {
    /// When the head had come.
    time: String,
    /// When the proxy last turned to an upstream.
    #[serde(skip)]
    pub(crate) turned: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    client: Option<IpAddr>,
    method: String,
    host: String,
    path: String,
    protocol: String,
    scheme: &'static str,
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    duration_ms: f64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_ms: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
    request_id: Option<String>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// With the end of its answer.
    #[default]
    Complete,
    /// The client left before that.
    ClientLeft,
    /// The upstream ended its response too early.
    UpstreamLeft,
    /// The upstream did not go on with its response in time.
    UpstreamSilent,
    /// The proxy ended it: it stops, or it drains a stream.
    EndedByProxy,
}

/// How much of a value is logged, in bytes as it came.
const LONGEST_PATH: usize = 4096;
const LONGEST_VALUE: usize = 1024;
const LONGEST_WORD: usize = 64;

impl LogEntry {
    /// Takes what it needs of a head, which may be malformed or the begin of one.
    pub(crate) fn of(head: &[u8], version: Option<&str>) -> LogEntry {
        let mut lines = head.split(|&byte| byte == b'\n');
        let first = lines.next().unwrap_or_default().trim_ascii_end();
        let mut words = first.splitn(3, |&byte| byte == b' ');
        let mut word = |most| readable(words.next().unwrap_or_default(), most);
        let mut entry = LogEntry {
            method: word(LONGEST_WORD),
            path: word(LONGEST_PATH),
            protocol: word(LONGEST_WORD),
            ..LogEntry::default()
        };
        if let Some(version) = version {
            version.clone_into(&mut entry.protocol);
        }
        for (name, value) in lines.filter_map(field) {
            if name.eq_ignore_ascii_case(b"host") {
                entry.host = readable(value, LONGEST_VALUE);
            } else if name.eq_ignore_ascii_case(b"user-agent") {
                entry.user_agent = Some(readable(value, LONGEST_VALUE));
            } else if name.eq_ignore_ascii_case(b"referer") {
                entry.referer = Some(readable(value, LONGEST_VALUE));
            }
        }
        entry
    }

    /// The request is for that host, and comes from there.
    pub(crate) fn understood(&mut self, provenance: &Provenance, host: &str) {
        host.clone_into(&mut self.host);
        self.came_from(provenance);
    }

    /// The request comes from there. It has no id if its head could not be read.
    pub(crate) fn came_from(&mut self, provenance: &Provenance) {
        self.client = Some(provenance.client);
        let id = Some(provenance.id.as_str()).filter(|id| !id.is_empty());
        self.request_id = id.map(str::to_owned);
    }

    /// The finished line. `client` is who has the connection, which is of that scheme.
    pub(crate) fn line(&mut self, took: Duration, client: IpAddr, scheme: &'static str) -> Vec<u8> {
        let took_signed = SignedDuration::try_from(took).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        let begun = now.checked_sub(took_signed).unwrap_or(now);
        self.time = format!("{begun:.3}");
        self.duration_ms = milliseconds(took);
        self.client.get_or_insert(client);
        self.request_id
            .get_or_insert_with(|| RequestId::random().as_str().to_owned());
        self.scheme = scheme;
        let mut line = Vec::with_capacity(512);
        // A struct of texts and numbers can be written, and memory takes it.
        if let Err(error) = serde_json::to_writer(&mut line, self) {
            tracing::error!(%error, "a line of the access log is incomplete");
        }
        line.push(b'\n');
        line
    }
}

/// The name and value of a line of a head.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// The text of these bytes, at most so many of them. What is not UTF-8 is written as `\xE4`.
fn readable(bytes: &[u8], most: usize) -> String {
    let shown = bytes.get(..most).unwrap_or(bytes);
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to memory does not fail.
            write!(text, "\\x{byte:02X}").ok();
        }
    }
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn line(head: &[u8]) -> Value {
        let mut entry = LogEntry::of(head, None);
        let line = entry.line(Duration::from_micros(1_234), [192, 0, 2, 1].into(), "http");
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn hostile_bytes_stay_within_their_value() {
        let head = b"GET /\"}\x07\xe4\xc3\xa4\\ HTTP/1.1\r\nHost: a\"\r\nuser-agent:  \xff\n\"status\":1 \r\n\r\n";
        let line = line(head);
        assert_eq!(line["path"], "/\"}\u{7}\\xE4ä\\");
        assert_eq!(line["host"], "a\"");
        assert_eq!(line["user_agent"], "\\xFF");
        assert_eq!(line["status"], 0);
        assert_eq!(line["duration_ms"], 1.234);
    }

    #[test]
    fn no_byte_in_any_place_breaks_a_line() {
        let fields = b" HTTP/1.1\r\nhost: a\r\nuser-agent: b\r\nreferer: c";
        let heads = [[&b"GET"[..], b" /", fields], [b"", b" ", b" "]];
        for byte in 0..=u8::MAX {
            for other in [byte, b'"', b'\\', b'\r', b'\n', b'u', b'\xe2', b'\xff'] {
                for pair in [[byte, other], [other, byte]] {
                    for head in heads {
                        let head = [head.join(&pair[..]), pair.to_vec()].concat();
                        let line = line(&head);
                        assert_eq!(line["status"], 0, "{}", head.escape_ascii());
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_head_is_logged_as_far_as_it_goes() {
        for (head, method, path) in [
            (&b""[..], "", ""),
            (b"\x16\x03\x01", "\u{16}\u{3}\u{1}", ""),
            (b"GET /x", "GET", "/x"),
            (b"GET  /x HTTP/1.1", "GET", ""),
        ] {
            let line = line(head);
            assert_eq!(
                (&line["method"], &line["path"]),
                (&method.into(), &path.into())
            );
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(LONGEST_PATH + 1);
        let head = format!("{long} {long} {long}\r\nUser-Agent: {long}\r\nReferer: {long}\r\n");
        let line = line(head.as_bytes());
        for (name, length) in [
            ("method", LONGEST_WORD),
            ("path", LONGEST_PATH),
            ("protocol", LONGEST_WORD),
            ("user_agent", LONGEST_VALUE),
            ("referer", LONGEST_VALUE),
        ] {
            let shown = format!("{}…", &long[..length]);
            assert_eq!(line[name], shown, "{name}");
        }
    }

    #[test]
    fn a_time_is_that_of_the_begin() {
        let mut entry = LogEntry::of(b"GET / HTTP/1.1\r\n\r\n", Some("HTTP/2.0"));
        let hour = Duration::from_secs(3600);
        let line = entry.line(hour, [192, 0, 2, 1].into(), "https");
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["protocol"], "HTTP/2.0");
        assert_eq!(line["scheme"], "https");
        let text = line["time"].as_str().unwrap();
        assert_eq!(text.len(), "2026-01-02T03:04:05.678Z".len());
        let time: Timestamp = text.parse().unwrap();
        let since = Timestamp::now().duration_since(time).as_secs();
        assert!((3600..3660).contains(&since), "{since}");
    }
}
