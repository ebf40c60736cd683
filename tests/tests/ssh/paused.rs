//! A deploy that stands still, and the command that waits for it.

use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::time::{Instant, sleep, timeout};
use vela_protocol::Outcome;
use vela_tests::{Output, Relay, Release, Sshd, World, kill};

use super::{released, shop, sshd};

/// The longest wait for a line or an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A deploy that stands still in its `pre_start` hook.
pub(crate) struct Paused {
    pub(crate) world: World,
    pub(crate) sshd: Sshd,
    pub(crate) relay: Relay,
    release: Release,
    pub(crate) v1: String,
}

/// The command that waits for it.
pub(crate) struct Waiting {
    child: Child,
    stderr: BufReader<ChildStderr>,
    told: String,
}

impl Paused {
    /// An app that serves, and a release whose hook ends with `end` when it is let go.
    pub(crate) async fn new(config: &str, end: &str) -> Paused {
        let (world, sshd) = (World::new().await, sshd(config));
        let relay = Relay::before(sshd.port()).await;
        sshd.reach_by(relay.port());
        let server = sshd.address(&world.socket());
        let v1 = released(sshd.deploy(&shop(&server, "")).await);
        let hook = format!(
            "pre_start = 'echo waiting; until [ -e \"$VELA_DATA_DIR/go\" ]; do sleep 0.05; done{end}'"
        );
        Paused {
            release: shop(&server, &hook),
            world,
            sshd,
            relay,
            v1,
        }
    }

    /// Deploys until the hook waits.
    pub(crate) async fn begin(&self) -> Waiting {
        let mut child = self.sshd.deploying(&self.release).spawn().unwrap();
        let mut waiting = Waiting {
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
            told: String::new(),
        };
        waiting.until("pre_start | waiting").await;
        waiting
    }

    /// Lets the hook go.
    pub(crate) fn go(&self) {
        std::fs::write(self.world.app_dir("shop").join("data/go"), "").unwrap();
    }

    /// Waits until the daemon has ended the deploy.
    pub(crate) async fn ended(&self) -> Outcome {
        let began = Instant::now();
        loop {
            let history = self.world.client().history("shop").await.unwrap();
            assert_eq!(history.len(), 2, "{history:?}");
            if history[0].outcome != Outcome::Running {
                return history[0].outcome;
            }
            assert!(began.elapsed() < PATIENCE, "{history:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Waiting {
    /// Waits for a line that contains `words`.
    pub(crate) async fn until(&mut self, words: &str) {
        loop {
            let from = self.told.len();
            let read = timeout(PATIENCE, self.stderr.read_line(&mut self.told)).await;
            let read = read.unwrap_or_else(|_| panic!("{words:?} never came: {}", self.told));
            assert!(read.unwrap() > 0, "{words:?} never came: {}", self.told);
            if self.told[from..].contains(words) {
                return;
            }
        }
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        kill(self.child.id().unwrap(), Signal::INT);
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Output {
        let rest = self.stderr.read_to_string(&mut self.told);
        let rest = timeout(PATIENCE, rest).await;
        rest.unwrap_or_else(|_| panic!("it does not end: {}", self.told))
            .unwrap();
        let output = self.child.wait_with_output().await.unwrap();
        let output = Output {
            stderr: self.told,
            ..Output::from(output)
        };
        // No event was told twice.
        let told = output.stderr.matches("pre_start | waiting").count();
        assert_eq!(told, 1, "{output:?}");
        output
    }
}
