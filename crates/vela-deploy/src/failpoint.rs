//! Points before, inside and after the effect of every step, where a test makes the step fail or the daemon die.
//!
//! Without the feature `test-util` nothing can be armed, and a point is nothing.

#[cfg(feature = "test-util")]
pub use armed::{Failpoints, Injected, Serves, from_env, serves_after};

/// Where in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Its intent is not recorded: the disk refuses it.
    Intent,
    /// Its intent is recorded; nothing has happened.
    Before,
    /// Its effect has begun, or stands, but its end is not recorded.
    Inside,
    /// Its effect stands; its end is about to be recorded.
    After,
}

impl Moment {
    /// All of them, in order.
    pub const ALL: [Moment; 4] = [
        Moment::Intent,
        Moment::Before,
        Moment::Inside,
        Moment::After,
    ];

    /// The name in `VELA_FAILPOINT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Moment::Intent => "intent",
            Moment::Before => "before",
            Moment::Inside => "inside",
            Moment::After => "after",
        }
    }
}

#[cfg(feature = "test-util")]
mod armed {
    use std::fmt::Debug;
    use std::str::FromStr;
    use std::sync::Arc;

    use vela_protocol::Step;

    use super::Moment;

    /// What a test arms a stack with.
    pub trait Failpoints: Debug + Send + Sync {
        /// Called at each point; an error fails the step, and an implementation may as well kill the process.
        ///
        /// # Errors
        /// When the step must fail here.
        fn hit(&self, step: Step, moment: Moment) -> Result<(), Injected>;
    }

    /// A failure that a test asked for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
    #[error("a failure injected by a test")]
    pub struct Injected;

    /// Which release must serve after a deploy failed, or its daemon died, at a point.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Serves {
        /// The one from before: the deploy was undone.
        Old,
        /// The new one: the deploy had committed, and was finished.
        New,
    }

    /// What must serve after `step` failed at `moment`; nothing where a deploy with every hook and a service does not
    /// take the step. A step that is not listed here is one whose failure nobody has thought about.
    ///
    /// # Panics
    /// For a step that is not listed.
    pub fn serves_after(step: Step, moment: Moment, sequential: bool) -> Option<Serves> {
        match step {
            Step::Build
            | Step::Unpack
            | Step::Register
            | Step::Provision
            | Step::PreStart
            | Step::Start
            | Step::Health
            | Step::PreSwitch
            | Step::Switch => Some(Serves::Old),
            Step::Park | Step::StopFirst => sequential.then_some(Serves::Old),
            Step::Commit if matches!(moment, Moment::Intent | Moment::Before) => Some(Serves::Old),
            Step::Commit | Step::PostDeploy | Step::Cleanup => Some(Serves::New),
            // Taken for new hosts alone, where there is somebody who gets their certificates.
            Step::Certify => None,
            Step::Drain | Step::Stop => (!sequential).then_some(Serves::New),
            other => panic!("what must serve when {other} fails?"),
        }
    }

    /// The failpoint that the environment asks for: `VELA_FAILPOINT=<step>:<moment>:<error|kill>`, such as
    /// `switch:inside:kill`. A point that is hit leaves the file `VELA_FAILPOINT_HIT`, so that a test sees that it was;
    /// it is hit once, and not again while that file exists.
    pub fn from_env() -> Option<Arc<dyn Failpoints>> {
        let point: EnvFailpoint = std::env::var("VELA_FAILPOINT").ok()?.parse().ok()?;
        Some(Arc::new(point))
    }

    #[derive(Debug)]
    struct EnvFailpoint {
        step: String,
        moment: String,
        kill: bool,
        hit: std::path::PathBuf,
    }

    impl FromStr for EnvFailpoint {
        type Err = ();

        fn from_str(text: &str) -> Result<EnvFailpoint, ()> {
            let [step, moment, action] = text
                .split(':')
                .collect::<Vec<_>>()
                .try_into()
                .map_err(drop)?;
            let known = Step::ALL.iter().any(|known| known.as_str() == step)
                && Moment::ALL.iter().any(|known| known.as_str() == moment)
                && ["error", "kill"].contains(&action);
            let hit = std::env::var_os("VELA_FAILPOINT_HIT")
                .filter(|_| known)
                .ok_or(())?
                .into();
            Ok(EnvFailpoint {
                step: step.to_owned(),
                moment: moment.to_owned(),
                kill: action == "kill",
                hit,
            })
        }
    }

    impl Failpoints for EnvFailpoint {
        fn hit(&self, step: Step, moment: Moment) -> Result<(), Injected> {
            if step.as_str() != self.step || moment.as_str() != self.moment {
                return Ok(());
            }
            if std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&self.hit)
                .is_err()
            {
                return Ok(());
            }
            if self.kill {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL)
                    .expect("a process may always kill itself");
            }
            Err(Injected)
        }
    }
}
