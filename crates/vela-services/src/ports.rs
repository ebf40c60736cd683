use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;

/// Outside of what the kernel gives to clients, and of what instances of apps get.
const RANGE: RangeInclusive<u16> = 20_001..=29_999;

/// A port of the loopback addresses that nobody listens on. It is chosen at random, so that two
/// servers that choose at the same time, or while the other one is stopped, hardly ever meet.
pub(crate) fn free_port() -> io::Result<u16> {
    let count = RANGE.end() - RANGE.start() + 1;
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let first = u16::from_ne_bytes(bytes) % count;
    for step in 0..count {
        let offset = u32::from(first) + u32::from(step);
        let port = RANGE.start() + u16::try_from(offset % u32::from(count)).unwrap_or(0);
        if is_free(port)? {
            return Ok(port);
        }
    }
    Err(io::Error::new(
        ErrorKind::AddrInUse,
        format!("no port from {} to {} is free", RANGE.start(), RANGE.end()),
    ))
}

/// Whether nobody listens there.
pub(crate) fn is_free(port: u16) -> io::Result<bool> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(false),
        Err(error) => return Err(error),
    }
    // A machine may have no IPv6.
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(false),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_taken_is_not_free() {
        let port = free_port().unwrap();
        assert!(RANGE.contains(&port));
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port).unwrap());
    }
}
