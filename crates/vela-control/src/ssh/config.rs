use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{SshOptions, SshTarget};
use crate::transport::TransportError;

/// What the user's SSH configuration says of a host, as `ssh -G` resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostConfig {
    /// The name that was asked for.
    pub(super) alias: String,
    pub(super) hostname: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) identity_files: Vec<PathBuf>,
    pub(super) identities_only: bool,
    pub(super) agent: Option<PathBuf>,
    pub(super) user_known_hosts: Vec<PathBuf>,
    pub(super) global_known_hosts: Vec<PathBuf>,
    pub(super) host_key_alias: Option<String>,
    pub(super) unknown_hosts: UnknownHosts,
    pub(super) hash_known_hosts: bool,
    pub(super) proxy: Option<Proxy>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) keepalive: Option<Duration>,
}

/// What to do with a server that nobody has vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownHosts {
    Ask,
    Refuse,
    /// The user's own configuration says so.
    Accept,
}

/// How to get to a host that is not reached directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proxy {
    /// Over these hosts, in this order, separated by commas.
    Jump(String),
    /// By a command of the user's own, for their shell.
    Command(String),
}

/// A running `ssh -G`.
pub(super) struct Resolving {
    child: Option<Child>,
}

impl Resolving {
    /// Starts it; a connection can be tried meanwhile.
    pub(super) fn start(
        target: &SshTarget,
        options: &SshOptions,
    ) -> Result<Resolving, TransportError> {
        let mut command = Command::new(&options.program);
        command.arg("-G").args(arguments(target, options));
        command.arg("--").arg(&target.host);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => Ok(Resolving { child: Some(child) }),
            // No OpenSSH here: its defaults will do.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Resolving { child: None }),
            Err(source) => Err(TransportError::Program {
                program: options.program.display().to_string(),
                source,
            }),
        }
    }

    /// Waits for it.
    pub(super) fn finish(
        self,
        target: &SshTarget,
        options: &SshOptions,
    ) -> Result<HostConfig, TransportError> {
        let home = std::env::var_os("HOME")
            .map(PathBuf::from)
            .unwrap_or_default();
        let local_user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        let refused = |detail: String| TransportError::Config {
            host: target.host.clone(),
            detail,
        };
        let text = match self.child {
            None => defaults(target, &local_user),
            Some(child) => {
                let output = child
                    .wait_with_output()
                    .map_err(|error| refused(error.to_string()))?;
                if !output.status.success() {
                    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return Err(refused(detail));
                }
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
        };
        let surroundings = Surroundings {
            home,
            local_user,
            auth_sock: std::env::var_os("SSH_AUTH_SOCK"),
        };
        let mut config = parse(&target.host, &text, &surroundings)
            .ok_or_else(|| refused("its answer names no host, port and user".into()))?;
        if let Some(known_hosts) = &options.known_hosts {
            config.user_known_hosts = vec![known_hosts.clone()];
            config.global_known_hosts.clear();
        }
        Ok(config)
    }
}

/// The options of a command line of `ssh` that say the same as `target` and `options`.
pub(super) fn arguments(target: &SshTarget, options: &SshOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(file) = &options.config_file {
        arguments.extend(["-F".into(), file.into()]);
    }
    if let Some(port) = target.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = &target.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    arguments
}

impl HostConfig {
    /// The names under which known_hosts may have the server: the first is how it would be added.
    pub(super) fn known_names(&self) -> Vec<String> {
        let hostname = self.hostname.to_lowercase();
        match &self.host_key_alias {
            Some(alias) => vec![alias.to_lowercase()],
            None if self.port == 22 => vec![hostname],
            // `ssh`, too, takes a key that is known for the host without its port.
            None => vec![format!("[{hostname}]:{}", self.port), hostname],
        }
    }
}

struct Surroundings {
    home: PathBuf,
    local_user: String,
    auth_sock: Option<OsString>,
}

fn parse(alias: &str, text: &str, surroundings: &Surroundings) -> Option<HostConfig> {
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut identity_files = Vec::new();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        if key == "identityfile" {
            identity_files.push(value);
        }
        first.entry(key).or_insert(value);
    }
    let set = |key: &str| {
        let value = first.get(key).copied().filter(|value| !value.is_empty());
        value.filter(|value| !value.eq_ignore_ascii_case("none"))
    };
    let seconds = |key: &str| {
        let seconds = set(key)?.parse().ok().filter(|&seconds| seconds > 0)?;
        Some(Duration::from_secs(seconds))
    };
    let yes = |key: &str| set(key).is_some_and(|value| matches!(value, "yes" | "true"));
    let hostname = set("hostname")?.to_owned();
    let user = set("user")?.to_owned();
    let expand = |text: &str| {
        let expanded = text
            .replace("%d", &surroundings.home.to_string_lossy())
            .replace("%u", &surroundings.local_user)
            .replace("%h", &hostname)
            .replace("%n", alias)
            .replace("%r", &user)
            .replace("%%", "%");
        match expanded.strip_prefix("~/") {
            Some(rest) => surroundings.home.join(rest),
            None => PathBuf::from(expanded),
        }
    };
    let files = |key: &str| match set(key) {
        Some(value) => value.split_ascii_whitespace().map(expand).collect(),
        None => Vec::new(),
    };
    let agent = match first.get("identityagent").copied() {
        Some("none") => None,
        None | Some("" | "SSH_AUTH_SOCK") => surroundings.auth_sock.clone().map(PathBuf::from),
        Some(variable) if variable.starts_with('$') => {
            let name = variable.trim_start_matches('$').trim_matches(['{', '}']);
            std::env::var_os(name).map(PathBuf::from)
        }
        Some(path) => Some(expand(path)),
    };
    let proxy = match (set("proxyjump"), set("proxycommand")) {
        (Some(hosts), _) => Some(Proxy::Jump(hosts.into())),
        (None, Some(command)) => Some(Proxy::Command(command.into())),
        (None, None) => None,
    };
    Some(HostConfig {
        alias: alias.to_owned(),
        port: set("port")?.parse().ok()?,
        identity_files: identity_files.into_iter().map(expand).collect(),
        identities_only: yes("identitiesonly"),
        agent,
        user_known_hosts: files("userknownhostsfile"),
        global_known_hosts: files("globalknownhostsfile"),
        host_key_alias: set("hostkeyalias").map(Into::into),
        unknown_hosts: match set("stricthostkeychecking") {
            Some("yes" | "true") => UnknownHosts::Refuse,
            Some("accept-new") => UnknownHosts::Accept,
            // `no` would even take a changed key: that much trust has to be asked for.
            _ => UnknownHosts::Ask,
        },
        hash_known_hosts: yes("hashknownhosts"),
        proxy,
        connect_timeout: seconds("connecttimeout"),
        keepalive: seconds("serveraliveinterval"),
        hostname: hostname.clone(),
        user: user.clone(),
    })
}

/// What `ssh -G` would say with no configuration.
fn defaults(target: &SshTarget, local_user: &str) -> String {
    let host = &target.host;
    let port = target.port.unwrap_or(22);
    let user = target.user.as_deref().unwrap_or(local_user);
    format!(
        "hostname {host}\nport {port}\nuser {user}\n\
         identityfile ~/.ssh/id_ed25519\nidentityfile ~/.ssh/id_ecdsa\nidentityfile ~/.ssh/id_rsa\n\
         userknownhostsfile ~/.ssh/known_hosts ~/.ssh/known_hosts2\n\
         globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> HostConfig {
        let surroundings = Surroundings {
            home: "/home/me".into(),
            local_user: "me".into(),
            auth_sock: Some("/agent".into()),
        };
        parse("prod", text, &surroundings).unwrap()
    }

    const BASE: &str = "user root\nhostname 10.0.0.1\nport 2222\n";

    #[test]
    fn what_ssh_resolved_is_taken_over() {
        let config = read(&format!(
            "{BASE}identityfile ~/.ssh/a\nidentityfile /keys/%n-%r\nidentitiesonly yes\n\
             userknownhostsfile /home/me/.ssh/known_hosts /x\nstricthostkeychecking true\n\
             proxyjump a@b,c\nserveraliveinterval 5\nconnecttimeout none\n"
        ));
        assert_eq!(config.hostname, "10.0.0.1");
        assert_eq!(config.known_names(), ["[10.0.0.1]:2222", "10.0.0.1"]);
        let files = ["/home/me/.ssh/a", "/keys/prod-root"].map(PathBuf::from);
        assert_eq!(config.identity_files, files);
        assert_eq!(config.user_known_hosts.len(), 2);
        assert_eq!(config.unknown_hosts, UnknownHosts::Refuse);
        assert_eq!(config.proxy, Some(Proxy::Jump("a@b,c".into())));
        assert_eq!(config.agent, Some("/agent".into()));
        assert_eq!(config.keepalive, Some(Duration::from_secs(5)));
        assert_eq!(config.connect_timeout, None);
    }

    #[test]
    fn unknown_hosts_are_never_taken_silently_unless_configured() {
        for (value, expected) in [
            ("ask", UnknownHosts::Ask),
            ("false", UnknownHosts::Ask),
            ("accept-new", UnknownHosts::Accept),
            ("true", UnknownHosts::Refuse),
        ] {
            let config = read(&format!("{BASE}stricthostkeychecking {value}\n"));
            assert_eq!(config.unknown_hosts, expected, "{value}");
        }
    }

    #[test]
    fn an_alias_for_keys_has_no_port_and_no_agent_is_none() {
        let config = read(&format!("{BASE}hostkeyalias Prod\nidentityagent none\n"));
        assert_eq!(config.known_names(), ["prod"]);
        assert_eq!(config.agent, None);
    }
}
