use std::path::{Path, PathBuf};

use super::action::Action;
use super::content::{PROGRAM, SERVER_TOML, UNIT};

/// What makes a server of the machine whose files are below `root`, in order. Of an `image` only the files are made.
pub(super) fn plan(root: &Path, program: &Path, image: bool, systemd: bool) -> Vec<Action> {
    let at = |path: &str| -> PathBuf { root.join(path.trim_start_matches('/')) };
    let mut plan = Vec::new();
    if !image {
        plan.push(Action::Group { name: "vela" });
        plan.push(Action::User { name: "vela" });
    }
    plan.push(Action::Install {
        from: program.to_owned(),
        to: at(PROGRAM),
    });
    plan.push(Action::Directory {
        path: at("/etc/vela"),
        mode: 0o755,
    });
    plan.push(Action::Directory {
        // Apps reach their own directories in it, and list nothing.
        path: at("/var/vela"),
        mode: 0o711,
    });
    plan.push(Action::File {
        path: at("/etc/vela/server.toml"),
        content: SERVER_TOML,
        mode: 0o644,
        keep: true,
    });
    plan.push(Action::File {
        path: at("/etc/systemd/system/vela.service"),
        content: UNIT,
        mode: 0o644,
        keep: false,
    });
    if systemd {
        plan.push(Action::ReloadUnits);
        // One that runs is replaced before one that does not is started: never both.
        plan.push(Action::RestartService);
        plan.push(Action::EnableService);
    }
    plan
}
