//! The Unix sockets of apps with `listen = "unix"`, each named by its instance's port.
//!
//! They are in a directory that belongs to the app's user, so anything may be there; it is removed by name and never
//! followed.

use std::io;
use std::path::Path;

use crate::dirs::AppDirs;
use crate::error::StateError;

/// A path of this length fits into no address (`sun_path` has 108 bytes, of which the last is a NUL).
const TOO_LONG: usize = 107;

/// Whether an instance can be given a socket here.
pub(crate) fn fits(dirs: &AppDirs) -> bool {
    dirs.socket(u16::MAX).as_os_str().len() < TOO_LONG
}

/// Removes the socket of an instance that has ended, or that is about to start: programs refuse to bind one that is
/// there.
pub(crate) fn remove(dirs: &AppDirs, port: u16) -> io::Result<()> {
    remove_file(&dirs.socket(port))
}

/// The same where nobody waits for it: it is in nobody's way, and tried again before its name is given again.
pub(crate) fn forget(dirs: &AppDirs, port: u16) {
    if let Err(error) = remove(dirs, port) {
        let path = dirs.socket(port);
        tracing::warn!(path = %path.display(), %error, "could not remove a socket");
    }
}

/// Removes the sockets of all ports but these.
pub(crate) fn sweep(dirs: &AppDirs, kept: &[u16]) -> Result<(), StateError> {
    let sockets = dirs.sockets();
    let entries = match std::fs::read_dir(&sockets) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(StateError::at(&sockets))?,
    };
    for entry in entries {
        let name = entry.map_err(StateError::at(&sockets))?.file_name();
        // Other names are none of ours.
        let port = name.to_str().and_then(|name| name.parse().ok());
        if let Some(port) = port
            && !kept.contains(&port)
        {
            forget(dirs, port);
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::dirs::Dirs;

    #[test]
    fn a_sweep_leaves_what_lives_and_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::new(dir.path()).app(&"tiny".parse().unwrap());
        sweep(&dirs, &[]).unwrap();
        std::fs::create_dir_all(dirs.sockets()).unwrap();
        let kept = dir.path().join("kept");
        std::fs::write(&kept, "").unwrap();
        let _kept = UnixListener::bind(dirs.socket(10_001)).unwrap();
        drop(UnixListener::bind(dirs.socket(10_002)).unwrap());
        std::os::unix::fs::symlink(&kept, dirs.socket(10_003)).unwrap();
        std::fs::create_dir(dirs.socket(10_004)).unwrap();
        std::fs::write(dirs.sockets().join("own"), "").unwrap();
        sweep(&dirs, &[10_001]).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dirs.sockets())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["10001", "10004", "own"]);
        assert!(kept.exists());
        assert!(remove(&dirs, 10_002).is_ok(), "it is gone already");
        assert!(remove(&dirs, 10_004).is_err());
    }

    #[test]
    fn a_path_that_fits_into_no_address_is_told() {
        // With a data directory of as many bytes.
        let fits = |bytes| fits(&Dirs::new("d".repeat(bytes)).app(&"shop".parse().unwrap()));
        let rest = "/apps/shop/sockets/65535".len();
        assert!(fits(106 - rest));
        assert!(!fits(107 - rest));
    }
}
