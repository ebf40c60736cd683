//! What the machine has for JetStream.

use std::fs;
use std::path::Path;

use crate::{ServiceError, durable};

/// Enough to be of use, on a machine that has nothing to spare.
const LEAST: u64 = 64 << 20;

/// Three quarters of what is free where `dir` is: the rest of the machine needs some, too.
pub(super) fn storage(dir: &Path) -> Result<u64, ServiceError> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| durable::failed(dir)(error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok((free / 4 * 3).max(LEAST))
}

/// A quarter of the memory.
pub(super) fn memory() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (total(&meminfo).unwrap_or_default() / 4).max(LEAST)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let meminfo = "MemTotal:       24684012 kB\nMemFree:        22366000 kB\n";
        assert_eq!(total(meminfo), Some(24_684_012 * 1024));
        assert_eq!(total("nonsense"), None);
        assert!(memory() >= LEAST && storage(Path::new("/")).unwrap() >= LEAST);
    }
}
