use serde_json::Value;

use super::client::version;
use super::monitor::split;
use super::version::Version;

/// The bytes are what is read of a connection to a server's monitoring port.
pub(crate) fn answer(bytes: &[u8]) {
    let text = bytes.escape_ascii();
    let found = split(bytes);
    let end = (0..bytes.len()).find(|&at| bytes[at..].starts_with(b"\r\n\r\n"));
    let head = end.map(|end| std::str::from_utf8(&bytes[..end]));
    let (Some((status, body)), Some(Ok(head))) = (&found, head) else {
        assert!(found.is_none(), "{text}");
        let is_usual = bytes.starts_with(b"HTTP/1.0 200 OK\r\n");
        assert!(!is_usual || !matches!(head, Some(Ok(_))), "{text}");
        return;
    };
    let digits = head.get(9..12).unwrap_or_default();
    assert_eq!(format!("{status:03}"), digits, "{text}");
    assert_eq!(head.len() + 4 + body.len(), bytes.len(), "{text}");
    assert!(bytes.ends_with(body), "{text}");
}

/// The bytes are the first line of a server.
pub(crate) fn hello(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else {
        return;
    };
    let said = line.strip_prefix("INFO ");
    let said = said.and_then(|info| serde_json::from_str::<Value>(info).ok());
    let said = said.as_ref().and_then(|info| info["version"].as_str());
    let found = version(line);
    // Where it says it twice, either will do, and so does none.
    let is_said_once = line.matches("version").count() == 1;
    if found.is_some() || is_said_once {
        assert_eq!(found.as_deref(), said, "{line}");
    }
    let Some(text) = found else { return };
    let parts: Vec<_> = text.split('.').collect();
    let number = |part: &&str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => part.parse::<u32>().ok(),
        false => None,
    };
    let numbers: Option<Vec<_>> = parts.iter().map(number).collect();
    let wanted = numbers
        .filter(|numbers| numbers.len() <= 3)
        .map(|mut numbers| {
            numbers.resize(3, 0);
            let [major, minor, patch] = numbers[..] else {
                unreachable!("there are three now")
            };
            format!("{major}.{minor}.{patch}")
        });
    let version = text
        .parse::<Version>()
        .ok()
        .map(|version| version.to_string());
    assert_eq!(version, wanted, "{text}");
}
