//! `vela setup`: makes this machine a server. Each action says whether it is needed, so that setup can be run again.

mod action;
mod content;
mod plan;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::Setup;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use plan::plan;

pub(crate) fn run(context: &Context, args: Setup) -> Result<(), Failure> {
    let image = args.root.is_some();
    let root = args.root.unwrap_or_else(|| PathBuf::from("/"));
    if !args.dry_run && !image && !rustix::process::geteuid().is_root() {
        return Err(Failure::new("setup needs root")
            .with_exit(Exit::Error)
            .with_hint("`sudo vela setup`; `--dry-run` shows what it would do"));
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::because("cannot find the running vela", &error))?;
    let systemd = !image && Path::new("/run/systemd/system").is_dir();
    let mut changed = false;
    let mut steps = Vec::new();
    for action in plan(&root, &program, image, systemd) {
        let needed = action.is_needed(changed);
        let status = match (needed, args.dry_run) {
            (false, _) => "unchanged",
            (true, true) => "would be done",
            (true, false) => "done",
        };
        if needed && !args.dry_run {
            action.take().map_err(|error| {
                Failure::because(format!("cannot {action}"), &error)
                    .with_state("what was done before stays; `vela setup` can be run again")
            })?;
        }
        changed |= needed && action.changes_the_daemon();
        if context.screen.is_json() {
            steps.push(json!({ "action": action.to_string(), "status": status }));
        } else {
            context.screen.result(&format!("{status}: {action}"))?;
        }
    }
    if context.screen.is_json() {
        return context
            .screen
            .json(&json!({ "steps": steps, "systemd": systemd }));
    }
    let end = match (args.dry_run, systemd) {
        (true, _) => "nothing was changed".to_owned(),
        (false, true) => {
            "the daemon runs; let a user deploy with `usermod -aG vela <user>`".to_owned()
        }
        (false, false) => format!(
            "systemd does not run here: start the daemon with `{} serve`",
            content::PROGRAM
        ),
    };
    context.screen.message(&end);
    Ok(())
}
