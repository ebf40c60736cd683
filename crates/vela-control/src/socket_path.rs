use std::env;
use std::path::PathBuf;

/// The socket of a system-wide daemon.
pub(crate) const SYSTEM_SOCKET: &str = "/run/vela/vela.sock";

/// Where a daemon started by this user listens: `/run/vela/vela.sock` for root, else `vela/vela.sock` in
/// `$XDG_RUNTIME_DIR`, or in `$XDG_STATE_HOME` (`~/.local/state`) where there is no runtime directory.
pub fn default_socket() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return SYSTEM_SOCKET.into();
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_RUNTIME_DIR")
        .or_else(|| absolute("XDG_STATE_HOME"))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|dir| dir.join("vela/vela.sock"))
        .unwrap_or_else(|| SYSTEM_SOCKET.into())
}

/// Where a client of this machine looks for a daemon: its user's own first, then the system's.
#[cfg(feature = "client")]
pub(crate) fn candidates() -> Vec<PathBuf> {
    let own = default_socket();
    match own.as_os_str() == SYSTEM_SOCKET {
        true => vec![own],
        false => vec![own, SYSTEM_SOCKET.into()],
    }
}
