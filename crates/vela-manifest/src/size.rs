use std::ops::RangeInclusive;

use crate::quote::quoted;
use crate::reason::Reason;

/// The largest size: what a signed number of the kernel's holds.
pub(crate) const MAX: u64 = i64::MAX as u64;

const UNITS: [(&str, u32); 4] = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];

/// Reads `512M`, or `512MiB`: a whole number with a power of 1024.
pub(crate) fn parse(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError::Malformed(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (digits, unit) = text.split_at(unit_at);
    let letter = unit.strip_suffix("iB").unwrap_or(unit);
    let (_, shift) = UNITS
        .iter()
        .find(|(name, _)| *name == letter)
        .ok_or_else(error)?;
    if digits.is_empty() {
        return Err(error());
    }
    digits
        .parse()
        .ok()
        .and_then(|count: u64| count.checked_mul(1 << shift))
        .filter(|bytes| *bytes <= MAX)
        .ok_or_else(|| SizeError::TooLarge(text.to_owned()))
}

/// As [`parse`] reads it, in the largest unit that leaves a whole number.
pub(crate) fn shown(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .rev()
        .find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((name, shift)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// The size in `range` that a number without its unit was meant to be.
pub(crate) fn meant(count: u64, range: &RangeInclusive<u64>) -> Option<String> {
    UNITS
        .iter()
        .map(|(name, _)| format!("{count}{name}"))
        .find(|size| parse(size).is_ok_and(|bytes| range.contains(&bytes)))
}

/// Why a text is not a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("{} is not a size", quoted(.0))]
    Malformed(String),
    #[error("{} is too large", quoted(.0))]
    TooLarge(String),
}

impl Reason for SizeError {
    fn hint(&self) -> Option<String> {
        let Self::Malformed(text) = self else {
            return None;
        };
        // `512MB`, `512mb`, `512 M`: what was meant is clear, but 2^20 or 10^6 is not ours to guess.
        let meant = text.replace(' ', "").to_ascii_uppercase();
        let meant = meant.strip_suffix('B').unwrap_or(&meant);
        Some(match parse(meant) {
            Ok(_) => format!(r#"did you mean "{meant}"? Units are powers of 1024"#),
            Err(_) => r#"bytes, or a number with K, M, G or T, as in "512M""#.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_powers_of_1024() {
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("2GiB"), Ok(2 << 30));
        assert_eq!(parse("0K"), Ok(0));
        for text in [
            "", "M", "5", "1.5G", "-1M", "512MB", "512m", "1 M", "1P", "1iB",
        ] {
            assert_eq!(
                parse(text),
                Err(SizeError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
        assert_eq!(
            parse("9999999T"),
            Err(SizeError::TooLarge("9999999T".to_owned()))
        );
        assert_eq!(
            parse("99999999999999999999K"),
            Err(SizeError::TooLarge("99999999999999999999K".to_owned()))
        );
    }

    #[test]
    fn suggests_the_unit_that_was_meant() {
        let hint = |text| parse(text).expect_err("malformed").hint().expect("a hint");
        assert_eq!(
            hint("512mb"),
            r#"did you mean "512M"? Units are powers of 1024"#
        );
        assert_eq!(
            hint("lots"),
            r#"bytes, or a number with K, M, G or T, as in "512M""#
        );
    }

    #[test]
    fn shows_whole_numbers() {
        for text in ["1K", "1025K", "64K", "16M", "3T"] {
            assert_eq!(parse(text).map(shown), Ok(text.to_owned()));
        }
        assert_eq!((shown(0), shown(1023)), ("0".into(), "1023".into()));
    }

    #[test]
    fn a_number_without_its_unit_is_the_smallest_that_may_be() {
        let megabytes = 1 << 20..=MAX;
        assert_eq!(meant(100, &megabytes), Some("100M".into()));
        assert_eq!(meant(4096, &megabytes), Some("4096K".into()));
        assert_eq!(meant(0, &megabytes), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9KMGTiBä.]{0,25}") {
            match parse(&text) {
                Ok(bytes) => prop_assert!(bytes <= MAX),
                Err(error) => { error.hint(); }
            }
        }
    }
}
