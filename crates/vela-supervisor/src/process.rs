use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In clock ticks since boot, as in `/proc/<pid>/stat`.
    pub(crate) start: u64,
}

impl Process {
    pub(crate) fn of_pid(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(Stat::parse(&stat)
            .ok_or(io::ErrorKind::InvalidData)?
            .process)
    }

    /// Sends the signal unless the process is gone. The pidfd is opened before the start time is
    /// compared, so that the signal cannot reach another process.
    pub(crate) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if Self::of_pid(self.pid).is_ok_and(|now| now == self)
            && let Err(error) = pidfd_send_signal(&pidfd, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.pid, %error, "cannot signal a process");
        }
    }
}

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// Ended, and only waits for its parent to look.
    pub(crate) dead: bool,
}

impl Stat {
    /// The name in the second field can hold anything, parentheses and newlines too.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let start = fields.nth(15)?.parse().ok()?;
        let process = Process {
            pid: pid.parse().ok()?,
            start,
        };
        Some(Self {
            process,
            parent,
            session,
            dead: matches!(state, "Z" | "X"),
        })
    }
}

/// All processes of the machine. One that ends meanwhile is left out.
pub(crate) fn table() -> io::Result<Vec<Stat>> {
    let mut table = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name
            .to_str()
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
            table.extend(Stat::parse(&stat));
        }
    }
    Ok(table)
}

/// This boot's identity: start times of another boot mean nothing.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_process_names_parse() {
        let rest = "S 7 70 71 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 1";
        for name in ["sh", "a b", ") S 1 1 1 (", "x) Z 9"] {
            let stat = Stat::parse(&format!("12 ({name}) {rest}")).unwrap();
            assert_eq!(
                stat.process,
                Process {
                    pid: 12,
                    start: 4242
                }
            );
            assert_eq!((stat.parent, stat.session, stat.dead), (7, 71, false));
        }
        for torn in ["", "12", "12 (", "12 (sh) S", "12 (sh) S 1 2 3"] {
            assert_eq!(Stat::parse(torn), None);
        }
    }

    #[test]
    fn knows_itself() {
        let me = Process::of_pid(std::process::id() as i32).unwrap();
        assert!(
            table()
                .unwrap()
                .iter()
                .any(|stat| stat.process == me && !stat.dead)
        );
        assert!(!boot_id().unwrap().is_empty());
    }
}
