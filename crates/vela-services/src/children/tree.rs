use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Processes, each known by its id and its start: an id alone may be another one's by now.
#[derive(Debug, Default)]
pub(super) struct Tree(BTreeSet<(i32, u64)>);

impl Tree {
    /// The descendants of a process, without itself.
    pub(super) fn below(root: i32) -> Self {
        let all = processes();
        let mut found = BTreeSet::new();
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for process in all.iter().filter(|process| process.parent == parent) {
                if found.insert((process.id, process.start)) {
                    parents.push(process.id);
                }
            }
        }
        Self(found)
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sends KILL to those that live.
    pub(super) fn kill(&self) {
        for id in self.alive() {
            if let Some(pid) = Pid::from_raw(id) {
                // One that ended since then is what was wanted; whether all are gone is asked next.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }

    /// Returns when none lives any more. They are no children of this process, so there is
    /// nothing to wait for but the process table.
    pub(super) async fn gone(&self) {
        while self.alive().next().is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn alive(&self) -> impl Iterator<Item = i32> {
        let is_alive = |&&(id, start): &&(i32, u64)| {
            Process::read(id).is_some_and(|now| now.start == start && !now.is_zombie)
        };
        self.0.iter().filter(is_alive).map(|&(id, _)| id)
    }
}

struct Process {
    id: i32,
    parent: i32,
    start: u64,
    is_zombie: bool,
}

impl Process {
    fn read(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name stands in parentheses, and may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let is_zombie = fields.next()? == "Z";
        let parent = fields.next()?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self {
            id,
            parent,
            start,
            is_zombie,
        })
    }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_this_machine_has_this_process_below_it() {
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = Process::read(me).unwrap().parent;
        let tree = Tree::below(parent);
        assert!(tree.alive().any(|id| id == me));
        let start = Process::read(me).unwrap().start;
        assert_eq!(Tree(BTreeSet::from([(me, start + 1)])).alive().count(), 0);
    }
}
