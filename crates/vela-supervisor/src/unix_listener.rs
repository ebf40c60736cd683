use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::listener::{holder, own_sockets};
use crate::{Instance, PortOwner};

/// What the kernel sets for a socket that accepts connections (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 1 << 16;

/// Who listens on the Unix socket that was bound to `path`: the instance, or only others.
///
/// A socket is known by the path that its program has given, so one that was bound by another name, relative or through
/// a link, is nobody's.
///
/// # Errors
/// When `/proc` cannot be read.
pub async fn unix_listener_of(
    path: impl Into<PathBuf>,
    instance: &Instance,
) -> io::Result<PortOwner> {
    let (path, instance) = (path.into(), instance.clone());
    tokio::task::spawn_blocking(move || find(&path, &instance))
        .await
        .map_err(io::Error::other)?
}

fn find(path: &Path, instance: &Instance) -> io::Result<PortOwner> {
    let bound = listeners(path)?;
    if bound.is_empty() {
        return Ok(PortOwner::Nobody);
    }
    // One whose file is gone has the path too: not all of them need be the instance's.
    match own_sockets(instance)?.is_disjoint(&bound) {
        false => Ok(PortOwner::Instance),
        true => Ok(PortOwner::Stranger {
            pid: holder(&bound)?,
        }),
    }
}

fn listeners(path: &Path) -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let mut lines = BufReader::new(File::open("/proc/net/unix")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        found.extend(parse(&line, path));
        line.clear();
    }
    Ok(found)
}

/// The inode, if the line is of a socket that listens at `path`. A path may be any bytes.
fn parse(line: &[u8], path: &Path) -> Option<u64> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // The columns before the path are of a fixed width but for the inode, which is padded.
    let fields = line.strip_suffix(path.as_os_str().as_bytes())?;
    let mut fields = OsStr::from_bytes(fields).to_str()?.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let inode = fields.nth(2)?.parse().ok()?;
    (flags & ACCEPTS != 0 && fields.next().is_none()).then_some(inode)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn reads_a_line_of_the_kernel() {
        let line =
            b"0000000000000000: 00000002 00000000 00010000 0001 01 66017481 /run/my app.sock\n";
        let read = |line: &[u8], path: &str| parse(line, Path::new(path));
        assert_eq!(read(line, "/run/my app.sock"), Some(66017481));
        for other in [
            "app.sock",
            "/run/app.sock",
            "/run/my app",
            "/run/my app.sock2",
        ] {
            assert_eq!(read(line, other), None, "{other}");
        }
        let connected = line.map(|byte| if byte == b'1' { b'0' } else { byte });
        assert_eq!(read(&connected, "/run/my app.sock"), None);
        assert_eq!(
            read(b"0: 3 0 0 0001 03 66017491\n", "/run/my app.sock"),
            None
        );
        assert_eq!(read(b"", "/run/my app.sock"), None);
    }

    #[tokio::test]
    async fn a_listener_of_our_own_is_a_stranger_to_an_instance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = crate::InstanceId::random();
        let instance = Instance::new(id, child.id(), jiff::Timestamp::now());
        let owner = async || unix_listener_of(&path, &instance).await.unwrap();
        assert_eq!(owner().await, PortOwner::Nobody);
        let socket = UnixListener::bind(&path).unwrap();
        let pid = Some(std::process::id());
        assert_eq!(owner().await, PortOwner::Stranger { pid });
        drop(socket);
        assert_eq!(owner().await, PortOwner::Nobody);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
