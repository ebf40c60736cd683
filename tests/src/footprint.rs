use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::World;

/// How long what is being closed may take to be gone: the proxy keeps an unused connection for a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a world occupies. After many deploys it is the same as after a few, unless something leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Everything that the daemon started, zombies included: the shims and their apps.
    pub processes: usize,
    /// The daemon's file descriptors.
    pub descriptors: usize,
    /// Files and directories in the data directory, but for the history, which keeps a file of each deploy.
    pub files: usize,
    /// Directories of live processes.
    pub run: usize,
}

impl Footprint {
    /// As it is now.
    pub fn of(world: &World) -> Footprint {
        Footprint {
            processes: descendants(world.daemon_pid()).len(),
            descriptors: world.daemon_fds(),
            files: files(world.data_dir()).len(),
            run: entries(&world.data_dir().join("run")).len(),
        }
    }

    /// As it is when it no longer changes.
    pub async fn settled(world: &World) -> Footprint {
        let (mut last, mut since, began) = (Footprint::of(world), Instant::now(), Instant::now());
        while since.elapsed() < Duration::from_secs(3) {
            assert!(began.elapsed() < PATIENCE, "it does not settle: {last:?}");
            sleep(Duration::from_millis(200)).await;
            let now = Footprint::of(world);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }

    /// Waits until the world is down to this again; fails with what is there if it never is.
    pub async fn expect_again(self, world: &World) {
        let began = Instant::now();
        while Footprint::of(world) != self {
            assert!(
                began.elapsed() < PATIENCE,
                "{self:?} has become {:?}\n{:?}\n{:#?}\n{:#?}",
                Footprint::of(world),
                descendants(world.daemon_pid()),
                files(world.data_dir()),
                descriptors(world.daemon_pid()),
            );
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let all: Vec<(u32, u32)> = entries(Path::new("/proc"))
        .iter()
        .filter_map(|process| {
            let stat = std::fs::read_to_string(process.join("stat")).ok()?;
            // What follows the name, which may hold anything: state, parent.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|one| one.1 == parent).map(|one| one.0));
        next += 1;
    }
    found.split_off(1)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(dir) {
        if path.ends_with("history") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

/// What is in a directory; nothing once it is gone.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn descriptors(pid: u32) -> Vec<PathBuf> {
    let all = entries(Path::new(&format!("/proc/{pid}/fd")));
    let targets = all.iter().filter_map(|fd| std::fs::read_link(fd).ok());
    targets.collect()
}
