use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use vela_protocol::Step;

/// The app's name.
pub(super) const APP: &str = "demo";

/// Its host name.
pub(super) const HOST: &str = "demo.localhost";

/// The release's program. A shell turns into the app's process by exec, so that signals reach the app.
const RUN: &str = "#!/bin/sh\nexec \"$DEMO_BIN\" demo-app \"$@\"\n";

/// What is done to the app, one after another.
pub(super) const ACTS: [Act; 5] = [
    Act {
        kind: "first",
        title: "deploy v1, the first",
        what: What::Deploy {
            version: "v1",
            strategy: "blue-green",
            args: &[],
        },
        fails_at: None,
    },
    Act {
        kind: "blue-green",
        title: "deploy v2, blue-green",
        what: What::Deploy {
            version: "v2",
            strategy: "blue-green",
            args: &[],
        },
        fails_at: None,
    },
    Act {
        kind: "sequential",
        title: "deploy v3, sequential",
        what: What::Deploy {
            version: "v3",
            strategy: "sequential",
            args: &[],
        },
        fails_at: None,
    },
    Act {
        kind: "broken",
        title: "deploy v4, which is broken",
        what: What::Deploy {
            version: "v4",
            strategy: "blue-green",
            args: &["--health-status", "500"],
        },
        fails_at: Some(Step::Health),
    },
    Act {
        kind: "rollback",
        title: "roll back to v2",
        what: What::Rollback,
        fails_at: None,
    },
];

/// One operation of the demo.
#[derive(Debug)]
pub(super) struct Act {
    /// Its name in the report.
    pub(super) kind: &'static str,
    /// Its name on the screen.
    pub(super) title: &'static str,
    pub(super) what: What,
    /// The step at which it must fail; without one it must succeed.
    pub(super) fails_at: Option<Step>,
}

#[derive(Debug)]
pub(super) enum What {
    Deploy {
        version: &'static str,
        strategy: &'static str,
        /// What the app is told to do wrong.
        args: &'static [&'static str],
    },
    Rollback,
}

/// Writes a release directory, and returns where it is.
pub(super) fn write_release(dir: &Path, version: &str) -> io::Result<PathBuf> {
    use std::io::Write as _;
    let release = dir.join(version);
    std::fs::create_dir(&release)?;
    std::fs::write(release.join("VERSION"), version)?;
    let mut run = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(release.join("run"))?;
    run.write_all(RUN.as_bytes())?;
    Ok(release)
}

/// The manifest of a release; nothing if `program` is a path that no manifest can hold.
pub(super) fn manifest(program: &Path, strategy: &str, args: &[&str]) -> Option<String> {
    // In a manifest's values a `$` begins a variable; twice, it stands for itself.
    let program = program.to_str()?.replace('$', "$$");
    let value = |text: &str| toml::Value::String(text.to_owned());
    let args: toml::Value = args.iter().copied().map(value).collect::<Vec<_>>().into();
    Some(format!(
        r#"[app]
name = "{APP}"
domain = "{HOST}"

[deploy]
binary = "run"
args = {args}
health = {{ path = "/health", interval = 1, timeout = 2, retries = 2 }}
# Longer than a slow request takes; what never ends, the WebSockets, is closed by the app after that.
drain = 3
stop_timeout = 5
strategy = "{strategy}"

[env]
DEMO_BIN = {program}
"#,
        program = value(&program),
    ))
}

#[cfg(test)]
mod tests {
    use vela_manifest::{Manifest, Strategy};

    use super::*;

    #[test]
    fn the_manifest_is_valid_whatever_the_program_is_called() {
        let program = Path::new("/opt/a \"b\" $c ${d}\\e\n/vela");
        let text = manifest(program, "sequential", &["--health-status", "500"]).unwrap();
        let manifest = Manifest::parse("Vela.toml", &text).unwrap();
        assert!(manifest.not_yet_deployable().is_empty());
        assert_eq!(manifest.deploy.strategy, Strategy::Sequential);
        assert_eq!(manifest.deploy.args.len(), 2);
        let rendered = manifest.env.values().next().unwrap();
        let rendered = rendered.render(|_| Err("a variable")).unwrap();
        assert_eq!(Path::new(&rendered), program);
    }

    #[test]
    fn a_release_is_a_program_and_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let release = write_release(dir.path(), "v1").unwrap();
        vela_release::entrypoint(&release, Path::new("run")).unwrap();
    }
}
