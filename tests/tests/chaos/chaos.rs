use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use vela_protocol::{Event, Outcome, Serving};
use vela_tests::ledger::{Entries, Failure, Ledger, Messages, Rows};
use vela_tests::{Artifact, Deploy, World, shims_of};

use crate::prey::Prey;
use crate::schedule::{Kill, Operation, Schedule, Target};
use crate::writers::Writers;

const APP: &str = "ledger";

/// How long the app may be away after a kill.
const AWAY: Duration = Duration::from_secs(120);

/// So many entries of the writers are acknowledged before the next kill.
const ENTRIES: usize = 10;

/// Entries that this test makes itself, beside those of the writers.
const FIRST_PROBE: i64 = 1_000_000_000;

/// The world with the app, and what has happened to it.
#[derive(Debug)]
pub(crate) struct Chaos {
    ledger: Ledger,
    writers: Option<Writers>,
    world: World,
    prey: Prey,
    blue_green: Artifact,
    sequential: Artifact,
    credentials: String,
    probe: i64,
    /// The release that serves.
    serves: String,
    kills: BTreeMap<Target, usize>,
    succeeded: usize,
    failed: usize,
    longest: Duration,
    began: Instant,
    told: Vec<String>,
}

impl Chaos {
    pub(crate) async fn begin() -> Chaos {
        let world = World::new().await;
        let lines = "health = \"/health\"\ndrain = 1\nstop_timeout = 2";
        let sequential = format!("{lines}\nstrategy = \"sequential\"");
        let blue_green = Artifact::ledger(APP, lines);
        let serves = blue_green.deploy(&world).await.succeed().await;
        let ledger = Ledger::new(world.http(), &format!("{APP}.localhost"));
        let credentials = ledger.whoami().await.unwrap().credentials;
        Chaos {
            prey: Prey::of(world.data_dir()),
            sequential: Artifact::ledger(APP, &sequential),
            writers: Some(Writers::start(&ledger)),
            ledger,
            world,
            blue_green,
            credentials,
            probe: FIRST_PROBE,
            serves,
            kills: Target::ALL.map(|target| (target, 0)).into(),
            succeeded: 0,
            failed: 0,
            longest: Duration::ZERO,
            began: Instant::now(),
            told: Vec::new(),
        }
    }

    /// Kills one thing, and waits until the app answers again if it should.
    pub(crate) async fn kill(&mut self, kill: Kill) {
        self.strike(kill).await;
        if kill.recovers {
            self.answers().await;
        }
    }

    /// Does what is asked, with a kill in the middle of it. Tells whether it succeeded, which it must unless the daemon
    /// or the app was killed; if it did not, all is as before.
    pub(crate) async fn operate(
        &mut self,
        operation: Operation,
        during: Option<(Kill, usize)>,
    ) -> bool {
        self.answers().await;
        self.is_free().await;
        let before = self.serves.clone();
        let mut deploy = match operation {
            Operation::BlueGreen => self.blue_green.begin(&self.world).await,
            Operation::Sequential => self.sequential.begin(&self.world).await,
            Operation::Rollback => Deploy::roll_back(&self.world, APP).await,
        };
        self.tell(format!("{operation:?}"));
        if let Some((kill, choice)) = during {
            let steps = deploy
                .until("its plan", |event| match event {
                    Event::Started { steps, .. } => Some(steps.clone()),
                    _ => None,
                })
                .await;
            let step = steps[choice % steps.len()];
            deploy
                .until(step.as_str(), |event| {
                    let reached = *event == Event::StepStarted { step };
                    (reached || event.is_terminal()).then_some(())
                })
                .await;
            self.tell(format!("at {step}"));
            self.strike(kill).await;
        }
        let succeeded = match deploy.end().await {
            Event::Succeeded { release, .. } => {
                self.tell(format!("succeeded: {release}"));
                self.serves = release;
                self.succeeded += 1;
                true
            }
            Event::Failed {
                serving: Serving::Previous { release } | Serving::Down { release },
                step,
                error,
                ..
            } => {
                let what = format!("{operation:?} failed at {step:?}: {error:?}");
                println!("{what}");
                self.tell(what);
                assert_eq!(release, before, "{deploy:#?}");
                // A server that crashes makes it late, and no more.
                let why = during.filter(|(kill, _)| !kill.is_of_a_service());
                assert!(why.is_some(), "nothing of it was killed: {deploy:#?}");
                self.failed += 1;
                false
            }
            _ => panic!("{deploy:#?}"),
        };
        let current = self.world.current(APP);
        assert_eq!(current.as_ref(), Some(&self.serves), "{deploy:#?}");
        self.answers().await;
        succeeded
    }

    /// Waits until the app takes entries again, as the release that should serve and with the credentials that it
    /// always had.
    async fn answers(&mut self) {
        let began = Instant::now();
        while let Err(why) = self.try_answer().await {
            assert!(began.elapsed() < AWAY, "the app does not come back: {why}");
            sleep(Duration::from_millis(5)).await;
        }
        let away = began.elapsed();
        self.tell(format!("answers after {} ms", away.as_millis()));
        self.longest = self.longest.max(away);
        let acknowledged = || self.writers.as_ref().map_or(0, Writers::acknowledged);
        let wanted = acknowledged() + ENTRIES;
        while acknowledged() < wanted {
            assert!(began.elapsed() < AWAY, "the writers don't come back");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn try_answer(&mut self) -> Result<(), Failure> {
        timeout(AWAY, self.ledger.enter(self.probe)).await??;
        self.probe += 1;
        let who = self.ledger.whoami().await?;
        assert_eq!(who.credentials, self.credentials);
        match who.release == self.serves {
            true => Ok(()),
            false => Err(format!("{who:?}").into()),
        }
    }

    /// Everything acknowledged is there, and nothing is left over. Gives the kills.
    pub(crate) async fn end(mut self) -> BTreeMap<Target, usize> {
        self.answers().await;
        let written = self.writers.take().unwrap().stop().await;
        println!(
            "{:?}: {:?}; {} operations succeeded, {} failed; {} entries, {} refused; away for {:?} at most",
            self.began.elapsed(),
            self.kills,
            self.succeeded,
            self.failed,
            written.acknowledged.len(),
            written.refused,
            self.longest
        );
        self.is_left_with(&["ledger", "nats-server", "postgres"])
            .await;
        let mut acknowledged = written.acknowledged;
        acknowledged.extend(FIRST_PROBE..self.probe);
        let possible: BTreeSet<i64> = acknowledged.union(&written.unknown).copied().collect();
        let by_app = self.ledger.entries().await.unwrap();
        for entries in [by_app, self.read_with_credentials().await] {
            let messages: BTreeSet<i64> = entries.messages.iter().copied().collect();
            for (kept, place) in [(&entries.rows, "Postgres"), (&messages, "JetStream")] {
                let lost: Vec<_> = acknowledged.difference(kept).collect();
                assert!(lost.is_empty(), "{place} has lost {lost:?}");
                let strange: Vec<_> = kept.difference(&possible).collect();
                assert!(strange.is_empty(), "{place} has made up {strange:?}");
            }
        }
        let history = self.world.client().history(APP).await.unwrap();
        let good = history
            .iter()
            .filter(|one| one.outcome == Outcome::Succeeded);
        assert_eq!(good.count(), 1 + self.succeeded);
        assert_eq!(history.len(), 1 + self.succeeded + self.failed);
        assert_eq!(self.succeeded, Schedule::DEPLOYS + Schedule::ROLLBACKS);
        // The servers end with the last of those who use them.
        self.world.client().remove(APP, true).await.unwrap();
        self.is_left_with(&[]).await;
        std::mem::take(&mut self.kills)
    }

    async fn strike(&mut self, kill: Kill) {
        let what = match kill.target {
            Target::Daemon => {
                self.world.kill_daemon().await;
                let took = self.world.start(&[]).await;
                format!("daemon, which answered after {} ms", took.as_millis())
            }
            _ => self.prey.kill(kill).await,
        };
        self.tell(format!("killed {what}"));
        *self.kills.entry(kill.target).or_default() += 1;
    }

    /// Waits until no operation holds the app: a new daemon may be at the end of the last one.
    async fn is_free(&self) {
        let began = Instant::now();
        while self.world.status(APP).await.deploying.is_some() {
            assert!(began.elapsed() < AWAY, "an operation does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until there is one process of each of these programs, but for what Postgres starts itself, and nothing of
    /// those that were killed.
    async fn is_left_with(&self, wanted: &[&str]) {
        let began = Instant::now();
        loop {
            let mut left = self.prey.all();
            let shims = shims_of(self.world.data_dir());
            let postmaster = self.prey.mains("postgres").first().map(|main| main.pid);
            left.retain(|one| !shims.contains(&one.pid) && Some(one.parent) != postmaster);
            let mut programs: Vec<&str> = left.iter().map(|one| &*one.program).collect();
            programs.sort_unstable();
            let run = std::fs::read_dir(self.world.data_dir().join("run")).unwrap();
            let instances = run.filter(|entry| entry.as_ref().unwrap().path().is_dir());
            let counts = (shims.len(), instances.count());
            if programs == wanted && counts == (wanted.len(), wanted.len()) {
                return;
            }
            assert!(began.elapsed() < AWAY, "{left:#?}, {counts:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What both servers have, on new connections with the variables of the app's process.
    async fn read_with_credentials(&self) -> Entries {
        let app = &self.prey.mains(APP)[0];
        let environ = std::fs::read(format!("/proc/{}/environ", app.pid)).unwrap();
        let variable = |name: &str| {
            let mut all = environ.split(|byte| *byte == 0);
            let found = all.find_map(|one| one.strip_prefix(format!("{name}=").as_bytes()));
            String::from_utf8(found.unwrap().to_vec()).unwrap()
        };
        let (database, nats) = (variable("DATABASE_URL"), variable("NATS_URL"));
        let told = self.world.client().credentials(APP).await.unwrap().kinds;
        assert_eq!(told["postgres"]["DATABASE_URL"], database);
        assert_eq!(told["nats"]["NATS_URL"], nats);
        let rows = Rows::connect(&database).await.unwrap();
        let messages = Messages::connect(&nats, APP).await.unwrap();
        Entries {
            rows: rows.all().await.unwrap(),
            messages: messages.all().await.unwrap(),
        }
    }

    fn tell(&mut self, what: String) {
        self.told.push(format!(
            "{:>9.3} {what}",
            self.began.elapsed().as_secs_f64()
        ));
    }

    fn logs(&self) -> String {
        let mut text = self.world.daemon_log();
        let services = self.world.data_dir().join("services/logs");
        for dir in [services, self.world.app_dir(APP).join("logs")] {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.path();
                write!(text, "\n--- {}\n{}", name.display(), tail(&name)).unwrap();
            }
        }
        text
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        println!("{}", self.told.join("\n"));
        if std::thread::panicking() {
            println!("--- the daemon\n{}", self.logs());
        }
    }
}

/// The end of a log.
fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}
