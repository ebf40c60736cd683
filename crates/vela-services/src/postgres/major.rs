use std::fmt;

use crate::ServiceError;

use super::KIND;

/// A major version of Postgres, from 13 on: older ones get no fixes any more, and lack
/// `DROP DATABASE .. WITH (FORCE)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Major(u16);

impl Major {
    const OLDEST: u16 = 13;

    pub(super) fn new(number: u16) -> Option<Self> {
        (Self::OLDEST..1000)
            .contains(&number)
            .then_some(Self(number))
    }

    /// The major version of what a user asks for: `15`, or `15.4`.
    pub(super) fn wanted(version: &str) -> Result<Self, ServiceError> {
        let invalid = |why| ServiceError::Invalid {
            kind: KIND,
            key: "version",
            value: version.chars().take(80).collect(),
            why,
        };
        let mut parts = version.split('.').map(str::parse::<u16>);
        let Some(Ok(number)) = parts.next() else {
            return Err(invalid("it is not a version, such as `15`"));
        };
        if parts.any(|part| part.is_err()) {
            return Err(invalid("it is not a version, such as `15`"));
        }
        Self::new(number).ok_or_else(|| invalid("the oldest that can be run is 13"))
    }

    /// The name of a directory that holds this version.
    pub(super) fn of_directory(name: &str) -> Option<Self> {
        Self::new(name.parse().ok()?).filter(|major| major.to_string() == name)
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_counts() {
        for (version, major) in [("15", 15), ("15.4", 15), ("17.0", 17), ("99", 99)] {
            assert_eq!(Major::wanted(version).unwrap(), Major(major));
        }
        for version in ["", "x", "15.x", "9.6", "12", "-15", "1000", "99999", "15 "] {
            assert!(Major::wanted(version).is_err(), "{version:?}");
        }
        assert_eq!(Major::of_directory("15"), Some(Major(15)));
        assert_eq!(Major::of_directory("015"), None);
        assert_eq!(Major::of_directory("owners"), None);
    }
}
