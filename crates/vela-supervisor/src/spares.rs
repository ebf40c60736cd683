use std::fs;
use std::sync::Arc;

use crate::process::{Process, Stat};

/// What the kernel adds to the name of a file that was removed while it runs.
const REMOVED: &str = " (deleted)";

/// The programs that outlive an instance: see [`InstanceSpec::spares`](crate::InstanceSpec).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spares(Arc<[String]>);

impl Spares {
    pub(crate) fn new(names: &[String]) -> Self {
        Self(names.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the spared out of `living`, which are all processes of an instance with this main
    /// process.
    pub(crate) fn take_out(&self, living: &mut Vec<Stat>, main: Option<Process>) {
        if self.is_empty() {
            return;
        }
        living.retain(|stat| {
            let in_session = main.is_some_and(|main| stat.session == main.pid);
            in_session || !self.name(stat.process)
        });
    }

    /// Whether the file that a process runs has one of the names. By the kernel's word, not by what
    /// the process calls itself; of a process that we may not look into, never.
    fn name(&self, process: Process) -> bool {
        let Ok(file) = fs::read_link(format!("/proc/{}/exe", process.pid)) else {
            return false;
        };
        let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
            return false;
        };
        let name = name.strip_suffix(REMOVED).unwrap_or(name);
        self.0.iter().any(|spare| spare == name)
            // The pid may have changed hands between the table and the link.
            && Process::of_pid(process.pid).is_ok_and(|now| now == process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This test, as a process in the session 1000.
    fn me() -> Stat {
        let process = Process::of_pid(std::process::id() as i32).unwrap();
        Stat {
            process,
            parent: 1,
            session: 1000,
            dead: false,
        }
    }

    fn left(names: &[&str], living: &[Stat], main: i32) -> usize {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let main = Process {
            pid: main,
            start: 1,
        };
        let mut living = living.to_vec();
        Spares::new(&names).take_out(&mut living, Some(main));
        living.len()
    }

    #[test]
    fn spares_a_daemon_of_that_name_and_nothing_else() {
        let program = std::env::current_exe().unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        assert_eq!(left(&["epmd", name], &[me()], 999), 0);
        assert_eq!(left(&[], &[me()], 999), 1);
        assert_eq!(left(&["epmd", &name[1..]], &[me()], 999), 1);
        // In the session of the main process.
        assert_eq!(left(&[name], &[me()], 1000), 1);
        // Another process by now.
        let mut stale = me();
        stale.process.start += 1;
        assert_eq!(left(&[name], &[stale], 999), 1);
    }
}
