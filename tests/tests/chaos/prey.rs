//! Finds what is to be killed, by what the kernel knows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use vela_tests::shims_of;

use crate::schedule::{Kill, Target};

/// How long a target may be missing: it may have been killed just before.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes of one data directory.
#[derive(Debug)]
pub(crate) struct Prey {
    data_dir: PathBuf,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// In the order in which processes began.
    pub(crate) began: u64,
    /// The name of its program file.
    pub(crate) program: String,
    /// What it calls itself.
    pub(crate) title: String,
}

impl Prey {
    pub(crate) fn of(data_dir: &Path) -> Prey {
        Prey {
            data_dir: data_dir.to_owned(),
        }
    }

    /// Everything that works in the data directory, zombies excluded, the oldest first.
    pub(crate) fn all(&self) -> Vec<Process> {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut all: Vec<Process> = pids
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| self.process(pid))
            .collect();
        all.sort_by_key(|process| process.began);
        all
    }

    /// The main processes of this program: those that a shim has started.
    pub(crate) fn mains(&self, program: &str) -> Vec<Process> {
        let (all, shims) = (self.all(), shims_of(&self.data_dir));
        all.into_iter()
            .filter(|process| process.program == program && shims.contains(&process.parent))
            .collect()
    }

    /// Kills what is asked for, which is not the daemon, and waits until it is gone. Tells what it was.
    pub(crate) async fn kill(&self, kill: Kill) -> String {
        let began = Instant::now();
        loop {
            let found = self.choose(kill);
            if let Some((what, pid)) = found {
                let process = Pid::from_raw(pid.cast_signed()).expect("a pid is not zero");
                // It may have ended by itself meanwhile.
                if kill_process(process, Signal::KILL).is_ok() {
                    while is_alive(pid) {
                        sleep(Duration::from_millis(1)).await;
                    }
                    return format!("{what} {pid}");
                }
            }
            let all = self.all();
            assert!(began.elapsed() < PATIENCE, "there is no {kill:?}: {all:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn choose(&self, kill: Kill) -> Option<(String, u32)> {
        let pick = |all: Vec<Process>| {
            let choice = kill.choice.checked_rem(all.len())?;
            all.into_iter().nth(choice)
        };
        let main = |program: &str| pick(self.mains(program));
        let found = match (kill.target, kill.choice % 4) {
            (Target::Postgres, 0) => {
                let mut all = self.all();
                all.retain(|one| one.title.starts_with("postgres: ledger"));
                ("backend", pick(all)?.pid)
            }
            (Target::Postgres, _) => ("postmaster", main("postgres")?.pid),
            (Target::Nats, _) => ("nats-server", main("nats-server")?.pid),
            (Target::Shim, 0) if kill.is_of_a_service() => {
                ("shim of postgres", main("postgres")?.parent)
            }
            (Target::Shim, _) if kill.is_of_a_service() => {
                ("shim of nats-server", main("nats-server")?.parent)
            }
            (Target::Shim, _) => ("shim of the app", main("ledger")?.parent),
            (Target::App, _) => ("app", main("ledger")?.pid),
            (Target::Daemon, _) => return None,
        };
        Some((found.0.to_owned(), found.1))
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let is_here = std::fs::read_link(proc.join("cwd")).ok()?;
        if !is_here.starts_with(&self.data_dir) {
            return None;
        }
        let stat = Stat::of(pid).filter(Stat::is_alive)?;
        let program = std::fs::read_link(proc.join("exe")).ok()?;
        let title = std::fs::read(proc.join("cmdline")).ok()?;
        Some(Process {
            pid,
            parent: stat.parent,
            began: stat.began,
            program: name_of(&program)?,
            title: String::from_utf8_lossy(&title).replace('\0', " "),
        })
    }
}

/// The name of a program file, which may have been built anew since.
fn name_of(program: &Path) -> Option<String> {
    let name = program.file_name()?.to_str()?;
    Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}

/// Whether the process goes on; a zombie does not.
fn is_alive(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.is_alive())
}

struct Stat {
    state: String,
    parent: u32,
    began: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Stat> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // What follows the name, which may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(Stat {
            state: (*fields.first()?).to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            began: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_alive(&self) -> bool {
        !matches!(&*self.state, "Z" | "X")
    }
}
