use std::process::Command;
use std::time::Duration;

use rustix::process::geteuid;
use uuid::Uuid;

/// How often others, who change the accounts at the same time, are given way to.
const ATTEMPTS: u32 = 20;

/// A system account with a shell and no rights, removed with this value.
#[derive(Debug)]
pub struct Account {
    name: String,
}

impl Account {
    /// Makes one, which takes root: nothing as anybody else.
    pub fn new() -> Option<Account> {
        if !geteuid().is_root() {
            return None;
        }
        let name = format!("vela-test-{:.12}", Uuid::new_v4().simple().to_string());
        // No password, and yet not locked: sshd lets nobody into a locked account.
        run(Command::new("useradd")
            .args(["--system", "--no-create-home", "--home-dir", "/nonexistent"])
            .args(["--shell", "/bin/sh", "--password", "*"])
            .arg(&name));
        Some(Account { name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        run(Command::new("userdel").arg("--force").arg(&self.name));
    }
}

fn run(command: &mut Command) {
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        let output = command.output().unwrap();
        if output.status.success() {
            return;
        }
        failed = Some(output);
        std::thread::sleep(Duration::from_millis(250));
    }
    // One failure is enough for a test.
    assert!(std::thread::panicking(), "{command:?}: {failed:?}");
}
