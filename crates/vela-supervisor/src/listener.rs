use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Instance;
use crate::process::table;

/// Who answers on a port, or on a Unix socket.
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

/// Who would answer a connection to `address`, which is one of this machine: the instance, or a
/// stranger who took the port between its reservation and the instance's start.
///
/// # Errors
/// When `/proc` cannot be read.
pub async fn listener_of(address: SocketAddr, instance: &Instance) -> io::Result<PortOwner> {
    let instance = instance.clone();
    tokio::task::spawn_blocking(move || find(address, &instance))
        .await
        .map_err(io::Error::other)?
}

/// The TCP addresses that the instance's processes listen on, sorted, as far as we may look.
///
/// # Errors
/// When `/proc` cannot be read.
pub async fn listening_on(instance: &Instance) -> io::Result<Vec<SocketAddr>> {
    let instance = instance.clone();
    tokio::task::spawn_blocking(move || all_of(&instance))
        .await
        .map_err(io::Error::other)?
}

fn all_of(instance: &Instance) -> io::Result<Vec<SocketAddr>> {
    let own = own_sockets(instance)?;
    let mut found: Vec<_> = listeners()?
        .into_iter()
        .filter(|one| own.contains(&one.inode))
        .map(|one| one.address)
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

pub(crate) fn own_sockets(instance: &Instance) -> io::Result<HashSet<u64>> {
    let members = instance.tree.members()?;
    Ok(members
        .into_iter()
        .flat_map(|member| sockets(member.pid))
        .collect())
}

fn find(address: SocketAddr, instance: &Instance) -> io::Result<PortOwner> {
    let listeners: Vec<_> = listeners()?
        .into_iter()
        .filter(|one| one.address.port() == address.port())
        .filter_map(|one| Some((Reach::of(one.address.ip(), address.ip())?, one.inode)))
        .collect();
    // The kernel prefers the most specific address.
    let Some(best) = listeners.iter().map(|(reach, _)| *reach).min() else {
        return Ok(PortOwner::Nobody);
    };
    let answering = listeners.into_iter().filter(|(reach, _)| *reach == best);
    let mut foreign: HashSet<u64> = answering.map(|(_, inode)| inode).collect();
    for inode in own_sockets(instance)? {
        foreign.remove(&inode);
    }
    if foreign.is_empty() {
        return Ok(PortOwner::Instance);
    }
    Ok(PortOwner::Stranger {
        pid: holder(&foreign)?,
    })
}

/// A process that has one of these sockets.
pub(crate) fn holder(inodes: &HashSet<u64>) -> io::Result<Option<u32>> {
    let holds = |pid: &i32| sockets(*pid).iter().any(|inode| inodes.contains(inode));
    let mut pids = table()?.into_iter().map(|stat| stat.process.pid);
    Ok(pids.find(holds).map(i32::unsigned_abs))
}

/// How specific an address is that another one reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Itself,
    AnyV4,
    AnyV6,
}

impl Reach {
    fn of(listening: IpAddr, asked: IpAddr) -> Option<Self> {
        match listening.to_canonical() {
            same if same == asked => Some(Self::Itself),
            IpAddr::V4(ip) if ip.is_unspecified() && asked.is_ipv4() => Some(Self::AnyV4),
            IpAddr::V6(ip) if ip.is_unspecified() => Some(Self::AnyV6),
            _ => None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

/// Every TCP socket that listens.
fn listeners() -> io::Result<Vec<Listening>> {
    let mut found = read("/proc/net/tcp")?;
    match read("/proc/net/tcp6") {
        Ok(more) => found.extend(more),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // no IPv6
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// The kernel lists listening sockets first, so that the connections of a busy machine are not read.
fn read(file: &str) -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(file)?).lines().skip(1) {
        let line = line?;
        let Some(socket) = parse(&line) else { break };
        found.push(socket);
    }
    Ok(found)
}

/// `None` for anything but a listening socket.
fn parse(line: &str) -> Option<Listening> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let is_listening = fields.nth(1)? == "0A";
    let inode = fields.nth(5)?.parse().ok()?;
    is_listening.then_some(Listening {
        address: SocketAddr::new(ip(address)?, port),
        inode,
    })
}

/// As `/proc/net/tcp` writes an address: words of four bytes, each in the machine's order.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        Some(
            u32::from_str_radix(text.get(at..at + 8)?, 16)
                .ok()?
                .to_ne_bytes(),
        )
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
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
        let reach = |listening: &str, asked: &str| {
            Reach::of(listening.parse().unwrap(), asked.parse().unwrap())
        };
        for (listening, v4, v6) in [
            ("127.0.0.1", Some(Reach::Itself), None),
            ("0.0.0.0", Some(Reach::AnyV4), None),
            ("::1", None, Some(Reach::Itself)),
            ("::", Some(Reach::AnyV6), Some(Reach::AnyV6)),
            ("::ffff:127.0.0.1", Some(Reach::Itself), None),
            ("::ffff:0.0.0.0", Some(Reach::AnyV4), None),
            ("192.168.1.1", None, None),
        ] {
            assert_eq!(reach(listening, "127.0.0.1"), v4, "{listening}");
            assert_eq!(reach(listening, "::1"), v6, "{listening}");
        }
    }

    #[test]
    fn reads_a_line_of_the_kernel() {
        if cfg!(target_endian = "big") {
            return;
        }
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0";
        let read = |address: &str| Some(parse(&line.replacen("0100007F", address, 1))?.address);
        assert_eq!(parse(line).unwrap().inode, 4242);
        for (kernel, address) in [
            ("0100007F", "127.0.0.1:8080"),
            ("0101A8C0", "192.168.1.1:8080"),
            ("00000000000000000000000001000000", "[::1]:8080"),
            (
                "0000000000000000FFFF00000100007F",
                "[::ffff:127.0.0.1]:8080",
            ),
            ("B80D0120000000000000000001000000", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(read(kernel), Some(address.parse().unwrap()));
        }
        assert_eq!(read("0100007"), None);
        assert!(parse(&line.replace(" 0A ", " 01 ")).is_none());
        assert!(parse("garbage").is_none());
    }

    #[tokio::test]
    async fn a_listener_of_our_own_is_a_stranger_to_an_instance() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = crate::InstanceId::random();
        let instance = Instance::new(id, child.id(), jiff::Timestamp::now());
        for host in ["127.0.0.1", "::1"] {
            let Ok(socket) = std::net::TcpListener::bind((host, 0)) else {
                continue; // no IPv6 here
            };
            let address = socket.local_addr().unwrap();
            let owner = listener_of(address, &instance).await.unwrap();
            let pid = Some(std::process::id());
            assert_eq!(owner, PortOwner::Stranger { pid });
            assert_eq!(listening_on(&instance).await.unwrap(), []);
            drop(socket);
            assert_eq!(
                listener_of(address, &instance).await.unwrap(),
                PortOwner::Nobody
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
