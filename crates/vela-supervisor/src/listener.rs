use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;

use crate::Instance;
use crate::process::table;

/// Who answers on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOwner {
    /// The instance's own process tree, and nobody else.
    Instance,
    /// A process outside of it, as far as we may see which.
    Stranger {
        /// The process; `None` when it belongs to another user.
        pid: Option<u32>,
    },
    /// Nobody.
    Nobody,
}

/// Who would answer a connection to `127.0.0.1:port`: the instance, or a stranger who took the port
/// between its reservation and the instance's start.
///
/// # Errors
/// When `/proc` cannot be read.
pub async fn listener_of(port: u16, instance: &Instance) -> io::Result<PortOwner> {
    let instance = instance.clone();
    tokio::task::spawn_blocking(move || find(port, &instance))
        .await
        .map_err(io::Error::other)?
}

fn find(port: u16, instance: &Instance) -> io::Result<PortOwner> {
    let mut listeners = listeners("/proc/net/tcp", port)?;
    match self::listeners("/proc/net/tcp6", port) {
        Ok(more) => listeners.extend(more),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // no IPv6
        Err(error) => return Err(error),
    }
    // The kernel prefers the most specific address.
    let Some(best) = listeners.iter().map(|(reach, _)| *reach).min() else {
        return Ok(PortOwner::Nobody);
    };
    let answering = listeners.into_iter().filter(|(reach, _)| *reach == best);
    let mut foreign: HashSet<u64> = answering.map(|(_, inode)| inode).collect();
    for member in instance.tree.members()? {
        for inode in sockets(member.pid) {
            foreign.remove(&inode);
        }
    }
    if foreign.is_empty() {
        return Ok(PortOwner::Instance);
    }
    let holds = |pid: &i32| sockets(*pid).iter().any(|inode| foreign.contains(inode));
    let stranger = table()?
        .into_iter()
        .map(|stat| stat.process.pid)
        .find(holds);
    Ok(PortOwner::Stranger {
        pid: stranger.map(i32::unsigned_abs),
    })
}

/// How specific an address that 127.0.0.1 reaches is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Loopback,
    AnyV4,
    AnyV6,
}

impl Reach {
    /// As `/proc/net/tcp` writes an address: words of four bytes, each in the machine's order.
    fn of(address: &str) -> Option<Self> {
        let loopback = format!("{:08X}", u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets()));
        let mapped = format!("{:08X}", u32::from_ne_bytes([0, 0, 0xff, 0xff]));
        let zeros = |text: &str| text.bytes().all(|byte| byte == b'0');
        match address.len() {
            8 if address == loopback => Some(Self::Loopback),
            8 if zeros(address) => Some(Self::AnyV4),
            32 if zeros(address) => Some(Self::AnyV6),
            32 if zeros(&address[..16]) && address[16..24] == mapped => Self::of(&address[24..]),
            _ => None,
        }
    }
}

/// The listening sockets of a port. The kernel lists listening sockets first, so that the
/// connections of a busy machine are not read.
fn listeners(file: &str, port: u16) -> io::Result<Vec<(Reach, u64)>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(file)?).lines().skip(1) {
        let line = line?;
        let Some(socket) = parse(&line) else { break };
        if socket.port == port
            && let Some(reach) = Reach::of(socket.address)
        {
            found.push((reach, socket.inode));
        }
    }
    Ok(found)
}

struct Listening<'a> {
    address: &'a str,
    port: u16,
    inode: u64,
}

/// `None` for anything but a listening socket.
fn parse(line: &str) -> Option<Listening<'_>> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let listening = fields.nth(1)? == "0A";
    let inode = fields.nth(5)?.parse().ok()?;
    (listening && address.is_ascii()).then_some(Listening {
        address,
        port,
        inode,
    })
}

/// The sockets that a process has open, as far as we may look.
fn sockets(pid: i32) -> Vec<u64> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let inode = |link: std::path::PathBuf| {
        link.to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    };
    fds.flatten()
        .filter_map(|fd| inode(fs::read_link(fd.path()).ok()?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_reaches_localhost() {
        if cfg!(target_endian = "big") {
            return;
        }
        assert_eq!(Reach::of("0100007F"), Some(Reach::Loopback));
        assert_eq!(Reach::of("00000000"), Some(Reach::AnyV4));
        assert_eq!(Reach::of(&"0".repeat(32)), Some(Reach::AnyV6));
        assert_eq!(
            Reach::of("0000000000000000FFFF00000100007F"),
            Some(Reach::Loopback)
        );
        assert_eq!(Reach::of("00000000000000000000000001000000"), None); // ::1
        assert_eq!(Reach::of("0101A8C0"), None); // 192.168.1.1
        assert_eq!(Reach::of(""), None);
    }

    #[test]
    fn reads_a_line_of_the_kernel() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0";
        let socket = parse(line).unwrap();
        assert_eq!(
            (socket.address, socket.port, socket.inode),
            ("0100007F", 8080, 4242)
        );
        assert!(parse(&line.replace(" 0A ", " 01 ")).is_none());
        assert!(parse("garbage").is_none());
    }

    #[tokio::test]
    async fn a_listener_of_our_own_is_a_stranger_to_an_instance() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = crate::InstanceId::random();
        let instance = Instance::new(id, child.id(), jiff::Timestamp::now());
        let owner = listener_of(port, &instance).await.unwrap();
        assert_eq!(
            owner,
            PortOwner::Stranger {
                pid: Some(std::process::id())
            }
        );
        drop(socket);
        assert_eq!(
            listener_of(port, &instance).await.unwrap(),
            PortOwner::Nobody
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
