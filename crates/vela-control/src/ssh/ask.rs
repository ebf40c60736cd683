use std::fmt;
use std::path::Path;

use secrecy::SecretString;

/// What an SSH connection asks its user.
///
/// Called on the connection's own thread, so an implementation may block on a terminal; not called while nothing
/// needs an answer.
pub trait Ask: fmt::Debug + Send + Sync {
    /// Whether to trust a server whose key nobody has vouched for. With `true` it is written to the user's known_hosts.
    fn trust(&self, key: &HostKey) -> bool;

    /// The passphrase of a key file, or nothing to leave that key out.
    fn passphrase(&self, key_file: &Path) -> Option<SecretString>;
}

/// The key that an SSH server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostKey {
    /// The host as it stands in known_hosts: `host` or `[host]:port`.
    pub host: String,
    /// The type, such as `ssh-ed25519`.
    pub kind: String,
    /// The fingerprint as `ssh` prints it: `SHA256:...`.
    pub fingerprint: String,
}

/// Trusts no unknown server and knows no passphrase: for programs without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverAsk;

impl Ask for NeverAsk {
    fn trust(&self, _: &HostKey) -> bool {
        false
    }

    fn passphrase(&self, _: &Path) -> Option<SecretString> {
        None
    }
}
