use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::record::milliseconds;

/// A line of the access log in the making.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LogEntry {
    /// When the head had come.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    client: Option<IpAddr>,
    method: String,
    host: String,
    path: String,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'static str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// The proxy had to stop.
    ProxyStopped,
}

/// How much of a value is logged, in bytes as it came.
const LONGEST_PATH: usize = 4096;
const LONGEST_VALUE: usize = 1024;
const LONGEST_WORD: usize = 64;

impl LogEntry {
    /// Takes what it needs of a head, which may be malformed or the begin of one.
    pub(crate) fn of(head: &[u8]) -> LogEntry {
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

    /// Takes from the head that the upstream gets what the proxy found out or made up.
    pub(crate) fn translated(&mut self, head: &[u8], host: &str) {
        host.clone_into(&mut self.host);
        for (name, value) in head.split(|&byte| byte == b'\n').filter_map(field) {
            if name.eq_ignore_ascii_case(b"x-real-ip") {
                let address = std::str::from_utf8(value).ok();
                self.client = address.and_then(|address| address.parse().ok());
            } else if name.eq_ignore_ascii_case(b"x-request-id") {
                self.request_id = Some(readable(value, LONGEST_VALUE));
            }
        }
    }

    /// The finished line. `client` is who has the connection.
    pub(crate) fn line(&mut self, took: Duration, client: IpAddr) -> Vec<u8> {
        let took_signed = SignedDuration::try_from(took).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        let begun = now.checked_sub(took_signed).unwrap_or(now);
        self.time = format!("{begun:.3}");
        self.duration_ms = milliseconds(took);
        self.client.get_or_insert(client);
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
        let mut entry = LogEntry::of(head);
        let line = entry.line(Duration::from_micros(1_234), [192, 0, 2, 1].into());
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
    fn who_asked_is_what_the_upstream_is_told() {
        let mut entry =
            LogEntry::of(b"GET http://b/ HTTP/1.1\r\nHost: x\r\nX-Real-IP: 6.6.6.6\r\n\r\n");
        entry.translated(
            b"GET / HTTP/1.1\r\nx-real-ip: 2001:db8::7\r\nx-request-id: r1\r\n\r\n",
            "b",
        );
        let line = entry.line(Duration::ZERO, [192, 0, 2, 1].into());
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["client"], "2001:db8::7");
        assert_eq!(line["request_id"], "r1");
        assert_eq!(line["host"], "b");
        let time: Timestamp = line["time"].as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(time) < SignedDuration::from_secs(60));
        assert_eq!(
            line["time"].as_str().unwrap().len(),
            "2026-01-02T03:04:05.678Z".len()
        );
    }
}
