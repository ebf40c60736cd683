use std::fmt;
use std::ops::RangeInclusive;

/// The HTTP statuses that count as healthy: one, or an inclusive range. 200 unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusMatch {
    first: u16,
    last: u16,
}

impl StatusMatch {
    /// Exactly this status.
    #[must_use]
    pub const fn exact(status: u16) -> Self {
        Self {
            first: status,
            last: status,
        }
    }

    /// Any status of an inclusive range, such as `200..=299`. An empty range matches nothing.
    #[must_use]
    pub const fn range(statuses: RangeInclusive<u16>) -> Self {
        Self {
            first: *statuses.start(),
            last: *statuses.end(),
        }
    }

    /// Whether `status` is one of these.
    #[must_use]
    pub const fn matches(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }
}

impl Default for StatusMatch {
    fn default() -> Self {
        Self::exact(200)
    }
}

impl From<u16> for StatusMatch {
    fn from(status: u16) -> Self {
        Self::exact(status)
    }
}

impl From<RangeInclusive<u16>> for StatusMatch {
    fn from(statuses: RangeInclusive<u16>) -> Self {
        Self::range(statuses)
    }
}

impl fmt::Display for StatusMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_what_it_names() {
        assert!(StatusMatch::default().matches(200));
        assert!(!StatusMatch::default().matches(201));

        let success = StatusMatch::from(200..=299);
        assert!(success.matches(200) && success.matches(299));
        assert!(!success.matches(199) && !success.matches(300));
        assert_eq!(success.to_string(), "200-299");
        assert_eq!(StatusMatch::from(204).to_string(), "204");
    }
}
