use std::net::{IpAddr, SocketAddr};

use crate::ProxyConfig;

/// Who is at the other end of a client's connection. What upstreams are told of it is written once
/// for all requests.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) scheme: &'static str,
    /// It is a proxy that knows better who asked.
    pub(crate) is_trusted: bool,
    /// Begins with `BEGIN` and the address.
    introduction: Box<str>,
    address_length: usize,
}

const BEGIN: &str = "x-forwarded-for: ";

impl Peer {
    pub(crate) fn new(address: SocketAddr, scheme: &'static str, config: &ProxyConfig) -> Peer {
        let ip = address.ip().to_canonical();
        let text = ip.to_string();
        let node = match ip {
            IpAddr::V4(_) => text.clone(),
            IpAddr::V6(_) => format!("\"[{text}]\""),
        };
        let introduction = format!(
            "{BEGIN}{text}\r\nx-real-ip: {text}\r\nx-forwarded-proto: {scheme}\r\n\
             forwarded: for={node};proto={scheme};host="
        );
        Peer {
            ip,
            scheme,
            is_trusted: config.trusts(ip),
            introduction: introduction.into(),
            address_length: text.len(),
        }
    }

    /// Its address, written out.
    pub(crate) fn address(&self) -> &str {
        &self.introduction[BEGIN.len()..BEGIN.len() + self.address_length]
    }

    /// What an upstream is told of it if nobody else is to be believed, up to the host that
    /// `Forwarded` ends with.
    pub(crate) fn introduction(&self) -> &str {
        &self.introduction
    }
}
