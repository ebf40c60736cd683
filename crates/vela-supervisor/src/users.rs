//! System users: whom an instance runs as.
//!
//! The functions block (they read `/etc/passwd` and may run `useradd`): call them through
//! `spawn_blocking` from async code.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its primary group's number.
    pub gid: u32,
    /// The further groups it is a member of.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: PathBuf,
}

/// Why a user cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// Not a name that `useradd` takes.
    #[error("`{name}` is not a valid user name")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// Only root makes users.
    #[error("cannot create the user {name} without root")]
    NotRoot {
        /// The name.
        name: String,
    },
    /// The user database could not be read.
    #[error("cannot look up the user {name}")]
    Lookup {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// `useradd` could not be run.
    #[error("cannot run useradd for the user {name}")]
    RunUseradd {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// `useradd` failed.
    #[error("useradd failed to create the user {name}: {said}")]
    Useradd {
        /// The name.
        name: String,
        /// The first line of its error output.
        said: String,
    },
}

/// The user of that name, if there is one: from `/etc/passwd`, else as `getent` knows it.
///
/// # Errors
/// When `/etc/passwd` or `/etc/group` cannot be read.
pub fn lookup(name: &str) -> Result<Option<User>, UserError> {
    if !is_valid(name) {
        return Err(UserError::InvalidName {
            name: name.to_owned(),
        });
    }
    let failed = |source| UserError::Lookup {
        name: name.to_owned(),
        source,
    };
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(failed)?;
    let found = find_passwd(&passwd, name).or_else(|| find_passwd(&getent(name)?, name));
    let Some(mut user) = found else {
        return Ok(None);
    };
    let group = std::fs::read_to_string("/etc/group").map_err(failed)?;
    user.groups = groups_of(&group, name);
    Ok(Some(user))
}

/// The system user of that name, made when there is none: no password, no login shell, a group of
/// its own, `home` as its home (not created). Idempotent.
///
/// # Errors
/// When there is no such user and it cannot be made, for example without root.
pub fn ensure_system_user(name: &str, home: &Path) -> Result<User, UserError> {
    // useradd refuses to wait for its lock on /etc/passwd.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());

    if let Some(user) = lookup(name)? {
        return Ok(user);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(UserError::NotRoot {
            name: name.to_owned(),
        });
    }
    let output = Command::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
        ])
        .args([
            OsStr::new("--home-dir"),
            home.as_os_str(),
            OsStr::new("--"),
            OsStr::new(name),
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| UserError::RunUseradd {
            name: name.to_owned(),
            source,
        })?;
    // Another program may have made it meanwhile: what counts is whether it is there.
    lookup(name)?.ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no reason given").to_owned();
        UserError::Useradd {
            name: name.to_owned(),
            said,
        }
    })
}

fn is_valid(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=32).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn find_passwd(passwd: &str, name: &str) -> Option<User> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find(|f| f.clone().next() == Some(name))?;
    let uid = fields.nth(2)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.into();
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        groups: Vec::new(),
        home,
    })
}

/// Users of LDAP and the like; a system without `getent` has none.
fn getent(name: &str) -> Option<String> {
    let mut command = Command::new("getent");
    let output = command
        .args(["passwd", name])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn groups_of(group: &str, name: &str) -> Vec<u32> {
    let member = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields
            .next()?
            .split(',')
            .any(|member| member == name)
            .then_some(gid)
    };
    group.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_root_and_not_nobody_else() {
        let root = lookup("root").unwrap().expect("every system has root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(lookup("no-such-user-here").unwrap(), None);
    }

    #[test]
    fn hostile_names_reach_no_command() {
        for name in [
            "",
            "-o",
            "a b",
            "a:b",
            "a/b",
            "a\nb",
            "1st",
            &"x".repeat(33),
        ] {
            assert!(
                matches!(lookup(name), Err(UserError::InvalidName { .. })),
                "{name:?}"
            );
            let made = ensure_system_user(name, Path::new("/nonexistent"));
            assert!(
                matches!(made, Err(UserError::InvalidName { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn reads_passwd_and_group_lines() {
        let user = find_passwd("xvela:x:1:1::/x:/s\nvela:x:12:34:Vela:/var/v:/s\n", "vela");
        let user = user.unwrap();
        assert_eq!(
            (user.uid, user.gid, user.home),
            (12, 34, PathBuf::from("/var/v"))
        );
        assert_eq!(find_passwd("vela:x:broken\n", "vela"), None);
        assert_eq!(
            groups_of("a:x:1:vela\nb:x:2:velax,y\nc:x:3:y,vela\nd:x\n", "vela"),
            [1, 3]
        );
    }

    #[test]
    fn making_a_user_needs_root() {
        if rustix::process::geteuid().is_root() {
            return; // tests/users.rs covers root
        }
        let made = ensure_system_user("vela-test-absent", Path::new("/nonexistent"));
        assert!(matches!(made, Err(UserError::NotRoot { .. })));
    }
}
