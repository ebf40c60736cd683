use std::time::Duration;

use crate::quote::quoted;
use crate::reason::Reason;

/// The longest duration: far from overflowing any clock.
pub(crate) const MAX: Duration = Duration::from_secs(365 * 86_400);

/// Longest first, which is also the order in which they may follow each other.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads `1m30s`: whole numbers with units, the longer units first, each at most once.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    if text.is_empty() {
        return Err(error());
    }
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(end_of(rest, |c| c.is_ascii_digit()));
        let (unit, after) = after.split_at(end_of(after, |c| c.is_ascii_alphabetic()));
        if digits.is_empty() {
            return Err(error());
        }
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(error)?;
        total = digits
            .parse()
            .ok()
            .and_then(|count: u64| count.checked_mul(*millis))
            .and_then(|millis| total.checked_add(millis))
            .ok_or_else(too_long)?;
        rest = after;
    }
    Some(Duration::from_millis(total))
        .filter(|duration| *duration <= MAX)
        .ok_or_else(too_long)
}

fn end_of(text: &str, part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !part(c)).unwrap_or(text.len())
}

/// Why a text is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    #[error("{} is not a duration", quoted(.0))]
    Malformed(String),
    #[error("{} is longer than a year", quoted(.0))]
    TooLong(String),
}

impl Reason for DurationError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Malformed(text) if text.parse::<u32>().is_ok() => {
                Some(format!(r#"did you mean "{text}s"?"#))
            }
            Self::Malformed(_) => {
                Some(r#"seconds, or units of d, h, m, s and ms, as in "1m30s""#.to_owned())
            }
            Self::TooLong(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_units_in_order() {
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1d2h3m4s5ms"), Ok(Duration::from_millis(93_784_005)));
        assert_eq!(parse("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for text in [
            "", "5", "s", "1.5s", "-1s", "1s2m", "1s1s", "1 s", "1S", "1sec", "1s2", "1m 30s", "٣s",
        ] {
            assert_eq!(
                parse(text),
                Err(DurationError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
        for text in ["366d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_arithmetic(h in 0u64..100, m in 0u64..100, s in 0u64..100, ms in 0u64..5000) {
            let expected = Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms);
            prop_assert_eq!(parse(&format!("{h}h{m}m{s}s{ms}ms")), Ok(expected));
        }

        #[test]
        fn never_panics(text in "[0-9dhms. ä-]{0,30}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration <= MAX);
            }
        }
    }
}
