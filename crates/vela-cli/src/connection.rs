use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use dialoguer::{Confirm, Password};
use secrecy::SecretString;
use vela_control::{Ask, Client, ClientError, HostKey, NeverAsk, ServerAddress, SshOptions};

use crate::commands::identity;
use crate::exit::Exit;
use crate::failure::Failure;

/// A client of `server`; nothing is sent yet.
///
/// `VELA_SSH_CONFIG` names a configuration that SSH reads instead of the user's, as `ssh -F` does.
pub(crate) fn client(server: &ServerAddress) -> Client {
    let options = SshOptions {
        config_file: std::env::var_os("VELA_SSH_CONFIG").map(Into::into),
        ..SshOptions::default()
    };
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let ask: Arc<dyn Ask> = match terminal {
        true => Arc::new(Prompt),
        false => Arc::new(NeverAsk),
    };
    let client = Client::new(server.transport(options, ask));
    match identity::client() {
        Some(name) => client.with_name(&name),
        None => client,
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let hint = error.hint();
        let unreachable = error.is_unreachable();
        let failure = match error {
            ClientError::Api(error) => Failure::from(error),
            other if unreachable => Failure::of(&other).with_exit(Exit::Unreachable),
            other => Failure::of(&other),
        };
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

/// Asks on the terminal. What cannot be asked counts as a no.
#[derive(Debug)]
struct Prompt;

impl Ask for Prompt {
    fn trust(&self, key: &HostKey) -> bool {
        Confirm::new()
            .with_prompt(format!(
                "The {} key of {} is unknown: {}\nTrust it from now on?",
                key.kind, key.host, key.fingerprint
            ))
            .default(false)
            .wait_for_newline(true)
            .interact()
            .unwrap_or(false)
    }

    fn passphrase(&self, key_file: &Path) -> Option<SecretString> {
        Password::new()
            .with_prompt(format!("Passphrase of {}", key_file.display()))
            .allow_empty_password(true)
            .interact()
            .ok()
            .filter(|passphrase| !passphrase.is_empty())
            .map(SecretString::from)
    }
}
