use std::path::{Path, PathBuf};

use super::tuning::Tuning;

/// The name of the superuser in the server, and of the map that lets system users be it.
pub(super) const SUPERUSER: &str = "postgres";
const MAP: &str = "vela";

/// What the server is told by its three files, which lie outside its own directories: it reads
/// them, and can't change them.
#[derive(Debug)]
pub(super) struct Config<'a> {
    pub(super) data: &'a Path,
    /// The directory of the socket.
    pub(super) run: &'a Path,
    /// The directory of the three files.
    pub(super) dir: &'a Path,
    pub(super) port: u16,
    /// The system users who may be the superuser.
    pub(super) superusers: &'a [&'a str],
}

impl Config<'_> {
    pub(super) fn postgresql(&self, tuning: Tuning) -> String {
        let mut file = format!(
            "# Written by Vela at each start. Settings of your own go to {}.\n\
             # What initdb found out about the machine:\n\
             include {}\n\n\
             # From the memory of the machine:\n",
            quoted(self.own()),
            quoted(self.data.join("postgresql.conf"))
        );
        let mut add = |name: &str, value: String| {
            file.push_str(&format!("{name} = {value}\n"));
        };
        for (name, value) in tuning.settings() {
            add(name, quoted(value));
        }
        add("\ninclude_if_exists", quoted(self.own()));
        add(
            "\n# One address: a second one would make the first optional.\nlisten_addresses",
            quoted("127.0.0.1"),
        );
        for (name, value) in [
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.run.display().to_string()),
            ("unix_socket_permissions", "0700".into()),
            ("hba_file", self.hba_file().display().to_string()),
            ("ident_file", self.ident_file().display().to_string()),
            ("password_encryption", "scram-sha-256".into()),
            // To the standard error, and never the text of a statement: it may hold a password.
            ("log_destination", "stderr".into()),
            ("logging_collector", "off".into()),
            ("log_statement", "none".into()),
            ("log_min_error_statement", "panic".into()),
            ("log_line_prefix", "%m [%p] %q%u@%d ".into()),
        ] {
            add(name, quoted(value));
        }
        file
    }

    /// Who may connect how. The first line that fits decides, and what fits none is refused.
    pub(super) fn hba(&self) -> String {
        format!(
            "# Written by Vela at each start.\n\
             local all {SUPERUSER} peer map={MAP}\n\
             host all {SUPERUSER} all reject\n\
             host all all 127.0.0.1/32 scram-sha-256\n"
        )
    }

    pub(super) fn ident(&self) -> String {
        let mut file = "# Written by Vela at each start.\n".to_owned();
        for user in self.superusers {
            file.push_str(&format!("{MAP} \"{user}\" {SUPERUSER}\n"));
        }
        file
    }

    pub(super) fn postgresql_file(&self) -> PathBuf {
        self.dir.join("postgresql.conf")
    }

    pub(super) fn hba_file(&self) -> PathBuf {
        self.dir.join("pg_hba.conf")
    }

    pub(super) fn ident_file(&self) -> PathBuf {
        self.dir.join("pg_ident.conf")
    }

    /// The operator's file, which is never written from here.
    fn own(&self) -> PathBuf {
        self.dir.join("local.conf")
    }
}

fn quoted(value: impl AsRef<Path>) -> String {
    let value = value.as_ref().display().to_string();
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_end_their_quotes() {
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's \\ here"), "'it''s \\\\ here'");
    }

    #[test]
    fn what_the_operator_sets_can_break_neither_port_nor_secrecy() {
        let path = Path::new("/x");
        let config = Config {
            data: path,
            run: path,
            dir: path,
            port: 20001,
            superusers: &["root"],
        };
        let file = config.postgresql(Tuning::of(1 << 30));
        let own = file.find("include_if_exists").unwrap();
        assert!(file.find("shared_buffers").unwrap() < own);
        for name in ["listen_addresses", "port =", "log_statement", "hba_file"] {
            assert!(file.find(name).unwrap() > own, "{name}");
        }
    }
}
