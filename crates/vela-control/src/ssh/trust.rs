use ssh2::{HashType, MethodType, Session};

use super::ask::{Ask, HostKey};
use super::config::{HostConfig, UnknownHosts};
use super::known_hosts::{KnownHosts, Verdict, append};
use crate::transport::{SshError, TransportError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Asks the server for a key of a type that is known already, before the handshake.
///
/// Otherwise a server with several keys might show one that nobody has seen, and look like an impostor.
pub(super) fn prefer_known(session: &Session, known: &KnownHosts, config: &HostConfig) {
    let kinds = known.kinds(&config.known_names());
    if kinds.is_empty() {
        return;
    }
    let Ok(supported) = session.supported_algs(MethodType::HostKey) else {
        return;
    };
    let is_known = |method: &&str| kinds.contains(&key_kind(method));
    let (first, last): (Vec<&str>, Vec<&str>) = supported.into_iter().partition(is_known);
    let preference = [first, last].concat().join(",");
    if let Err(error) = session.method_pref(MethodType::HostKey, &preference) {
        // The server's key is judged all the same; at worst it is one of a type not known.
        tracing::debug!(%error, "cannot ask for a known type of host key");
    }
}

/// Judges the key that the server showed, and asks the user where nobody has vouched for it.
pub(super) fn check(
    session: &Session,
    known: &KnownHosts,
    config: &HostConfig,
    ask: &dyn Ask,
) -> Result<(), TransportError> {
    let names = config.known_names();
    let Some((key, _)) = session.host_key() else {
        let message = "the server showed no key".into();
        return Err(TransportError::Handshake {
            host: config.hostname.clone(),
            source: SshError { code: 0, message },
        });
    };
    let shown = HostKey {
        host: names[0].clone(),
        kind: blob_kind(key),
        fingerprint: fingerprint(session),
    };
    let HostKey {
        host,
        kind,
        fingerprint,
    } = shown.clone();
    match known.check(&names, key) {
        Verdict::Known => Ok(()),
        Verdict::Unknown => {
            let trusted = match config.unknown_hosts {
                UnknownHosts::Accept => true,
                UnknownHosts::Refuse => false,
                UnknownHosts::Ask => ask.trust(&shown),
            };
            match trusted {
                true => remember(config, &shown, key),
                false => Err(TransportError::HostKeyUnknown {
                    host,
                    kind,
                    fingerprint,
                }),
            }
        }
        Verdict::Changed(known) => Err(TransportError::HostKeyChanged {
            host,
            kind,
            fingerprint,
            known,
        }),
        Verdict::Revoked(known) => Err(TransportError::HostKeyRevoked {
            host,
            kind,
            fingerprint,
            known,
        }),
        Verdict::Authority(known) => Err(TransportError::HostKeyAuthority { host, known }),
    }
}

fn remember(config: &HostConfig, shown: &HostKey, key: &[u8]) -> Result<(), TransportError> {
    let Some(file) = config.user_known_hosts.first() else {
        return Ok(());
    };
    append(file, &shown.host, &shown.kind, key, config.hash_known_hosts).map_err(|source| {
        TransportError::KnownHosts {
            path: file.clone(),
            source,
        }
    })
}

fn fingerprint(session: &Session) -> String {
    let hash = session.host_key_hash(HashType::Sha256).unwrap_or_default();
    format!("SHA256:{}", STANDARD_NO_PAD.encode(hash))
}

/// The type that a key says it is: its first field.
fn blob_kind(key: &[u8]) -> String {
    let kind = key.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..length)
    });
    String::from_utf8_lossy(kind.unwrap_or_default()).into_owned()
}

/// The type of key behind a method of signing: RSA keys sign in several ways.
fn key_kind(method: &str) -> &str {
    match method {
        "rsa-sha2-256" | "rsa-sha2-512" => "ssh-rsa",
        other => other,
    }
}
