use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::strict;
use crate::log_entry::LogEntry;

/// The longest line: what is taken of a head, each byte as its longest escape, and the rest.
const LONGEST: usize = 6 * (2 * 64 + 4096 + 3 * 1024) + 512;

/// The bytes are a request's head, or what somebody sent in place of one.
pub(super) fn log_line(bytes: &[u8]) {
    let client = IpAddr::from([127, 0, 0, 1]);
    let mut entry = LogEntry::of(bytes, None);
    let line = entry.line(Duration::from_micros(1), client, "http");
    let text = line.escape_ascii();
    assert!(line.len() <= LONGEST, "{} bytes", line.len());
    let (end, inner) = line.split_last().expect("a line");
    assert_eq!(*end, b'\n', "{text}");
    assert!(!inner.iter().any(|byte| *byte < b' '), "{text}");
    let read: Value = serde_json::from_slice(inner).unwrap_or_else(|what| panic!("{what}: {text}"));
    for (key, is_own) in [
        ("client", read["client"] == "127.0.0.1"),
        ("scheme", read["scheme"] == "http"),
        ("status", read["status"] == 0),
        ("outcome", read["outcome"] == "complete"),
        ("duration_ms", read["duration_ms"] == 0.001),
    ] {
        assert!(is_own, "{key}: {text}");
    }
    let (Ok((words, fields)), Ok(_)) = (strict::lines(bytes), std::str::from_utf8(bytes)) else {
        return;
    };
    let is = |logged: &Value, said: &[u8], most: usize| {
        let logged = logged.as_str().unwrap_or_default();
        match said.len() <= most {
            true => logged.as_bytes() == said,
            // A character that is cut in its middle is bytes.
            false => logged.ends_with('…') && logged.len() < most + 16,
        }
    };
    if let [method, target, protocol] = words[..] {
        assert!(is(&read["method"], method, 64), "{text}");
        assert!(is(&read["path"], target, 4096), "{text}");
        assert!(is(&read["protocol"], protocol, 64), "{text}");
    }
    for (name, key) in [("user-agent", "user_agent"), ("referer", "referer")] {
        match fields.iter().rfind(|(one, _)| one == name) {
            Some((_, value)) => assert!(is(&read[key], value, 1024), "{text}"),
            None => assert!(read.get(key).is_none(), "{text}"),
        }
    }
}
