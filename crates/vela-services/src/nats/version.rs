use std::fmt;
use std::str::FromStr;

/// A version of nats-server: as much as was given of `2.10.4`. What is left out is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// What the configuration needs: permissions, accounts and JetStream as they are since then.
    pub(super) const LEAST: Self = Self {
        major: 2,
        minor: 9,
        patch: 0,
    };

    /// Whether this crate knows how to configure a server of this major version.
    pub(super) fn is_known(self) -> bool {
        self.major == Self::LEAST.major
    }

    /// Whether a server of this version will do where `wanted` is asked for: the same major
    /// version, and not older.
    pub(super) fn satisfies(self, wanted: Self) -> bool {
        self.major == wanted.major && self >= wanted
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = [0; 3];
        let mut given = text.split('.');
        for (index, part) in parts.iter_mut().enumerate() {
            match given.next() {
                Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    *part = number.parse().map_err(drop)?;
                }
                None if index > 0 => {}
                _ => return Err(()),
            }
        }
        let [major, minor, patch] = parts;
        match given.next() {
            None => Ok(Self {
                major,
                minor,
                patch,
            }),
            Some(_) => Err(()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect(text)
    }

    #[test]
    fn the_same_major_version_and_not_older() {
        for (has, wanted) in [
            ("2.9.10", "2.9"),
            ("2.10.4", "2.9"),
            ("2.10.4", "2"),
            ("2.10.4", "2.10.4"),
            ("2.10.0", "2.9.99"),
        ] {
            assert!(version(has).satisfies(version(wanted)), "{has} {wanted}");
        }
        for (has, wanted) in [("2.9.10", "2.10"), ("2.9.10", "2.9.11"), ("3.0.0", "2.9")] {
            assert!(!version(has).satisfies(version(wanted)), "{has} {wanted}");
        }
    }

    #[test]
    fn only_versions() {
        assert_eq!(version("2.9").to_string(), "2.9.0");
        for text in [
            "",
            ".",
            "2.",
            "v2",
            "2.10-RC.1",
            "1.2.3.4",
            "99999999999",
            "+2",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
