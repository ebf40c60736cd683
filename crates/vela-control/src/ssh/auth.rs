use secrecy::ExposeSecret;
use ssh2::{Agent, PublicKey, Session};

use super::SshOptions;
use super::ask::Ask;
use super::config::HostConfig;
use super::key_file::{KeyFile, public_file};
use crate::transport::{SshError, TransportError};

/// Logs in: with the keys named in the options, then with the agent's, then with the configured key files.
pub(super) fn log_in(
    session: &Session,
    config: &HostConfig,
    options: &SshOptions,
    ask: &dyn Ask,
) -> Result<(), TransportError> {
    let mut attempt = LogIn {
        session,
        config,
        ask,
        tried: Vec::new(),
        offered: Vec::new(),
    };
    let through = attempt.with_files(&options.identity_files)?
        || attempt.with_agent()?
        || attempt.with_files(&config.identity_files)?;
    match through {
        true => Ok(()),
        false => Err(attempt.refused()),
    }
}

struct LogIn<'a> {
    session: &'a Session,
    config: &'a HostConfig,
    ask: &'a dyn Ask,
    tried: Vec<String>,
    /// Public keys that need not be offered again: servers count attempts.
    offered: Vec<Vec<u8>>,
}

impl LogIn<'_> {
    fn with_files(&mut self, files: &[std::path::PathBuf]) -> Result<bool, TransportError> {
        for path in files {
            let key = match KeyFile::read(path) {
                Ok(Some(key)) => key,
                Ok(None) => continue,
                Err(error) => {
                    self.tried.push(format!("{} ({error})", path.display()));
                    continue;
                }
            };
            if key
                .public
                .as_ref()
                .is_some_and(|key| self.offered.contains(key))
            {
                continue;
            }
            let passphrase = match key.encrypted {
                false => None,
                true => match self.ask.passphrase(path) {
                    Some(passphrase) => Some(passphrase),
                    None => {
                        self.tried
                            .push(format!("{} (needs a passphrase)", path.display()));
                        continue;
                    }
                },
            };
            let result = self.session.userauth_pubkey_memory(
                &self.config.user,
                None,
                key.private.expose_secret(),
                passphrase
                    .as_ref()
                    .map(|passphrase| passphrase.expose_secret()),
            );
            self.offered.extend(key.public);
            if self.is_through(result, &key.path.display().to_string())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of the agent's keys that are configured come first, the others only if the configuration lets them.
    fn with_agent(&mut self) -> Result<bool, TransportError> {
        let Some((agent, mut keys)) = self.agent() else {
            return Ok(false);
        };
        let configured = self.config.identity_files.iter();
        let configured: Vec<Vec<u8>> = configured.filter_map(|path| public_file(path)).collect();
        let is_configured = |key: &PublicKey| configured.iter().any(|blob| blob == key.blob());
        if self.config.identities_only {
            keys.retain(is_configured);
        }
        keys.sort_by_key(|key| !is_configured(key));
        for key in keys {
            if self.offered.iter().any(|offered| offered == key.blob()) {
                continue;
            }
            let result = agent.userauth(&self.config.user, &key);
            self.offered.push(key.blob().to_vec());
            if self.is_through(result, &format!("{} of the agent", key.comment()))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn agent(&mut self) -> Option<(Agent, Vec<PublicKey>)> {
        let path = self.config.agent.as_ref()?;
        let open = || {
            let mut agent = self.session.agent()?;
            agent.set_identity_path(path)?;
            agent.connect()?;
            agent.list_identities()?;
            let keys = agent.identities()?;
            Ok::<_, ssh2::Error>((agent, keys))
        };
        open()
            .inspect_err(|error| {
                self.tried.push(format!("the agent ({})", error.message()));
            })
            .ok()
    }

    /// Whether it worked. What ends the connection ends the log in.
    fn is_through(
        &mut self,
        result: Result<(), ssh2::Error>,
        key: &str,
    ) -> Result<bool, TransportError> {
        let error = match result {
            Ok(()) => return Ok(true),
            Err(error) => SshError::from(error),
        };
        match error.code {
            AUTHENTICATION_FAILED | PUBLICKEY_UNVERIFIED => {
                self.tried.push(format!("{key} (refused)"));
                Ok(false)
            }
            SOCKET_DISCONNECT | SOCKET_SEND | SOCKET_RECV | TIMEOUT if self.tried.is_empty() => {
                Err(TransportError::Handshake {
                    host: self.config.hostname.clone(),
                    source: error,
                })
            }
            // Too many attempts: the server hangs up.
            SOCKET_DISCONNECT | SOCKET_SEND | SOCKET_RECV | TIMEOUT => {
                self.tried.push(format!("{key} ({})", error.message));
                Err(self.refused())
            }
            _ => {
                self.tried.push(format!("{key} ({})", error.message));
                Ok(false)
            }
        }
    }

    fn refused(&mut self) -> TransportError {
        TransportError::Auth {
            host: self.config.hostname.clone(),
            user: self.config.user.clone(),
            tried: std::mem::take(&mut self.tried),
        }
    }
}

// libssh2's numbers of its errors.
const SOCKET_SEND: i32 = -7;
const TIMEOUT: i32 = -9;
const SOCKET_DISCONNECT: i32 = -13;
const AUTHENTICATION_FAILED: i32 = -18;
const PUBLICKEY_UNVERIFIED: i32 = -19;
const SOCKET_RECV: i32 = -43;
