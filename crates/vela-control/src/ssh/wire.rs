use std::io::{self, Read};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::config::{HostConfig, Proxy};
use super::{SshOptions, SshTarget};
use crate::transport::TransportError;

/// The bytes under an SSH session: a TCP connection, or the standard streams of a proxy.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(TcpStream),
    Proxy(UnixStream),
}

/// The process that a connection goes through. It ends with its streams, and is reaped here.
#[derive(Debug)]
pub(super) struct ProxyProcess {
    child: Child,
    command: String,
}

/// A TCP connection that is being tried while `ssh -G` still runs: its answer is nearly always what was guessed.
pub(super) struct Guess {
    host: String,
    port: u16,
    connected: mpsc::Receiver<io::Result<TcpStream>>,
}

impl Guess {
    /// Connects ahead if the target looks like the name or address of a machine and not like an alias.
    pub(super) fn start(target: &SshTarget, timeout: Duration) -> Option<Guess> {
        let host = target.host.clone();
        let is_machine =
            host.parse::<IpAddr>().is_ok() || host.contains('.') || host == "localhost";
        if !is_machine {
            return None;
        }
        let port = target.port.unwrap_or(22);
        let (sender, connected) = mpsc::channel();
        let name = host.clone();
        let work = move || {
            // Nobody waits for it any more if the guess was wrong.
            sender
                .send(connect(&name, port, timeout))
                .unwrap_or_default();
        };
        thread::Builder::new()
            .name("vela-connect".into())
            .spawn(work)
            .ok()?;
        Some(Guess {
            host,
            port,
            connected,
        })
    }

    fn take(self, config: &HostConfig) -> Option<io::Result<TcpStream>> {
        let right =
            self.host == config.hostname && self.port == config.port && config.proxy.is_none();
        match right {
            true => self.connected.recv().ok(),
            false => None,
        }
    }
}

impl Wire {
    /// Reaches the SSH server that `config` names.
    pub(super) fn open(
        config: &HostConfig,
        options: &SshOptions,
        guess: Option<Guess>,
        timeout: Duration,
    ) -> Result<(Wire, Option<ProxyProcess>), TransportError> {
        if let Some(proxy) = &config.proxy {
            let (wire, process) = through(proxy, config, options)?;
            return Ok((wire, Some(process)));
        }
        let connected = match guess.and_then(|guess| guess.take(config)) {
            Some(connected) => connected,
            None => connect(&config.hostname, config.port, timeout),
        };
        let host = config.hostname.clone();
        let port = config.port;
        match connected {
            Ok(stream) => Ok((Wire::Tcp(stream), None)),
            Err(source) if is_name_failure(&source) => {
                Err(TransportError::Resolve { host, source })
            }
            Err(source) => Err(TransportError::Connect { host, port, source }),
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Wire> {
        match self {
            Wire::Tcp(stream) => stream.try_clone().map(Wire::Tcp),
            Wire::Proxy(stream) => stream.try_clone().map(Wire::Proxy),
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Wire::Tcp(stream) => stream.as_fd(),
            Wire::Proxy(stream) => stream.as_fd(),
        }
    }
}

impl ProxyProcess {
    /// Why the handshake through it failed, if it is the proxy's fault: it ended, and said why.
    pub(super) fn failure(mut self) -> Option<TransportError> {
        // Its streams have ended, or it is silent: in the first case it is about to end.
        let status = (0..60).find_map(|_| {
            let status = self.child.try_wait().ok()?;
            if status.is_none() {
                thread::sleep(Duration::from_millis(5));
            }
            status
        })?;
        if status.success() {
            return None;
        }
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            stderr
                .take(4096)
                .read_to_string(&mut text)
                .unwrap_or_default();
        }
        let detail = match text.trim() {
            "" => status.to_string(),
            text => text.lines().last().unwrap_or_default().to_owned(),
        };
        let command = std::mem::take(&mut self.command);
        Some(TransportError::Proxy { command, detail })
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        // Its streams are closed by now; a proxy that goes on without them is of no use to anybody.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, command = self.command, "cannot end the proxy");
        }
    }
}

fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| io::Error::new(io::ErrorKind::AddrNotAvailable, NameFailure(error)))?;
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                // Requests are small and each is waited for.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Marks that an error came from looking a name up and not from connecting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NameFailure(#[source] io::Error);

fn is_name_failure(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<NameFailure>())
}

/// Starts the proxy with one end of a socket pair as its standard streams.
fn through(
    proxy: &Proxy,
    config: &HostConfig,
    options: &SshOptions,
) -> Result<(Wire, ProxyProcess), TransportError> {
    let (mut command, shown) = match proxy {
        Proxy::Jump(hosts) => jump(hosts, config, options),
        Proxy::Command(line) => {
            let line = expand(line, config);
            let mut command = Command::new("/bin/sh");
            // `exec`, so that ending the process ends the proxy itself.
            command.arg("-c").arg(format!("exec {line}"));
            (command, line)
        }
    };
    let failed = |source| TransportError::Program {
        program: shown.clone(),
        source,
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let stdin = theirs.try_clone().map_err(failed)?;
    let child = command
        .stdin(Stdio::from(OwnedFd::from(stdin)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let process = ProxyProcess {
        child,
        command: shown,
    };
    Ok((Wire::Proxy(ours), process))
}

/// `ssh` to the last jump host over the ones before it, forwarding its standard streams: what `ssh -J` does itself.
fn jump(hosts: &str, config: &HostConfig, options: &SshOptions) -> (Command, String) {
    let mut command = Command::new(&options.program);
    if let Some(file) = &options.config_file {
        command.arg("-F").arg(file);
    }
    let last = match hosts.rsplit_once(',') {
        Some((before, last)) => {
            command.arg("-J").arg(before);
            last
        }
        None => hosts,
    };
    let (user, host, port) = jump_parts(last);
    if let Some(user) = user {
        command.arg("-l").arg(user);
    }
    if let Some(port) = port {
        command.arg("-p").arg(port);
    }
    command
        .arg("-W")
        .arg(format!("[{}]:{}", config.hostname, config.port));
    command.arg("--").arg(host);
    (
        command,
        format!("ssh -W {}:{} {last}", config.hostname, config.port),
    )
}

/// `[ssh://][user@]host[:port]`
fn jump_parts(text: &str) -> (Option<&str>, &str, Option<&str>) {
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    if let Some((host, rest)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (user, host, rest.strip_prefix(':'));
    }
    match rest.split_once(':') {
        Some((host, port)) if !port.contains(':') => (user, host, Some(port)),
        _ => (user, rest, None),
    }
}

/// Fills in what the user's ProxyCommand may refer to. The address was checked to be of plain characters; the rest is
/// the user's own.
fn expand(line: &str, config: &HostConfig) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('h') => out.push_str(&config.hostname),
            Some('p') => out.push_str(&config.port.to_string()),
            Some('r') => out.push_str(&config.user),
            Some('n') => out.push_str(&config.alias),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_are_taken_apart() {
        assert_eq!(jump_parts("bastion"), (None, "bastion", None));
        assert_eq!(
            jump_parts("me@bastion:2222"),
            (Some("me"), "bastion", Some("2222"))
        );
        assert_eq!(
            jump_parts("ssh://me@[::1]:22"),
            (Some("me"), "::1", Some("22"))
        );
        assert_eq!(jump_parts("fe80::1"), (None, "fe80::1", None));
    }
}
