use std::fmt::{self, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::owner::Owner;
use super::settings::Settings;
use super::subjects::subjects;
use crate::OwnerName;

/// The server's configuration file, made of what is on disk and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) text: String,
    /// A user that only this configuration has: whoever can log in as it knows that this is the
    /// one which is in force.
    pub(super) probe: String,
}

impl Config {
    /// An account for each owner, so that none can see another's messages whatever its
    /// permissions are; and in it one user, if the owner is active. An account that lost its user
    /// keeps its data: JetStream forgets nothing of an account that is still configured.
    pub(super) fn new(settings: &Settings, owners: &[(OwnerName, Owner)], store: &Path) -> Self {
        let accounts: String = owners
            .iter()
            .map(|(name, owner)| account(name, owner))
            .collect();
        let Settings {
            port,
            monitor_port,
            max_memory,
            max_storage,
            ..
        } = settings;
        let store = store.to_string_lossy();
        let (store, path) = (quoted(&store), settings.monitor_path());
        let text = |probe: &str| {
            let (probe, hash) = (quoted(probe), quoted(&settings.probe_hash));
            format!(
                "\
# Made by Vela, and made anew whenever something changes. Edits are lost.
server_name: \"vela\"
listen: \"127.0.0.1:{port}\"
http: \"127.0.0.1:{monitor_port}\"
http_base_path: \"/{path}\"
jetstream: {{
  store_dir: {store}
  max_memory_store: {max_memory}
  max_file_store: {max_storage}
}}
accounts: {{
  # Its user changes with every change of this file, and may do nothing.
  \"vela_probe\": {{
    users: [{{
      user: {probe}
      password: {hash}
      permissions: {{ publish: {{ deny: [\">\"] }}, subscribe: {{ deny: [\">\"] }} }}
    }}]
  }}
{accounts}}}
"
            )
        };
        let digest = Sha256::digest(text("").as_bytes());
        let mut probe = String::from("config_");
        for byte in &digest[..8] {
            write!(probe, "{byte:02x}").expect("a string takes everything");
        }
        Self {
            text: text(&probe),
            probe,
        }
    }
}

fn account(name: &OwnerName, owner: &Owner) -> String {
    let jetstream = match owner.jetstream {
        // Disabled, the server lets go of its files.
        _ if owner.purging => "disabled".to_owned(),
        None => "disabled".to_owned(),
        Some(limits) => format!(
            "{{ max_mem: {}, max_file: {} }}",
            limits.memory, limits.storage
        ),
    };
    let users = if owner.active {
        user(name, owner)
    } else {
        String::new()
    };
    let name = quoted(name.as_str());
    format!("  {name}: {{\n    jetstream: {jetstream}\n{users}  }}\n")
}

fn user(name: &OwnerName, owner: &Owner) -> String {
    let own = subjects(name, &owner.subjects);
    // Where answers arrive. The account has no other users who could listen.
    let mut publish = vec!["_INBOX.>"];
    let mut subscribe = vec!["_INBOX.>"];
    publish.extend(own.iter().map(String::as_str));
    subscribe.extend(own.iter().map(String::as_str));
    if owner.jetstream.is_some() {
        // Its interface, acknowledgements and flow control; values and objects, which are kept in
        // streams.
        publish.extend(["$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>"]);
        subscribe.extend(["$JS.EVENT.>", "$KV.>", "$O.>"]);
    }
    let (publish, subscribe) = (list(&publish), list(&subscribe));
    let (name, hash) = (quoted(name.as_str()), quoted(&owner.password_hash));
    format!(
        "    users: [{{
      user: {name}
      password: {hash}
      permissions: {{
        publish: {{ allow: [{publish}] }}
        subscribe: {{ allow: [{subscribe}] }}
        allow_responses: true
      }}
    }}]
"
    )
}

fn list(subjects: &[&str]) -> String {
    let quoted: Vec<_> = subjects
        .iter()
        .map(|&subject| quoted(subject).to_string())
        .collect();
    quoted.join(", ")
}

/// A text between quotes, where nothing but its end means anything.
fn quoted(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        f.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::owner::Limits;
    use super::*;
    use crate::ServiceSpec;

    fn owner(jetstream: bool) -> Owner {
        let mut owner = Owner::new();
        let spec = ServiceSpec {
            subjects: vec!["orders.>".into()],
            jetstream: jetstream.then(crate::JetStream::default),
            ..ServiceSpec::default()
        };
        let limits = Limits {
            storage: 7,
            memory: 5,
        };
        owner.ask(&spec, limits);
        owner
    }

    #[test]
    fn each_change_has_another_probe_and_no_password_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path()).unwrap();
        let name = OwnerName::parse("my-app").unwrap();
        let mut owners = vec![(name, owner(true))];
        let one = Config::new(&settings, &owners, dir.path());
        assert_eq!(one, Config::new(&settings, &owners, dir.path()));
        for secret in [&owners[0].1.password, &settings.probe_password] {
            assert!(!one.text.contains(secret.expose_secret()));
        }
        assert!(one.text.contains("max_file: 7"));
        assert!(
            one.text
                .contains(r#""my-app.>", "my_app", "my_app.>", "orders.>", "$JS.API.>""#)
        );

        owners[0].1.active = false;
        let other = Config::new(&settings, &owners, dir.path());
        assert_ne!(one.probe, other.probe);
        assert!(!other.text.contains("\"my-app.>\"") && other.text.contains("max_file: 7"));

        owners[0].1.purging = true;
        let purged = Config::new(&settings, &owners, dir.path());
        assert!(purged.text.contains("jetstream: disabled"));
    }

    #[test]
    fn without_jetstream_nothing_of_it_is_allowed() {
        let account = account(&OwnerName::parse("shop").unwrap(), &owner(false));
        assert!(account.contains("jetstream: disabled") && !account.contains("$JS"));
    }

    #[test]
    fn a_quoted_text_ends_where_it_ends() {
        assert_eq!(quoted("/a\"b\\c\n").to_string(), r#""/a\"b\\c\n""#);
    }
}
