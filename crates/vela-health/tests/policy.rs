//! The policy's timing, on a paused clock.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::future::{pending, ready};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use vela_health::test_util::{ScriptedProbe, Step};
use vela_health::{Eager, Policy, Probe, ProbeError, StatusMatch, Target, Unhealthy};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn nobody() -> Target {
    Target::new("127.0.0.1:1".parse().unwrap())
}

fn no_eager() -> Eager {
    Eager {
        window: Duration::ZERO,
        ..Eager::default()
    }
}

/// Fails at once until its time has come.
#[derive(Debug)]
struct HealthyFrom(Instant);

#[async_trait]
impl Probe for HealthyFrom {
    async fn check(&self, _: &Target) -> Result<(), ProbeError> {
        if Instant::now() >= self.0 {
            return Ok(());
        }
        Err(ProbeError::Status {
            expected: StatusMatch::default(),
            got: 503,
            line: None,
        })
    }
}

/// What `wait` reported: the number of each attempt and when it ended.
type Seen = Vec<(Option<u32>, Duration)>;

async fn give_up(policy: Policy, probe: &dyn Probe) -> (Seen, Unhealthy<()>) {
    let mut seen = Seen::new();
    let outcome = policy
        .wait(probe, &nobody(), pending::<()>(), |attempt| {
            assert!(attempt.result.is_err());
            assert_eq!(attempt.of, policy.retries.max(1));
            seen.push((attempt.number, attempt.elapsed));
        })
        .await;
    (seen, outcome.unwrap_err())
}

#[tokio::test(start_paused = true)]
async fn eager_at_first_then_thirty_attempts_a_second_apart() {
    let probe = ScriptedProbe::new([Step::Fail]);
    let (seen, error) = give_up(Policy::default(), &probe).await;

    let (eager, counted): (Seen, Seen) = seen
        .iter()
        .copied()
        .partition(|(number, _)| number.is_none());
    assert_eq!(eager[0].1, Duration::ZERO);
    assert!(eager.last().unwrap().1 < S);
    assert!(eager[1].1 <= 3 * MS, "{:?}", eager[1]);
    for pair in eager.windows(2) {
        let (gap, allowed) = (pair[1].1 - pair[0].1, (pair[0].1 / 10).max(2 * MS) + MS);
        assert!(
            gap >= 2 * MS && gap <= allowed,
            "{gap:?} after {:?}",
            pair[0].1
        );
    }

    assert!(
        counted[0].1 >= S && counted[0].1 <= S + 101 * MS,
        "{:?}",
        counted[0]
    );
    let numbers: Vec<_> = counted.iter().map(|(number, _)| number.unwrap()).collect();
    assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
    for pair in counted.windows(2) {
        assert_eq!(pair[1].1 - pair[0].1, S);
    }

    let Unhealthy::GaveUp {
        attempts,
        after,
        last,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(attempts as usize, seen.len());
    assert_eq!(after, seen.last().unwrap().1);
    assert!(matches!(last, ProbeError::Status { got: 503, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_start_is_noticed_a_tenth_of_its_length_late_at_most() {
    for up_after in [0, 1, 5, 40, 170, 900].map(Duration::from_millis) {
        let probe = HealthyFrom(Instant::now() + up_after);
        let healthy = Policy::default()
            .wait(&probe, &nobody(), pending::<()>(), |_| {})
            .await
            .unwrap();
        let late = healthy.after - up_after;
        assert!(
            late <= 3 * MS + up_after / 10,
            "{late:?} late after {up_after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_interval_is_from_start_to_start() {
    let policy = Policy {
        retries: 3,
        eager: no_eager(),
        ..Policy::default()
    };

    let quick = ScriptedProbe::new([Step::FailAfter(400 * MS)]);
    let (seen, _) = give_up(policy, &quick).await;
    assert_eq!(
        seen,
        [
            (Some(1), 400 * MS),
            (Some(2), 1400 * MS),
            (Some(3), 2400 * MS)
        ]
    );

    // Longer than the interval: the next one follows at once.
    let slow = ScriptedProbe::new([Step::FailAfter(1500 * MS)]);
    let (seen, _) = give_up(policy, &slow).await;
    assert_eq!(
        seen,
        [
            (Some(1), 1500 * MS),
            (Some(2), 3000 * MS),
            (Some(3), 4500 * MS)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off() {
    let policy = Policy {
        retries: 2,
        eager: no_eager(),
        ..Policy::default()
    };
    let (seen, error) = give_up(policy, &ScriptedProbe::new([Step::Hang])).await;

    assert_eq!(seen, [(Some(1), 5 * S), (Some(2), 10 * S)]);
    assert_eq!(error.to_string(), "not healthy after 2 attempts in 10.0 s");
    let last = std::error::Error::source(&error).unwrap();
    assert_eq!(last.to_string(), "no answer within 5s");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_in_the_eager_window_counts_as_healthy() {
    let probe = ScriptedProbe::new([Step::Fail, Step::PassAfter(3 * S)]);
    let healthy = Policy::default()
        .wait(&probe, &nobody(), pending::<()>(), |_| {})
        .await
        .unwrap();
    assert_eq!(healthy.attempts, 2);
    assert!(healthy.after < 3 * S + 5 * MS, "{healthy:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_not_counted_in_the_grace_period() {
    let policy = Policy {
        grace: 10 * S,
        retries: 2,
        eager: no_eager(),
        ..Policy::default()
    };
    let (seen, _) = give_up(policy, &ScriptedProbe::new([Step::Fail])).await;

    let expected: Seen = (0..12)
        .map(|second| ((second >= 10).then(|| second - 9), S * second))
        .collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn an_exit_before_the_first_attempt_prevents_it() {
    let probe = ScriptedProbe::new([Step::Pass]);
    let outcome = Policy::default()
        .wait(&probe, &nobody(), ready(7), |_| {})
        .await;
    assert!(matches!(outcome, Err(Unhealthy::Exited(7))));
    assert_eq!(probe.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_exit_ends_the_wait_at_once() {
    let policy = Policy {
        eager: no_eager(),
        ..Policy::default()
    };
    // In the middle of an attempt, and between two.
    for step in [Step::Hang, Step::Fail] {
        let began = Instant::now();
        let exited = async {
            sleep(2500 * MS).await;
            "exit"
        };
        let probe = ScriptedProbe::new([step]);
        let outcome = policy.wait(&probe, &nobody(), exited, |_| {}).await;
        assert!(
            matches!(outcome, Err(Unhealthy::Exited("exit"))),
            "{step:?}"
        );
        assert_eq!(began.elapsed(), 2500 * MS, "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_wins_over_an_answer_at_the_same_moment() {
    let probe = ScriptedProbe::new([Step::PassAfter(100 * MS)]);
    let outcome = Policy::default()
        .wait(&probe, &nobody(), sleep(100 * MS), |_| {})
        .await;
    assert!(matches!(outcome, Err(Unhealthy::Exited(()))));
}

#[tokio::test(start_paused = true)]
async fn extreme_settings_end_all_the_same() {
    let zero = Policy {
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        retries: 0,
        grace: 5 * MS,
        eager: Eager {
            window: 5 * MS,
            interval: Duration::ZERO,
        },
    };
    let (seen, _) = give_up(zero, &ScriptedProbe::new([Step::Hang])).await;
    assert_eq!(seen.last().unwrap().0, Some(1));
    assert!(seen.len() <= 7, "{seen:?}");

    let most = Policy {
        interval: Duration::MAX,
        timeout: Duration::MAX,
        retries: u32::MAX,
        grace: Duration::MAX,
        eager: Eager {
            window: Duration::MAX,
            interval: Duration::MAX,
        },
    };
    let probe = ScriptedProbe::new([Step::Fail]);
    let outcome = most.wait(&probe, &nobody(), sleep(S), |_| {}).await;
    assert!(matches!(outcome, Err(Unhealthy::Exited(()))));
    assert_eq!(probe.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_reported_the_good_one_too() {
    let probe = ScriptedProbe::new([Step::Fail, Step::Fail, Step::Pass]);
    let mut results = Vec::new();
    let healthy = Policy::default()
        .wait(&probe, &nobody(), pending::<()>(), |attempt| {
            results.push(attempt.result.map_err(ToString::to_string));
        })
        .await
        .unwrap();
    let failed = || Err("answered 503, expected 200: scripted".to_owned());
    assert_eq!(results, [failed(), failed(), Ok(())]);
    assert_eq!(healthy.attempts, 3);
}

#[test]
fn the_wait_can_be_spawned() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (policy, probe, target) = (Policy::default(), ScriptedProbe::new([]), nobody());
    drop(is_send(policy.wait(
        &probe,
        &target,
        pending::<()>(),
        |_| {},
    )));
}
