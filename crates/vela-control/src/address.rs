use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a daemon is: on this machine, or behind a machine's SSH server.
///
/// | written | means |
/// | --- | --- |
/// | `local` | this machine, at its [default socket](crate::default_socket) |
/// | `unix:///path/vela.sock` | this machine, at that socket |
/// | `host`, `user@host`, `user@host:port` | over SSH; `host` may be an alias of `~/.ssh/config` |
/// | `ssh://user@host:port/path/vela.sock` | over SSH, at that socket of the server |
///
/// ```
/// use vela_control::ServerAddress;
///
/// let address: ServerAddress = "deploy@example.com:2222".parse()?;
/// assert_eq!(address.to_string(), "deploy@example.com:2222");
/// assert!("-oProxyCommand=evil".parse::<ServerAddress>().is_err());
/// # Ok::<(), vela_control::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// This machine, at its default socket.
    Local,
    /// This machine, at the given socket.
    Unix(PathBuf),
    /// Another machine, over SSH.
    Ssh {
        /// The user to log in as; without one, SSH's configuration decides.
        user: Option<String>,
        /// A host name, an address, or an alias of SSH's configuration.
        host: String,
        /// The port; without one, SSH's configuration decides.
        port: Option<u16>,
        /// The daemon's socket on that machine; without one, its default.
        socket: Option<PathBuf>,
    },
}

/// Why a text is not a [`ServerAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It says nothing.
    #[error("the server's address is empty")]
    Empty,
    /// The path after `unix://` does not start with a slash.
    #[error("`{address}` does not name a socket by an absolute path")]
    RelativeSocket {
        /// What was given.
        address: String,
    },
    /// A scheme other than `ssh` and `unix`.
    #[error("`{address}` has a scheme other than ssh:// and unix://")]
    Scheme {
        /// What was given.
        address: String,
    },
    /// A user, host or path with characters that a remote shell or `ssh` might take for something else.
    #[error("`{}` is not a {part}", part_text.escape_debug())]
    Part {
        /// Which part: `user name`, `host name`, `socket path`.
        part: &'static str,
        /// What stands there.
        part_text: String,
    },
    /// A port that is not a number from 1 to 65535.
    #[error("`{}` is not a port", port.escape_debug())]
    Port {
        /// What stands there.
        port: String,
    },
}

impl AddressError {
    /// What the user can write instead.
    pub fn hint(&self) -> Option<String> {
        Some("write `user@host[:port]`, an alias of ~/.ssh/config, `ssh://user@host:port[/path/of/vela.sock]`, `local`, or `unix:///path/of/vela.sock`".into())
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<ServerAddress, AddressError> {
        match text {
            "" => return Err(AddressError::Empty),
            "local" => return Ok(ServerAddress::Local),
            _ => {}
        }
        match text.split_once("://") {
            None => ssh(text, None),
            Some(("unix", path)) if path.starts_with('/') && !path.contains('\0') => {
                Ok(ServerAddress::Unix(path.into()))
            }
            Some(("unix", _)) => Err(AddressError::RelativeSocket {
                address: text.into(),
            }),
            Some(("ssh", rest)) => match rest.find('/') {
                None => ssh(rest, None),
                Some(at) if rest.len() == at + 1 => ssh(&rest[..at], None),
                Some(at) => ssh(&rest[..at], Some(&rest[at..])),
            },
            Some(_) => Err(AddressError::Scheme {
                address: text.into(),
            }),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host, port, socket) = match self {
            ServerAddress::Local => return f.write_str("local"),
            ServerAddress::Unix(path) => return write!(f, "unix://{}", path.display()),
            ServerAddress::Ssh {
                user,
                host,
                port,
                socket,
            } => (user, host, port, socket),
        };
        if socket.is_some() {
            f.write_str("ssh://")?;
        }
        if let Some(user) = user {
            write!(f, "{user}@")?;
        }
        // An IPv6 address needs its brackets as soon as something follows it.
        match host.contains(':') {
            true => write!(f, "[{host}]")?,
            false => f.write_str(host)?,
        }
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        match socket {
            Some(socket) => write!(f, "{}", socket.display()),
            None => Ok(()),
        }
    }
}

/// Whether every shell takes `path` for one word and nothing else.
pub(crate) fn is_plain_path(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        path.starts_with('/')
            && path
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/._-+@:,".contains(&b))
    })
}

fn ssh(text: &str, socket: Option<&str>) -> Result<ServerAddress, AddressError> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        // Two colons and no brackets: an IPv6 address without a port.
        None if rest.matches(':').count() > 1 => (rest, None),
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if let Some(user) = user {
        check("user name", user, b"._-+")?;
    }
    check("host name", host, b"._-:%")?;
    let port = port
        .map(|port| match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(AddressError::Port { port: port.into() }),
        })
        .transpose()?;
    if let Some(socket) = socket
        && !is_plain_path(Path::new(socket))
    {
        return Err(AddressError::Part {
            part: "socket path",
            part_text: socket.into(),
        });
    }
    Ok(ServerAddress::Ssh {
        user: user.map(Into::into),
        host: host.into(),
        port,
        socket: socket.map(Into::into),
    })
}

/// Lets through what neither `ssh` takes for an option nor a shell for syntax: the user's ProxyCommand gets these words.
fn check(part: &'static str, text: &str, marks: &[u8]) -> Result<(), AddressError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || marks.contains(&b) || b >= 0x80;
    match !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain) {
        true => Ok(()),
        false => Err(AddressError::Part {
            part,
            part_text: text.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "local",
            "unix:///run/vela/vela.sock",
            "prod",
            "root@1.2.3.4",
            "root@1.2.3.4:2222",
            "[::1]:22",
            "ssh://me@example.com:22/srv/vela.sock",
        ] {
            let address: ServerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let ServerAddress::Ssh { host, port, .. } = "fe80::1%eth0".parse().unwrap() else {
            panic!()
        };
        assert_eq!((host.as_str(), port), ("fe80::1%eth0", None));
        assert_eq!(
            "ssh://me@host".parse::<ServerAddress>().unwrap(),
            "me@host".parse().unwrap()
        );
    }

    #[test]
    fn what_ssh_or_a_shell_could_misread_is_refused() {
        for text in [
            "",
            "-oProxyCommand=x",
            "root@-x",
            "-x@host",
            "a b",
            "host;id",
            "host\n",
            "$(id)@host",
            "host:",
            "host:0",
            "host:65536",
            "host:+22",
            "@host",
            "user@",
            "http://host",
            "unix://relative",
            "ssh://host/run/$(id).sock",
            "ssh://host/run/a b",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text:?}");
        }
    }
}
