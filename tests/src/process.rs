use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Sends a signal to a process that the test started.
pub fn kill(pid: u32, signal: Signal) {
    kill_process(raw(pid), signal).unwrap();
}

/// Whether there is such a process, zombies included.
pub fn is_alive(pid: u32) -> bool {
    test_kill_process(raw(pid)).is_ok()
}

/// Every process that carries `variable=value` in its environment, whoever its parent is.
pub fn children_of(variable: &str, value: &str) -> Vec<u32> {
    let wanted = format!("{variable}={value}");
    processes_with(|one| one == wanted.as_bytes())
}

/// Every process of an app in this data directory, whoever its parent is: by the `VELA_DATA_DIR` of its environment.
pub fn processes_of(data_dir: &Path) -> Vec<u32> {
    let wanted = format!("VELA_DATA_DIR={}/", data_dir.display());
    processes_with(|one| one.starts_with(wanted.as_bytes()))
}

/// The shims of a data directory's instances: each has its lock file for standard error. An app ends with its shim,
/// also one that has overwritten its environment.
pub fn shims_of(data_dir: &Path) -> Vec<u32> {
    let run = data_dir.join("run");
    let is_shim = |pid: &u32| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/2"));
        link.is_ok_and(|file| file.starts_with(&run))
    };
    all().filter(is_shim).collect()
}

/// Every process that this one started, and that those started, except for what has lost its parent.
pub(crate) fn descendants_of(pid: u32) -> Vec<u32> {
    let parents = parents();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let mut parents = Vec::new();
    for pid in all() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it may hold anything.
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    parents
}

fn processes_with(is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for pid in all() {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environ.split(|byte| *byte == 0).any(&is_wanted) {
            found.push(pid);
        }
    }
    found
}

fn all() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}
