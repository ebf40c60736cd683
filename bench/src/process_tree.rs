use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::Result;

/// A process and all that descend from it.
#[derive(Debug, Clone, Copy)]
pub struct ProcessTree {
    root: u32,
}

impl ProcessTree {
    /// The tree below the process.
    pub fn of(root: u32) -> ProcessTree {
        ProcessTree { root }
    }

    /// The CPU time of all threads of all its processes, those that have ended included.
    pub fn cpu_time(self) -> Result<Duration> {
        let mut ticks = 0;
        for pid in self.pids()? {
            // user, system, and those of the children that were waited for
            ticks += stat(pid)?[11..15]
                .iter()
                .map(|field| field.parse::<u64>())
                .sum::<std::result::Result<u64, _>>()?;
        }
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// The memory of all its processes in bytes; what they share is counted once.
    pub fn memory(self) -> Result<u64> {
        let mut kib = 0;
        for pid in self.pids()? {
            let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            kib += smaps
                .lines()
                .find_map(|line| line.strip_prefix("Pss:"))
                .and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
                .ok_or("no Pss in smaps_rollup")?;
        }
        Ok(kib * 1024)
    }

    fn pids(self) -> Result<Vec<u32>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // A process may end while it is looked at.
            if let Ok(fields) = stat(pid) {
                children.entry(fields[1].parse()?).or_default().push(pid);
            }
        }
        let mut pids = vec![self.root];
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            pids.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        Ok(pids)
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may hold anything: the state first.
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").ok_or("a stat without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
