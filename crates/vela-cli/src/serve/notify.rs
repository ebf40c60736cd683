use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use sd_notify::NotifyState;
use tracing::warn;

/// Tells systemd that requests are answered. Without systemd this, and all of this file, does nothing.
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tells systemd that the daemon is on its way out.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Puts a listener into systemd's fd store, where its queue of connections survives a crash and a restart.
pub(super) fn store(address: SocketAddr, listener: &TcpListener) {
    let name = name(address);
    let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
    if let Err(error) = sd_notify::notify_with_fds(&state, &[listener.as_fd()]) {
        warn!(%address, %error, "systemd did not take the listener: a restart of the daemon will refuse connections for a moment");
    }
}

/// Takes a listener that is no longer wanted out of the store.
pub(super) fn forget(address: SocketAddr) {
    send(&[
        NotifyState::FdStoreRemove,
        NotifyState::FdName(&name(address)),
    ]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot talk to systemd");
    }
}

/// A name without the colon that separates names in systemd's protocol.
fn name(address: SocketAddr) -> String {
    address.to_string().replace(':', "_")
}
