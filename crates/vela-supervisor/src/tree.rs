use std::collections::HashSet;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::InstanceId;
use crate::instance::INSTANCE_VARIABLE;
use crate::process::{Process, Stat, table};
use crate::spares::Spares;

/// Longer than any process takes to die of `SIGKILL`, but for one stuck in the kernel.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Which processes belong to an instance: all descendants of its shim, which is their subreaper;
/// where there is no shim, all descendants of the main process, its session, and whatever still
/// carries the instance's name in its environment.
///
/// But not the programs that outlive it.
///
/// The one place that decides this, so that a cgroup can take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    root: Root,
    /// Missing when it is unknown.
    main: Option<Process>,
    spares: Spares,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    /// The descendants of this shim.
    Shim(Process),
    /// What can be found of the instance without a shim.
    Loose(InstanceId),
}

impl Tree {
    pub(crate) fn of_shim(shim: Process, main: Process, spares: Spares) -> Self {
        Self {
            root: Root::Shim(shim),
            main: Some(main),
            spares,
        }
    }

    pub(crate) fn loose(id: InstanceId, main: Option<Process>, spares: Spares) -> Self {
        Self {
            root: Root::Loose(id),
            main,
            spares,
        }
    }

    pub(crate) fn of_process(id: InstanceId, pid: u32) -> Self {
        let main = i32::try_from(pid)
            .ok()
            .and_then(|pid| Process::of_pid(pid).ok());
        Self::loose(id, main, Spares::default())
    }

    /// Whether a child of the shim may be none of the instance.
    pub(crate) fn has_spares(&self) -> bool {
        !self.spares.is_empty()
    }

    /// The processes that live now.
    pub(crate) fn members(&self) -> io::Result<Vec<Process>> {
        let living = self.living()?;
        Ok(living.into_iter().map(|stat| stat.process).collect())
    }

    /// The same with what else is known of them.
    pub(crate) fn living(&self) -> io::Result<Vec<Stat>> {
        let table = table()?;
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let members = match &self.root {
            Root::Shim(shim) => descendants(&table, *shim),
            Root::Loose(id) => {
                let mut found = named(&table, id);
                if let Some(main) = self.main {
                    found.extend(loose(&table, main, &found));
                    found.insert(main);
                }
                found
            }
        };
        let lives = |stat: &&Stat| !stat.dead && stat.process.pid > 1 && stat.process.pid != me;
        let living = table.iter().filter(lives);
        let mut living: Vec<_> = living
            .filter(|stat| members.contains(&stat.process))
            .copied()
            .collect();
        self.spares.take_out(&mut living, self.main);
        Ok(living)
    }

    /// Sends `SIGKILL` to each member once; returns how many there were.
    pub(crate) fn kill(&self) -> io::Result<usize> {
        let members = self.members()?;
        for member in &members {
            member.signal(Signal::KILL);
        }
        Ok(members.len())
    }

    /// Kills until nothing is left, the shim included. Blocks.
    pub(crate) fn kill_with_keeper(&self) -> io::Result<()> {
        // Before the shim, without which its descendants are not known any more.
        let killed = self.kill_all();
        if let Root::Shim(shim) = self.root {
            shim.signal(Signal::KILL);
        }
        killed
    }

    /// Kills until nothing is left. Blocks.
    pub(crate) fn kill_all(&self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_DEADLINE;
        let mut pause = Duration::from_millis(1);
        while self.kill()? > 0 {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // They are not our children, and one may have forked just now: look again.
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// All descendants of a process that lives, without itself.
fn descendants(table: &[Stat], root: Process) -> HashSet<Process> {
    if !table.iter().any(|stat| stat.process == root) {
        return HashSet::new();
    }
    let mut found = HashSet::new();
    let mut parents = HashSet::from([root.pid]);
    // A child may have a smaller pid than its parent: repeat until nothing is added.
    loop {
        let before = found.len();
        for stat in table {
            if parents.contains(&stat.parent) && found.insert(stat.process) {
                parents.insert(stat.process.pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Descendants of `main` and members of the session that it led.
///
/// The number of a session is given to no other while a member lives. But when its leader is gone,
/// all members may have gone before, and the number may since have been another session's, whose
/// leader is gone as well: then it is ours only if a member carries the instance's name.
fn loose(table: &[Stat], main: Process, named: &HashSet<Process>) -> HashSet<Process> {
    let mut found = descendants(table, main);
    let members = || {
        let ours = |stat: &&Stat| stat.session == main.pid && stat.process.start >= main.start;
        table.iter().filter(ours).map(|stat| stat.process)
    };
    let leader = table.iter().find(|stat| stat.process.pid == main.pid);
    let ours = match leader {
        Some(leader) => leader.process == main,
        None => members().any(|member| named.contains(&member)),
    };
    if ours {
        found.extend(members());
    }
    found
}

/// Processes that were given the instance's name, as far as we may read their environment.
fn named(table: &[Stat], id: &InstanceId) -> HashSet<Process> {
    let entry = format!("{INSTANCE_VARIABLE}={id}");
    let mut found = HashSet::new();
    let mut blank = Vec::new();
    let mut look = |process: Process, blank: &mut Vec<Process>| {
        match fs::read(format!("/proc/{}/environ", process.pid)) {
            Ok(environ) if environ.is_empty() => blank.push(process),
            Ok(environ)
                if environ.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
                    // The pid may have changed hands between the table and the file.
                    && Process::of_pid(process.pid).is_ok_and(|now| now == process) =>
            {
                found.insert(process);
            }
            _ => {}
        }
    };
    for stat in table.iter().filter(|stat| !stat.dead) {
        look(stat.process, &mut blank);
    }
    // Threads of the kernel have none; nor has, for an instant, a process in the middle of an exec.
    if !blank.is_empty() {
        thread::sleep(Duration::from_millis(1));
        for process in std::mem::take(&mut blank) {
            look(process, &mut blank);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, session: i32, start: u64) -> Stat {
        Stat {
            process: Process { pid, start },
            parent,
            session,
            dead: false,
        }
    }

    fn pids(found: HashSet<Process>) -> Vec<i32> {
        let mut pids: Vec<_> = found.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn descendants_are_found_in_any_order_of_pids() {
        let table = [
            stat(5, 9, 1, 3),
            stat(9, 7, 1, 2),
            stat(7, 1, 1, 1),
            stat(8, 1, 1, 1),
        ];
        assert_eq!(
            pids(descendants(&table, Process { pid: 7, start: 1 })),
            [5, 9]
        );
        assert_eq!(
            pids(descendants(&table, Process { pid: 7, start: 99 })),
            [] as [i32; 0]
        );
    }

    #[test]
    fn a_session_counts_only_while_it_is_the_same_one() {
        let main = Process { pid: 7, start: 10 };
        let found = |table: &[Stat], named: &[Stat]| {
            let named = named.iter().map(|stat| stat.process).collect();
            pids(loose(table, main, &named))
        };
        let (one, other) = (stat(20, 1, 7, 11), stat(21, 1, 7, 12));
        assert_eq!(found(&[one, stat(7, 1, 7, 10)], &[]), [7, 20]);
        // The pid is another process by now.
        assert_eq!(found(&[one, stat(7, 1, 7, 99)], &[]), [] as [i32; 0]);
        // Its leader is gone: which session of that number it is, only the name tells.
        assert_eq!(found(&[one, other], &[]), [] as [i32; 0]);
        assert_eq!(found(&[one, other], &[other]), [20, 21]);
        assert_eq!(found(&[stat(20, 1, 7, 9)], &[]), [] as [i32; 0]);
    }

    #[test]
    fn a_wrong_start_time_is_another_process() {
        let me = Process::of_pid(std::process::id() as i32).unwrap();
        let stale = Process {
            start: me.start + 1,
            ..me
        };
        let tree = Tree::loose(InstanceId::random(), Some(stale), Spares::default());
        assert_eq!(tree.members().unwrap(), []);
    }
}
