use std::time::Duration;

use ssh2::Session;

use super::ask::Ask;
use super::config::Resolving;
use super::known_hosts::KnownHosts;
use super::wire::{Guess, ProxyProcess, Wire};
use super::{SshOptions, SshTarget, auth, trust};
use crate::transport::{SshError, TransportError};

/// A session that is logged in. Fields drop in order: the session says goodbye before its proxy ends.
pub(super) struct LoggedIn {
    pub(super) session: Session,
    /// The same socket as the session's, to wait on.
    pub(super) wire: Wire,
    #[expect(
        dead_code,
        reason = "held for the process to live as long as the session"
    )]
    pub(super) proxy: Option<ProxyProcess>,
    pub(super) keepalive: Duration,
    pub(super) hostname: String,
}

/// Connects, judges the server's key and logs in. Blocks.
pub(super) fn log_in(
    target: &SshTarget,
    options: &SshOptions,
    ask: &dyn Ask,
) -> Result<LoggedIn, TransportError> {
    let resolving = Resolving::start(target, options)?;
    let guess = Guess::start(target, options.connect_timeout);
    let config = resolving.finish(target, options)?;
    let timeout = config.connect_timeout.unwrap_or(options.connect_timeout);
    let files = config
        .user_known_hosts
        .iter()
        .chain(&config.global_known_hosts);
    let known = KnownHosts::read(files)
        .map_err(|(path, source)| TransportError::KnownHosts { path, source })?;
    let (wire, proxy) = Wire::open(&config, options, guess, timeout)?;

    let handshake = |error: ssh2::Error| TransportError::Handshake {
        host: config.hostname.clone(),
        source: SshError::from(error),
    };
    let copy = wire.try_clone().map_err(|source| TransportError::Local {
        host: config.hostname.clone(),
        source,
    })?;
    let mut session = Session::new().map_err(handshake)?;
    session.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    session.set_tcp_stream(copy);
    trust::prefer_known(&session, &known, &config);
    if let Err(error) = session.handshake() {
        let of_proxy = proxy.and_then(ProxyProcess::failure);
        return Err(of_proxy.unwrap_or_else(|| handshake(error)));
    }
    trust::check(&session, &known, &config, ask)?;
    auth::log_in(&session, &config, options, ask)?;
    // From here on the pump waits, for all channels at once.
    session.set_timeout(0);
    session.set_blocking(false);
    Ok(LoggedIn {
        session,
        wire,
        proxy,
        keepalive: config.keepalive.unwrap_or(options.keepalive),
        hostname: config.hostname,
    })
}
