use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::ServerUser;

/// The system user `name`, made when missing: no password, no shell, a group of its own. Blocks.
pub(super) fn ensure(name: &str, home: &Path) -> io::Result<ServerUser> {
    // useradd does not wait for its own lock.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

    if let Some(user) = lookup(name)? {
        return Ok(user);
    }
    let made = Command::new("useradd")
        .args(["--system", "--user-group", "--no-create-home"])
        .args(["--shell", "/usr/sbin/nologin", "--home-dir"])
        .arg(home)
        .args(["--", name])
        .stdin(Stdio::null())
        .output()?;
    // Another program may have made it meanwhile: what counts is whether it is there.
    lookup(name)?.ok_or_else(|| {
        let said = String::from_utf8_lossy(&made.stderr);
        io::Error::other(format!("useradd: {}", said.trim()))
    })
}

fn lookup(name: &str) -> io::Result<Option<ServerUser>> {
    let users = fs::read_to_string("/etc/passwd")?;
    Ok(users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut ids = fields.skip(1);
        Some(ServerUser {
            name: name.to_owned(),
            uid: ids.next()?.parse().ok()?,
            gid: ids.next()?.parse().ok()?,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_is_made_up() {
        let root = lookup("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(lookup("no-such-user-here").unwrap(), None);
        assert_eq!(lookup("roo").unwrap(), None);
    }
}
