//! Without root: the server runs as the user of its host program, from programs already there.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::process::geteuid;
use tempfile::TempDir;
use vela_services::{Children, Postgres, Provisioner, Runner, ServiceError, ServiceSpec};

use crate::world::{app, chain, one, owner, server};

/// `nobody`, of all systems.
const NOBODY: u32 = 65534;
/// Says that this is the program that was started again as somebody else, and where.
const AGAIN: &str = "VELA_SERVICES_TEST_AGAIN";

#[test]
fn it_needs_no_root_but_to_install() {
    if let Some(dir) = std::env::var_os(AGAIN) {
        return as_anybody(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    // A copy, where everybody may run it.
    let program = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["--exact", "unprivileged::it_needs_no_root_but_to_install"])
        .env(AGAIN, dir.path())
        .current_dir("/");
    if geteuid().is_root() {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::main(flavor = "current_thread")]
async fn as_anybody(dir: &Path) {
    assert!(!geteuid().is_root());
    let runner = Arc::new(Children::new(dir.join("logs")));
    let postgres: PathBuf = dir.join("postgres");
    let postgres = Postgres::new(postgres, Arc::clone(&runner) as Arc<dyn Runner>);
    let bindings = postgres
        .ensure(&owner("mine"), &ServiceSpec::default())
        .await
        .unwrap();
    let client = app(&bindings).await.unwrap();
    assert_eq!(one(&client, "SELECT current_user::text").await, "mine");

    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().mode() & 0o777;
    assert_eq!(mode("postgres"), 0o700);
    assert_eq!(mode("postgres/15/data"), 0o700);
    let ident = fs::read_to_string(dir.join("postgres/15/pg_ident.conf")).unwrap();
    assert!(!ident.contains("root"), "{ident}");

    let mut spec = ServiceSpec::default();
    spec.version = Some("99".into());
    let error = postgres.ensure(&owner("other"), &spec).await.unwrap_err();
    let ServiceError::NotInstalled { command, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(command.starts_with("sudo apt-get install"), "{command}");
    assert!(chain(&error).contains("only root"), "{}", chain(&error));
    runner.stop(&server("15")).await.unwrap();
}
