use std::time::Duration;

/// How long to wait before an instance that keeps crashing is started again. Pure.
///
/// Nothing after an instance that was healthy for ten seconds, else 100 ms, 200 ms, .. up to a
/// minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Crashes since the last one that came after a healthy time.
    crashes: u32,
}

impl Backoff {
    /// An instance that was healthy for this long has proved itself.
    pub const HEALTHY: Duration = Duration::from_secs(10);
    /// The first delay that is not zero.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// The longest delay.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// No crash so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a crash; `healthy_for` is how long the instance had been healthy before it
    /// (zero when it never was). Returns how long to wait before the next start.
    pub fn crashed(&mut self, healthy_for: Duration) -> Duration {
        if healthy_for >= Self::HEALTHY {
            self.crashes = 0;
            return Duration::ZERO;
        }
        let delay = Self::FIRST.saturating_mul(2u32.saturating_pow(self.crashes));
        self.crashes = self.crashes.saturating_add(1);
        delay.min(Self::LONGEST)
    }

    /// How many crashes in a row came without a healthy time before them.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.crashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_slows_down_to_a_minute_and_health_resets_it() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.crashed(Backoff::HEALTHY), Duration::ZERO);
        let delays: Vec<_> = (0..12)
            .map(|_| backoff.crashed(Duration::ZERO).as_millis())
            .collect();
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000,
        ];
        assert_eq!(delays, expected);
        assert_eq!(backoff.crashed(Duration::from_secs(9)), Backoff::LONGEST);
        assert_eq!(backoff.crashed(Duration::from_secs(3600)), Duration::ZERO);
        assert_eq!(backoff.crashed(Duration::from_secs(1)), Backoff::FIRST);
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff { crashes: u32::MAX };
        assert_eq!(backoff.crashed(Duration::ZERO), Backoff::LONGEST);
    }
}
