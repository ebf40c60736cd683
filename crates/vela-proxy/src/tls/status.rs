use std::time::{Duration, SystemTime};

use super::Details;

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Given by the operator, as files.
    Static,
    /// Obtained and renewed by this program.
    Managed,
    /// Made by this program so that there is one at all. No client trusts it.
    SelfSigned,
}

/// A certificate that is served, or should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// Where it comes from.
    pub origin: Origin,
    /// What it was put under: the path of its file, say.
    pub id: String,
    /// What it says of itself; nothing where none could be served yet.
    pub details: Option<Details>,
    /// Why what should be served now is not, and an earlier one is, or none.
    pub problem: Option<String>,
}

impl Details {
    /// The whole days that it is still valid; negative once it has expired.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let days = |seconds: u64| i64::try_from(seconds / 86_400).unwrap_or(i64::MAX);
        match self.not_after.duration_since(now) {
            Ok(left) => days(left.as_secs()),
            Err(past) => -1 - days(past.duration().as_secs()),
        }
    }

    /// Whether it should have been renewed by now: with two weeks left, or a sixth of a life that is
    /// shorter than three months.
    pub fn expires_soon(&self, now: SystemTime) -> bool {
        const TWO_WEEKS: Duration = Duration::from_secs(14 * 86_400);
        let life = self.not_after.duration_since(self.not_before);
        self.remaining(now) < TWO_WEEKS.min(life.unwrap_or_default() / 6)
    }
}
