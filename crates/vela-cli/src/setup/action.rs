use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::NamedTempFile;

use crate::accounts;

/// The unit that setup writes.
const SERVICE: &str = "vela.service";

/// One thing that setup does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The group that may use the daemon's socket.
    Group { name: &'static str },
    /// A user of that group that owns nothing and cannot log in.
    User { name: &'static str },
    /// The binary, from wherever it runs now.
    Install { from: PathBuf, to: PathBuf },
    /// A directory with its mode.
    Directory { path: PathBuf, mode: u32 },
    /// A file; with `keep` one that exists is the administrator's.
    File {
        path: PathBuf,
        content: &'static str,
        mode: u32,
        keep: bool,
    },
    /// systemd reads its units again.
    ReloadUnits,
    /// The daemon starts now and with the machine.
    EnableService,
    /// A running daemon is replaced; the apps go on meanwhile.
    RestartService,
}

impl Action {
    /// Whether there is anything to do, when `changed` says whether an earlier action changed the daemon.
    pub(super) fn is_needed(&self, changed: bool) -> bool {
        match self {
            Action::Group { name } => !accounts::group_exists(name),
            Action::User { name } => !accounts::user_exists(name),
            Action::Install { from, to } => !same_content(from, to),
            Action::Directory { path, mode } => mode_of(path) != Some(*mode),
            Action::File {
                path,
                content,
                keep,
                ..
            } => match fs::read_to_string(path) {
                Ok(found) => !keep && found != *content,
                Err(_) => true,
            },
            Action::ReloadUnits => changed,
            Action::EnableService => {
                !systemctl_says(&["is-enabled", "--quiet"])
                    || !systemctl_says(&["is-active", "--quiet"])
            }
            Action::RestartService => changed && systemctl_says(&["is-active", "--quiet"]),
        }
    }

    /// Whether a running daemon has to be replaced to see it.
    pub(super) fn changes_the_daemon(&self) -> bool {
        matches!(self, Action::Install { .. } | Action::File { .. })
    }

    /// Does it.
    pub(super) fn take(&self) -> io::Result<()> {
        match self {
            Action::Group { name } => run("groupadd", &["--system", name]),
            Action::User { name } => run(
                "useradd",
                &[
                    "--system",
                    "--gid",
                    name,
                    "--no-create-home",
                    "--home-dir",
                    "/var/vela",
                    "--shell",
                    "/usr/sbin/nologin",
                    name,
                ],
            ),
            Action::Install { from, to } => {
                let mut source = fs::File::open(from)?;
                replace(to, 0o755, |file| io::copy(&mut source, file).map(drop))
            }
            Action::Directory { path, mode } => {
                fs::create_dir_all(path)?;
                fs::set_permissions(path, Permissions::from_mode(*mode))
            }
            Action::File {
                path,
                content,
                mode,
                ..
            } => replace(path, *mode, |file| file.write_all(content.as_bytes())),
            Action::ReloadUnits => run("systemctl", &["daemon-reload"]),
            Action::EnableService => run("systemctl", &["enable", "--now", SERVICE]),
            Action::RestartService => run("systemctl", &["restart", SERVICE]),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Group { name } => write!(f, "make the group {name}"),
            Action::User { name } => write!(f, "make the user {name}"),
            Action::Install { from, to } => {
                write!(f, "install {} as {}", from.display(), to.display())
            }
            Action::Directory { path, mode } => {
                write!(f, "make the directory {} (mode {mode:o})", path.display())
            }
            Action::File { path, mode, .. } => {
                write!(f, "write {} (mode {mode:o})", path.display())
            }
            Action::ReloadUnits => f.write_str("systemctl daemon-reload"),
            Action::EnableService => write!(f, "systemctl enable --now {SERVICE}"),
            Action::RestartService => write!(f, "systemctl restart {SERVICE}"),
        }
    }
}

fn same_content(one: &Path, other: &Path) -> bool {
    match (fs::read(one), fs::read(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn mode_of(path: &Path) -> Option<u32> {
    let metadata = fs::metadata(path).ok()?;
    metadata
        .is_dir()
        .then(|| metadata.permissions().mode() & 0o7777)
}

/// Writes a file beside its place and renames it there: a running binary can be replaced, and half a file is never seen.
fn replace(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let mut file = NamedTempFile::new_in(dir)?;
    write(file.as_file_mut())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(dir)?.sync_all()
}

fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "`{program}` ended with {}: {}",
        output.status,
        said.trim()
    )))
}

fn systemctl_says(question: &[&str]) -> bool {
    Command::new("systemctl")
        .args(question)
        .arg(SERVICE)
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::plan::plan;

    #[test]
    fn the_files_of_an_image_are_made_once() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("built");
        fs::write(&program, "binary").unwrap();
        let actions = plan(root.path(), &program, true, false);
        for action in &actions {
            assert!(action.is_needed(false), "{action}");
            action.take().unwrap();
            assert!(!action.is_needed(false), "{action}");
        }
        let mode = |path: &str| {
            fs::metadata(root.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(mode("usr/local/bin/vela"), 0o755);
        assert_eq!(mode("var/vela"), 0o711);
        let unit = fs::read_to_string(root.path().join("etc/systemd/system/vela.service")).unwrap();
        for line in [
            "Type=notify",
            "KillMode=process",
            "Delegate=yes",
            "FileDescriptorStoreMax=64",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_administrators_configuration_is_kept_and_the_unit_is_not() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("built");
        fs::write(&program, "binary").unwrap();
        for action in plan(root.path(), &program, true, false) {
            action.take().unwrap();
        }
        fs::write(root.path().join("etc/vela/server.toml"), "# mine\n").unwrap();
        fs::write(
            root.path().join("etc/systemd/system/vela.service"),
            "# old\n",
        )
        .unwrap();
        fs::write(&program, "newer binary").unwrap();
        let needed: Vec<String> = plan(root.path(), &program, true, false)
            .iter()
            .filter(|action| action.is_needed(false))
            .map(ToString::to_string)
            .collect();
        assert_eq!(needed.len(), 2, "{needed:?}");
        assert!(needed[0].starts_with("install "), "{needed:?}");
        assert!(needed[1].contains("vela.service"), "{needed:?}");
    }

    #[test]
    fn the_configuration_that_is_written_is_valid() {
        let text = super::super::content::SERVER_TOML;
        let config = vela_manifest::ServerConfig::parse("server.toml", text);
        assert!(config.unwrap().not_yet_supported().is_empty());

        // What is commented out must be right too.
        let is_sentence = |line: &&str| !line.contains(" = ") && !line.starts_with("# [");
        let bare: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(bare) if !is_sentence(&line) => bare,
                _ => line,
            })
            .collect();
        let config = vela_manifest::ServerConfig::parse("server.toml", &bare.join("\n")).unwrap();
        assert!(config.proxy.access_log.is_some() && config.proxy.metrics.is_some());
    }
}
