use std::time::{Duration, SystemTime};

use http::HeaderValue;
use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::acme::courier::{LONGEST, moment};

/// The bytes are when a certificate authority wants to be asked again.
pub(super) fn retry_after(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    let before = SystemTime::now();
    let at = moment(&value);
    let after = SystemTime::now();
    assert!(at.is_none_or(|at| at <= after + LONGEST), "{value:?}");
    let text = value.to_str().unwrap_or_default().trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // All that is longer is too long.
        let digits = digits.trim_start_matches('0');
        let seconds = digits.get(..8.min(digits.len())).unwrap_or_default();
        let pause = Duration::from_secs(seconds.parse().unwrap_or_default()).min(LONGEST);
        let at = at.expect("a number of seconds");
        assert!((before + pause..=after + pause).contains(&at), "{value:?}");
    } else if let Some(date) = date(text) {
        let at = at.expect("a date");
        assert!(
            at == date || date > after && at >= before + LONGEST,
            "{value:?}"
        );
    }
}

/// A date in the form that senders have to use (RFC 9110, 5.6.7), if it is of this era.
fn date(text: &str) -> Option<SystemTime> {
    let date = DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    let canonical = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string() == text;
    let date = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    let is_late = date >= Timestamp::UNIX_EPOCH;
    (canonical && is_late).then(|| date.into())
}
