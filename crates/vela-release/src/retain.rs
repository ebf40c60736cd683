use std::collections::BTreeSet;

use crate::ReleaseId;

/// Which of `all` releases to remove, oldest first, so that the newest `keep` and the
/// `protected` ones stay.
///
/// The caller protects what must not go whatever its age: the current release, the last good
/// one before it, and those that still run.
///
/// ```
/// use vela_release::{ReleaseId, retain};
///
/// let ids: Vec<ReleaseId> = ["20260101-000000", "20260102-000000", "20260103-000000"]
///     .iter()
///     .map(|id| id.parse())
///     .collect::<Result<_, _>>()?;
/// assert_eq!(retain(&ids, 1, &[ids[0]]), [ids[1]]);
/// # Ok::<(), vela_release::InvalidReleaseId>(())
/// ```
#[must_use]
pub fn retain(all: &[ReleaseId], keep: usize, protected: &[ReleaseId]) -> Vec<ReleaseId> {
    let all: BTreeSet<ReleaseId> = all.iter().copied().collect();
    let too_old = all.len().saturating_sub(keep);
    all.into_iter()
        .take(too_old)
        .filter(|id| !protected.contains(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(days: &[u8]) -> Vec<ReleaseId> {
        days.iter()
            .map(|day| format!("202601{day:02}-000000").parse().unwrap())
            .collect()
    }

    #[test]
    fn the_newest_stay_in_whatever_order_they_come() {
        assert_eq!(retain(&ids(&[3, 1, 4, 2]), 2, &[]), ids(&[1, 2]));
    }

    #[test]
    fn the_protected_stay_and_take_no_other_place() {
        assert_eq!(retain(&ids(&[1, 2, 3, 4]), 2, &ids(&[1])), ids(&[2]));
        assert_eq!(retain(&ids(&[1, 2, 3, 4]), 2, &ids(&[4])), ids(&[1, 2]));
    }

    #[test]
    fn fewer_than_are_kept_all_stay() {
        assert_eq!(retain(&ids(&[1, 2]), 5, &[]), ids(&[]));
        assert_eq!(retain(&[], 0, &[]), ids(&[]));
        assert_eq!(retain(&ids(&[1, 2]), 0, &[]), ids(&[1, 2]));
    }
}
