use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::cidr::Cidr;
use crate::header_name::HeaderName;
use crate::section::Section;
use crate::server::access_log::AccessLogSection;
use crate::server::path::absolute;
use crate::server::proxy_limits::ProxyLimits;
use crate::server::proxy_timeouts::ProxyTimeouts;
use crate::value::{Found, Value};

/// `[proxy]`: where requests come in, and how they are treated. What is unset the proxy has a default for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxySection {
    /// `bind`: the addresses to listen on, one or an array; every address if empty.
    pub bind: Vec<IpAddr>,
    /// `http_port`; 0 lets the system choose.
    pub http_port: Option<u16>,
    /// `https_port`; 0 lets the system choose. HTTPS is served if this is set, or there is a `[tls]`.
    pub https_port: Option<u16>,
    /// `workers`: the threads that serve, 1 to 1024.
    pub workers: Option<NonZeroUsize>,
    /// `trusted_proxies`: who is believed about the client, one range of addresses or an array.
    pub trusted_proxies: Vec<Cidr>,
    /// `client_ip_header`: the header in which the trusted proxies name the client.
    pub client_ip_header: Option<HeaderName>,
    /// `metrics`: where metrics are served, at an address of this machine alone.
    pub metrics: Option<SocketAddr>,
    /// `error_pages`: a directory with pages for apps that have none of their own.
    pub error_pages: Option<PathBuf>,
    /// `[proxy.limits]`.
    pub limits: ProxyLimits,
    /// `[proxy.timeouts]`.
    pub timeouts: ProxyTimeouts,
    /// `[proxy.access_log]`: none is written without it.
    pub access_log: Option<AccessLogSection>,
}

impl ProxySection {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let trusted = section.read("trusted_proxies", networks);
        let nobody_trusted = match &trusted {
            Some(networks) => networks.is_empty(),
            None => !section.has("trusted_proxies"),
        };
        let proxy = Self {
            bind: section.read("bind", addresses).unwrap_or_default(),
            http_port: section.read("http_port", |value| value.integer(0..=u16::MAX)),
            https_port: section.read("https_port", |value| value.integer(0..=u16::MAX)),
            workers: section
                .read("workers", |value| value.integer(1..=1024))
                .and_then(NonZeroUsize::new),
            trusted_proxies: trusted.unwrap_or_default(),
            client_ip_header: section.read("client_ip_header", Value::parse),
            metrics: section.read("metrics", loopback),
            error_pages: section.read("error_pages", absolute),
            limits: ProxyLimits::read(section.section("limits")),
            timeouts: ProxyTimeouts::read(section.section("timeouts")),
            access_log: section
                .optional_section("access_log")
                .and_then(AccessLogSection::read),
        };
        if proxy.http_port == proxy.https_port && proxy.http_port.is_some_and(|port| port != 0) {
            section.report_key(
                "https_port",
                "`https_port` is the same as `http_port`",
                None,
            );
        }
        if nobody_trusted && section.has("client_ip_header") {
            section.report_key(
                "client_ip_header",
                "`client_ip_header` without `trusted_proxies`",
                Some("anybody could send it: say whose word counts"),
            );
        }
        proxy
    }
}

fn addresses(value: &Value<'_>) -> Option<Vec<IpAddr>> {
    let addresses = one_or_more(value)?.into_iter().filter_map(|value| {
        let address = value.string()?.parse();
        if address.is_err() {
            value.report(
                "not an IP address",
                Some(r#"without a port, as in "0.0.0.0" or "::1""#),
            );
        }
        address.ok()
    });
    Some(addresses.collect())
}

/// None if one of them was reported.
fn networks(value: &Value<'_>) -> Option<Vec<Cidr>> {
    let networks: Vec<_> = one_or_more(value)?.iter().map(Value::parse).collect();
    networks.into_iter().collect()
}

/// The items of an array, or a string by itself.
fn one_or_more<'d>(value: &Value<'d>) -> Option<Vec<Value<'d>>> {
    match value.found() {
        Found::String => Some(vec![value.clone()]),
        _ => value.items(),
    }
}

/// An address and port that no other machine reaches.
fn loopback(value: &Value<'_>) -> Option<SocketAddr> {
    const EXAMPLE: &str = r#"as in "127.0.0.1:9180" or "[::1]:9180""#;
    let text = match value.found() {
        Found::Integer => None,
        _ => Some(value.string()?),
    };
    match text.map(str::parse::<SocketAddr>) {
        Some(Ok(address)) if address.ip().is_loopback() => return Some(address),
        Some(Ok(address)) => {
            let hint = format!(
                r#"metrics are for this machine alone: did you mean "127.0.0.1:{}"?"#,
                address.port()
            );
            value.report("not a loopback address", Some(&hint));
        }
        _ => value.report("not an IP address with a port", Some(EXAMPLE)),
    }
    None
}
