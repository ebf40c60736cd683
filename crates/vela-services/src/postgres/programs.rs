use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::major::Major;

/// The programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) major: Major,
    /// The directory that holds `postgres` and `initdb`.
    pub(super) bin: PathBuf,
}

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub(super) enum Where {
    /// In `/usr/lib/postgresql/<major>/bin`, which is how Debian keeps several versions side by
    /// side, and if there is none in `PATH`.
    System,
    /// In `<major>/bin` of these directories.
    Below(Vec<PathBuf>),
}

impl Where {
    /// The programs of this version, or of the newest one that is there.
    pub(super) async fn find(&self, major: Option<Major>) -> Option<Programs> {
        let wanted = |found: &Programs| major.is_none_or(|major| found.major == major);
        let newest = |dirs: &[PathBuf]| {
            let all = dirs.iter().flat_map(|dir| below(dir)).filter(wanted);
            all.max_by_key(|found| found.major)
        };
        match self {
            Self::Below(dirs) => newest(dirs),
            Self::System => match newest(&["/usr/lib/postgresql".into()]) {
                Some(found) => Some(found),
                None => in_path().await.filter(wanted),
            },
        }
    }
}

fn below(dir: &Path) -> Vec<Programs> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let programs = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let major = Major::of_directory(entry.file_name().to_str()?)?;
        let bin = entry.path().join("bin");
        is_complete(&bin).then_some(Programs { major, bin })
    });
    programs.collect()
}

async fn in_path() -> Option<Programs> {
    let path = env::var_os("PATH")?;
    for dir in env::split_paths(&path) {
        // A link from /usr/bin leads to a directory that has all of them.
        let Some(bin) = fs::canonicalize(dir.join("postgres"))
            .ok()
            .and_then(|program| Some(program.parent()?.to_owned()))
            .filter(|bin| is_complete(bin))
        else {
            continue;
        };
        if let Some(major) = version(&bin.join("postgres")).await {
            return Some(Programs { major, bin });
        }
    }
    None
}

fn is_complete(bin: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| bin.join(program).is_file())
}

/// Asks a program: `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
async fn version(postgres: &Path) -> Option<Major> {
    let said = Command::new(postgres)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .ok()?;
    let said = String::from_utf8_lossy(&said.stdout);
    let version = said.split("(PostgreSQL) ").nth(1)?;
    let digits = version.find(|c: char| !c.is_ascii_digit());
    Major::new(version[..digits.unwrap_or(version.len())].parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_complete_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (version, programs) in [
            ("15", &["postgres", "initdb"][..]),
            ("16", &["postgres", "initdb"]),
            ("17", &["postgres"]),
            ("x", &["postgres", "initdb"]),
        ] {
            let bin = dir.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            for program in programs {
                fs::write(bin.join(program), "").unwrap();
            }
        }
        let dirs = Where::Below(vec![dir.path().join("none"), dir.path().to_owned()]);
        let newest = dirs.find(None).await.unwrap();
        assert_eq!(newest.major, Major::new(16).unwrap());
        assert_eq!(newest.bin, dir.path().join("16/bin"));
        let asked = dirs.find(Major::new(15)).await.unwrap();
        assert_eq!(asked.major, Major::new(15).unwrap());
        assert_eq!(dirs.find(Major::new(17)).await, None);
    }

    #[tokio::test]
    async fn a_program_says_its_version() {
        let installed = Where::System.find(None).await.unwrap();
        let said = version(&installed.bin.join("postgres")).await;
        assert_eq!(said, Some(installed.major));
        assert_eq!(version(Path::new("/bin/true")).await, None);
    }
}
