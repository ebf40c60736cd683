use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a release: the UTC second it was made in, `YYYYMMDD-HHMMSS`.
///
/// Ids sort by age, both as values and as text, and [`ReleaseId::next_after`] makes sure that
/// none recurs, even if two deploys start within a second or the clock is set back.
///
/// ```
/// use vela_release::ReleaseId;
///
/// let id: ReleaseId = "20260305-143022".parse()?;
/// assert_eq!(id.to_string(), "20260305-143022");
/// assert!("20260305-143062".parse::<ReleaseId>().is_err());
/// # Ok::<(), vela_release::InvalidReleaseId>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(DateTime);

impl ReleaseId {
    /// The id of a new release: `now`, or one second after `newest` where that is later.
    ///
    /// `newest` is the newest id ever used, of the releases that exist and of those that only
    /// history remembers.
    ///
    /// ```
    /// use vela_release::ReleaseId;
    ///
    /// let now = "2026-03-05T14:30:22Z".parse()?;
    /// let first = ReleaseId::next_after(now, None);
    /// let second = ReleaseId::next_after(now, Some(first));
    /// assert_eq!(second.to_string(), "20260305-143023");
    /// # Ok::<(), jiff::Error>(())
    /// ```
    #[must_use]
    pub fn next_after(now: Timestamp, newest: Option<ReleaseId>) -> ReleaseId {
        // Four digits of year are what an id can hold.
        let utc = TimeZone::UTC
            .to_datetime(now)
            .max(jiff::civil::datetime(0, 1, 1, 0, 0, 0, 0));
        let now = utc.with().subsec_nanosecond(0).build().unwrap_or(utc);
        let after = newest.map(|ReleaseId(newest)| {
            newest
                .checked_add(SignedDuration::from_secs(1))
                .unwrap_or(newest)
        });
        ReleaseId(after.map_or(now, |after| after.max(now)))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.0;
        write!(
            f,
            "{:04}{:02}{:02}-{:02}{:02}{:02}",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseId({self})")
    }
}

impl FromStr for ReleaseId {
    type Err = InvalidReleaseId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(ReleaseId).ok_or_else(|| InvalidReleaseId {
            text: text.to_owned(),
        })
    }
}

impl Serialize for ReleaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReleaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A text that is not a release id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a release id, which looks like 20260305-143022")]
pub struct InvalidReleaseId {
    text: String,
}

fn parse(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once('-')?;
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if date.len() != 8 || time.len() != 6 || !all_digits(date) || !all_digits(time) {
        return None;
    }
    DateTime::new(
        date[..4].parse().ok()?,
        date[4..6].parse().ok()?,
        date[6..].parse().ok()?,
        time[..2].parse().ok()?,
        time[2..4].parse().ok()?,
        time[4..].parse().ok()?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        for text in [
            "",
            "current",
            "../20260305-143022",
            "20260305-143022 ",
            "20260305143022",
            "2026035-1430222",
            "20261305-143022",
            "20260230-143022",
            "20260305-243022",
            "20260305-143060",
            "+0260305-143022",
            "20260305-14302２",
        ] {
            assert!(text.parse::<ReleaseId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn ids_sort_by_age_as_values_and_as_text() {
        let mut ids = ["20260305-143022", "20251231-235959", "20260305-143021"].map(id);
        ids.sort();
        let mut texts = ids.map(|id| id.to_string());
        texts.sort();
        assert_eq!(ids.map(|id| id.to_string()), texts);
    }

    #[test]
    fn the_fraction_of_a_second_does_not_count() {
        let next = ReleaseId::next_after(at("2026-03-05T14:30:22.999999999Z"), None);
        assert_eq!(next, id("20260305-143022"));
        let next = ReleaseId::next_after(at("2026-03-05T14:30:22.9Z"), Some(next));
        assert_eq!(next, id("20260305-143023"));
    }

    #[test]
    fn a_clock_set_back_makes_no_older_id() {
        let next = ReleaseId::next_after(at("2020-01-01T00:00:00Z"), Some(id("20251231-235959")));
        assert_eq!(next, id("20260101-000000"));
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        let last = id("99991231-235959");
        assert_eq!(ReleaseId::next_after(Timestamp::MAX, Some(last)), last);
        assert_eq!(
            ReleaseId::next_after(Timestamp::MIN, None),
            id("00000101-000000")
        );
    }
}
