use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use vela_control::ServerAddress;

use crate::args::{Console, ConsoleKind};
use crate::exit::Exit;
use crate::failure::Failure;

/// Runs its words, `vela -s <server> ..`, as root where the user may not use the daemon's socket.
const AS_WHO_MAY: &str =
    r#"if "$1" -q -s "$3" apps >/dev/null 2>&1; then exec "$@"; else exec sudo -n "$@"; fi"#;

/// Becomes an `ssh` that runs this same command on the server, where the service is: what it needs to know of the
/// app's credentials never leaves the server.
///
/// Returns only if it can't.
pub(super) fn console(server: &ServerAddress, app: &str, args: &Console) -> Failure {
    let ServerAddress::Ssh {
        user,
        host,
        port,
        socket,
    } = server
    else {
        return Failure::new("only another machine is reached by ssh");
    };
    let mut ssh = Command::new("ssh");
    if let Some(config) = std::env::var_os("VELA_SSH_CONFIG") {
        ssh.arg("-F").arg(config);
    }
    if let Some(user) = user {
        ssh.args(["-l", user]);
    }
    if let Some(port) = port {
        ssh.args(["-p", &port.to_string()]);
    }
    // A terminal there only for one here: `console postgres < script.sql` is a pipe to its end.
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    ssh.arg(if terminal { "-t" } else { "-T" });
    ssh.arg("--").arg(host);
    ssh.arg(remote_command(socket.as_deref(), app, args));
    let error = ssh.exec();
    Failure::because("cannot run ssh", &error).with_exit(Exit::Unreachable)
}

fn remote_command(socket: Option<&Path>, app: &str, args: &Console) -> OsString {
    let server = match socket {
        Some(socket) => format!("unix://{}", socket.display()),
        None => "local".to_owned(),
    };
    let kind = match args.kind {
        ConsoleKind::Postgres => "postgres",
        ConsoleKind::Nats => "nats",
    };
    let mut words = vec!["vela", "-s", &server, "services", "console", kind, app];
    if let Some(database) = &args.database {
        words.extend(["--database", database]);
    }
    if !args.args.is_empty() {
        words.push("--");
        words.extend(args.args.iter().map(String::as_str));
    }
    let mut command = format!("/bin/sh -c {} sh", quoted(AS_WHO_MAY));
    for word in words {
        command.push(' ');
        command.push_str(&quoted(word));
    }
    command.into()
}

/// A word that every shell takes for just that.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_shell_gets_the_words_as_they_are() {
        let args = Console {
            kind: ConsoleKind::Postgres,
            app: crate::args::App { app: None },
            database: Some("it's; rm -rf /".into()),
            args: vec!["-c".into(), "select '$HOME'".into()],
        };
        let command = remote_command(Some(Path::new("/run/v.sock")), "shop", &args);
        // With a `vela` that says what it was given, and refuses the first question.
        let dir = tempfile::tempdir().unwrap();
        for (name, script) in [
            ("vela", "case \"$*\" in *apps) exit 4;; esac; echo wrong"),
            ("sudo", "for word; do echo \"[$word]\"; done"),
        ] {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let output = Command::new("sh")
            .arg("-c")
            .arg(command)
            .env("PATH", path)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "[-n]\n[vela]\n[-s]\n[unix:///run/v.sock]\n[services]\n[console]\n[postgres]\n[shop]\n[--database]\n\
             [it's; rm -rf /]\n[--]\n[-c]\n[select '$HOME']\n"
        );
    }
}
