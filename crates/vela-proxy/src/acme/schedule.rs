use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use super::{AcmeError, Pace, courier};
use crate::tls::{Certificate, Details};

/// When a certificate is renewed if its authority does not say: with a third of its life left,
/// some of them a little earlier, so that what was issued together is not renewed together.
pub(super) fn renewal(of: &Details, chance: f64) -> SystemTime {
    let life = of.not_after.duration_since(of.not_before);
    let life = life.unwrap_or_default();
    of.not_before + life * 2 / 3 - life.mul_f64(chance / 30.0)
}

/// Before when no advice has it renewed: an authority whose advice is always over would be sent one
/// order after the other.
pub(super) fn earliest(of: &Details) -> SystemTime {
    const DAY: Duration = Duration::from_secs(86_400);
    let life = of.not_after.duration_since(of.not_before);
    of.not_before + DAY.min(life.unwrap_or_default() / 3)
}

/// How long a new certificate is left alone, whatever the clock says of its age: where the clock is
/// ahead, the next one would be too old at once as well.
pub(super) fn rest(of: &Details) -> Duration {
    const HOUR: Duration = Duration::from_secs(3600);
    let life = of.not_after.duration_since(of.not_before);
    HOUR.min(life.unwrap_or_default() / 3)
}

/// No pause is longer.
pub(super) fn longest(pace: &Pace) -> Duration {
    pace.longest.max(courier::LONGEST).mul_f64(1.25)
}

/// A moment in the window in which the authority wants it renewed.
pub(super) fn within(start: SystemTime, end: SystemTime, chance: f64) -> SystemTime {
    let length = end.duration_since(start).unwrap_or_default();
    start + length.mul_f64(chance)
}

/// How long to wait after this many failures, the last of which was this one.
pub(super) fn pause(
    pace: &Pace,
    error: &AcmeError,
    failures: u32,
    now: SystemTime,
    chance: f64,
) -> Duration {
    let (first, factor) = match error.is_passing() {
        true => (pace.unreachable, 2u32),
        false => (pace.refused, 3),
    };
    let factor = factor.saturating_pow(failures.saturating_sub(1));
    let pause = first.saturating_mul(factor).min(pace.longest);
    // Never earlier than it is allowed.
    pause.max(error.at_least(now)).mul_f64(1.0 + chance / 4.0)
}

/// A number from 0 up to 1 that is as good as random.
pub(super) fn chance() -> f64 {
    fraction(RandomState::new().hash_one(0u8))
}

/// The same, but always the same for one certificate, so that its renewal does not move about.
pub(super) fn chance_of(certificate: &Certificate) -> f64 {
    // FNV-1a: the signature, at the end, is random enough.
    let hash = certificate
        .own()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    fraction(hash)
}

fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::certificate;

    fn refused(kind: &str, retry_after: Option<SystemTime>) -> AcmeError {
        let problem = format!(r#"{{"type": "urn:ietf:params:acme:error:{kind}"}}"#);
        let problem = serde_json::from_str::<instant_acme::Problem>(&problem).unwrap();
        AcmeError::of(instant_acme::Error::Api(problem), retry_after)
    }

    #[test]
    fn a_third_of_the_life_is_left_for_renewals() {
        let certificate = certificate(&["a.test"], 89); // since yesterday
        let details = certificate.details();
        let left = |chance| {
            let at = renewal(details, chance);
            details.not_after.duration_since(at).unwrap().as_secs() / 86_400
        };
        assert_eq!((left(0.0), left(1.0)), (30, 33));
        let young = earliest(details).duration_since(details.not_before);
        assert_eq!(young.unwrap().as_secs(), 86_400);
        let (start, end) = (details.not_before, details.not_after);
        assert_eq!(within(start, end, 0.0), start);
        assert_eq!(within(end, start, 1.0), end);
    }

    #[test]
    fn pauses_grow_and_obey() {
        let pace = Pace::default();
        let now = SystemTime::now();
        let pauses = |error: &AcmeError| {
            [1, 2, 3, 9, 99].map(|failures| pause(&pace, error, failures, now, 0.0).as_secs())
        };
        let down = AcmeError::of(instant_acme::Error::Str("down"), None);
        assert_eq!(pauses(&down), [10, 20, 40, 2560, 43_200]);
        let unverified = refused("connection", None);
        assert_eq!(pauses(&unverified), [120, 360, 1080, 43_200, 43_200]);
        let limited = refused("rateLimited", None);
        assert_eq!(pauses(&limited)[0], 3600);
        let until = now + Duration::from_secs(100_000);
        let limited = refused("rateLimited", Some(until));
        assert_eq!(pauses(&limited)[4], 100_000);
        let chanced = pause(&pace, &limited, 1, now, 0.99);
        assert!(chanced.as_secs() > 100_000 && chanced < longest(&pace));
    }

    #[test]
    fn chance_is_a_fraction() {
        let one = certificate(&["a.test"], 89);
        assert_eq!(chance_of(&one), chance_of(&one.clone()));
        assert_ne!(chance_of(&one), chance_of(&certificate(&["a.test"], 89)));
        let all: Vec<f64> = (0..100).map(|_| chance()).collect();
        assert!(all.iter().all(|one| (0.0..1.0).contains(one)));
        assert!(all.iter().any(|one| *one > 0.5) && all.iter().any(|one| *one < 0.5));
    }
}
