//! An app with a Postgres and a JetStream goes through deploys, rollbacks and some hundred kills of everything that
//! there is. What it acknowledged is not lost.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]
#![expect(
    clippy::print_stdout,
    reason = "the seed, and what was seen, for who wants it"
)]

mod chaos;
mod prey;
mod schedule;
mod writers;

use self::chaos::Chaos;
use self::schedule::{Schedule, Target};

/// A seed to repeat what failed with it, as far as that depends on the schedule.
const SEED: &str = "VELA_CHAOS_SEED";

/// More than this many rounds are never needed, unless operations fail without end.
const MOST_ROUNDS: usize = 3 * Schedule::ROUNDS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("{SEED}={seed}");
    let mut schedule = Schedule::of(seed);
    let mut operations = schedule.operations().into_iter().peekable();
    let mut chaos = Chaos::begin().await;
    for round in 1.. {
        if round > Schedule::ROUNDS && operations.peek().is_none() {
            break;
        }
        assert!(round <= MOST_ROUNDS, "the operations don't come to an end");
        let now = schedule.round();
        for kill in &now.before {
            chaos.kill(*kill).await;
        }
        match operations.peek() {
            Some(operation) => {
                // One that failed is repeated in the next round.
                if chaos.operate(*operation, now.during).await {
                    operations.next();
                }
            }
            None => {
                if let Some((kill, _)) = now.during {
                    chaos.kill(kill).await;
                }
            }
        }
        for kill in &now.after {
            chaos.kill(*kill).await;
        }
    }
    let kills = chaos.end().await;
    assert!(kills.values().sum::<usize>() >= 200, "{kills:?}");
    assert!(
        Target::ALL.iter().all(|target| kills[target] >= 20),
        "{kills:?}"
    );
}
