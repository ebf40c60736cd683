use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::net::UnixListener;

use super::names::group_id;

/// The longest path that fits a Unix socket's address.
const LONGEST: usize = 107;

/// Why the API's socket could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another daemon listens on it.
    #[error("another daemon listens on {}", socket.display())]
    InUse {
        /// The socket.
        socket: PathBuf,
    },
    /// The path is longer than the kernel allows.
    #[error("the socket path {} is {length} bytes long, {LONGEST} are possible", socket.display())]
    TooLong {
        /// The socket.
        socket: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// There is no such group.
    #[error("there is no group {group}")]
    NoGroup {
        /// The group's name.
        group: String,
    },
    /// Something that is no socket has the path.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The file system refused it.
    #[error("cannot make the socket {}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BindError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            BindError::TooLong { .. } => Some("set a shorter `socket` in server.toml".into()),
            BindError::NoGroup { group } => {
                Some(format!("create it with `groupadd --system {group}`"))
            }
            BindError::InUse { .. } => {
                Some("one daemon is enough for all apps of a machine".into())
            }
            BindError::NotASocket { .. } | BindError::Io { .. } => None,
        }
    }
}

/// Makes the API's socket, open to its owner and to `group` alone: whoever may connect rules the daemon.
///
/// A socket file that nobody listens on any more is replaced; missing directories are made. There is no moment at
/// which others may connect. Does not wait: it is `async` because the listener needs the runtime.
pub async fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, BindError> {
    let at = |source: io::Error| BindError::Io {
        socket: path.to_owned(),
        source,
    };
    let length = path.as_os_str().as_bytes().len();
    if length > LONGEST {
        return Err(BindError::TooLong {
            socket: path.to_owned(),
            length,
        });
    }
    let gid = match group {
        None => None,
        Some(group) => Some(
            group_id(group)
                .map_err(at)?
                .ok_or_else(|| BindError::NoGroup {
                    group: group.to_owned(),
                })?,
        ),
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(at)?;
    }
    clear(path)?;
    let socket = listen(path, gid).map_err(at)?;
    UnixListener::from_std(socket.into()).map_err(at)
}

/// Removes what a daemon that is gone has left.
fn clear(path: &Path) -> Result<(), BindError> {
    let at = |source| BindError::Io {
        socket: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(at)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog is a listener, too.
        Ok(_) => Err(in_use(path)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use(path)),
        Err(error) => Err(at(error)),
    }
}

fn listen(path: &Path, gid: Option<u32>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file takes the socket's own mode over: nobody else's until it has its group.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    if gid.is_some() {
        chown(path, None, gid)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

fn in_use(path: &Path) -> BindError {
    BindError::InUse {
        socket: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_its_owner_and_group_and_replaces_one_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/vela.sock");
        let first = bind(&path, None).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        let again = bind(&path, None).await.unwrap_err();
        assert!(matches!(again, BindError::InUse { .. }), "{again:?}");
        drop(first);
        bind(&path, None).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let error = bind(&path, None).await.unwrap_err();
        assert!(matches!(error, BindError::NotASocket { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn a_path_too_long_and_a_group_that_is_not_there_are_named() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(103)));
        let error = bind(&long, None).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("108 bytes long, 107 are possible"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let error = bind(&dir.path().join("s"), Some("no-such-group"))
            .await
            .unwrap_err();
        assert!(matches!(error, BindError::NoGroup { .. }), "{error:?}");
    }
}
