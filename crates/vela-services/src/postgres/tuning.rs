use std::fs;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// The settings that depend on the memory of the machine, which the server shares with apps.
///
/// The rules are those of the manual (<https://www.postgresql.org/docs/current/runtime-config-resource.html>:
/// a quarter of the memory for `shared_buffers`), of the project's wiki
/// (<https://wiki.postgresql.org/wiki/Tuning_Your_PostgreSQL_Server>: half of it as a cautious
/// `effective_cache_size`) and of PGTune (<https://github.com/le0pard/pgtune>: a sixteenth for
/// `maintenance_work_mem`, `work_mem` from what is left for three operations of each connection,
/// 1.1 as `random_page_cost` of solid state disks), with caps below theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuning {
    memory: u64,
}

impl Tuning {
    /// For this machine. One whose memory is not known is taken for a small one.
    pub(super) fn of_this_machine() -> Self {
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|meminfo| total(&meminfo));
        Self::of(memory.unwrap_or(GIB))
    }

    /// For a machine with so many bytes of memory.
    pub(super) fn of(memory: u64) -> Self {
        Self { memory }
    }

    /// Names and values, as they stand in `postgresql.conf`.
    pub(super) fn settings(self) -> Vec<(&'static str, String)> {
        let memory = self.memory;
        let is_small = memory < 4 * GIB;
        let connections: u64 = if is_small { 100 } else { 200 };
        let shared = (memory / 4).clamp(32 * MIB, 4 * GIB);
        let work = memory.saturating_sub(shared) / (connections * 3);
        let size = |bytes: u64| format!("{}kB", bytes / 1024);
        vec![
            ("max_connections", connections.to_string()),
            ("shared_buffers", size(shared)),
            ("effective_cache_size", size((memory / 2).max(64 * MIB))),
            ("work_mem", size(work.clamp(2 * MIB, 32 * MIB))),
            (
                "maintenance_work_mem",
                size((memory / 16).clamp(16 * MIB, GIB)),
            ),
            (
                "min_wal_size",
                if is_small { "80MB" } else { "512MB" }.into(),
            ),
            ("max_wal_size", if is_small { "1GB" } else { "2GB" }.into()),
            ("wal_compression", "on".into()),
            ("checkpoint_completion_target", "0.9".into()),
            ("random_page_cost", "1.1".into()),
            ("effective_io_concurrency", "200".into()),
        ]
    }
}

/// `MemTotal:       24683956 kB`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(memory: u64, name: &str) -> String {
        let settings = Tuning::of(memory).settings();
        let found = settings.into_iter().find(|(n, _)| *n == name);
        found.unwrap().1
    }

    #[test]
    fn memory_decides_within_bounds() {
        for (memory, shared, work) in [
            (64 * MIB, 32 * MIB, 2 * MIB),
            (GIB, 256 * MIB, 2621 * 1024),
            (8 * GIB, 2 * GIB, 10485 * 1024),
            (512 * GIB, 4 * GIB, 32 * MIB),
        ] {
            let kib = |bytes: u64| format!("{}kB", bytes / 1024);
            assert_eq!(setting(memory, "shared_buffers"), kib(shared));
            assert_eq!(setting(memory, "work_mem"), kib(work));
        }
        assert_eq!(setting(GIB, "max_connections"), "100");
        assert_eq!(setting(8 * GIB, "max_connections"), "200");
    }

    #[test]
    fn the_kernel_says_how_much_there_is() {
        let meminfo = "MemTotal:       24683956 kB\nMemFree:        1 kB\n";
        assert_eq!(total(meminfo), Some(24_683_956 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_ne!(Tuning::of_this_machine().memory, GIB);
    }
}
