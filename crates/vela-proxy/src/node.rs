use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address as a proxy writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    pub(crate) ip: IpAddr,
    /// The address alone, as it was written.
    pub(crate) text: &'a str,
}

impl<'a> Node<'a> {
    /// Some write the port too, `192.0.2.1:80` or `[2001:db8::1]:80`, and all of `Forwarded` the
    /// brackets.
    pub(crate) fn of(written: &'a [u8]) -> Option<Node<'a>> {
        let written = std::str::from_utf8(written).ok()?.trim_ascii();
        let (ip, text): (IpAddr, _) = match written.strip_prefix('[') {
            Some(rest) => {
                let (text, port) = rest.split_once(']')?;
                if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                    return None;
                }
                (text.parse::<Ipv6Addr>().ok()?.into(), text)
            }
            None => match (written.parse(), written.split_once(':')) {
                (Ok(ip), _) => (ip, written),
                (Err(_), Some((text, port))) if is_port(port) => {
                    (text.parse::<Ipv4Addr>().ok()?.into(), text)
                }
                (Err(_), _) => return None,
            },
        };
        let ip = ip.to_canonical();
        Some(Node { ip, text })
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_brackets_do_not_count() {
        for (written, ip, text) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:4711 ", "192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1", "2001:DB8::1"),
            ("[2001:db8::1]", "2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"),
        ] {
            let ip = ip.parse().unwrap();
            assert_eq!(Node::of(written.as_bytes()), Some(Node { ip, text }));
        }
        for other in [
            "",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:123456",
            "010.0.0.1",
            "[192.0.2.1]",
            "[::1",
            "[::1]80",
            "[::1]:",
            "fe80::1%eth0",
            "192.0.2.1 192.0.2.2",
            "192.0.2.1\0",
        ] {
            assert_eq!(Node::of(other.as_bytes()), None, "{other:?}");
        }
    }
}
