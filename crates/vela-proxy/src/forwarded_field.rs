use crate::node::Node;

/// One proxy's part of a `Forwarded` field (RFC 7239).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Who asked that proxy, if it tells an address.
    pub(crate) node: Option<Node<'a>>,
    pub(crate) proto: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
}

/// Adds the elements of a `Forwarded` field's value, in its order. `None` if a quoted string does
/// not end: what is added behind it would be read as a part of it.
pub(crate) fn read<'a>(value: &'a [u8], elements: &mut Vec<Element<'a>>) -> Option<()> {
    let mut rest = value;
    let mut element: Option<Element<'_>> = None;
    loop {
        let (pair, behind) = rest.split_at(pair_end(rest)?);
        if !pair.trim_ascii().is_empty() {
            element.get_or_insert_default().add(pair);
        }
        if !behind.starts_with(b";") {
            elements.extend(element.take());
        }
        match behind {
            [_, behind @ ..] => rest = behind,
            [] => return Some(()),
        }
    }
}

impl<'a> Element<'a> {
    fn add(&mut self, pair: &'a [u8]) {
        let mut parts = pair.splitn(2, |&byte| byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        let value = match value {
            // What has to be escaped is no part of an address or a host.
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => inner,
            value => value,
        };
        let text = std::str::from_utf8(value).ok();
        if name.eq_ignore_ascii_case(b"for") {
            self.node = Node::of(value);
        } else if name.eq_ignore_ascii_case(b"proto") {
            self.proto = text;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.host = text;
        }
    }
}

/// Where a `;` or `,` outside of quotes stands first, or the end.
fn pair_end(text: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b';' | b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    (!is_quoted).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(value: &str) -> Option<Vec<&str>> {
        let mut elements = Vec::new();
        read(value.as_bytes(), &mut elements)?;
        let nodes = elements.iter().map(|element| element.node);
        Some(
            nodes
                .map(|node| node.map_or("-", |node| node.text))
                .collect(),
        )
    }

    #[test]
    fn elements_are_those_of_the_standard() {
        // The examples of RFC 7239, 4.
        for (value, found) in [
            ("for=\"_gazonk\"", &["-"][..]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["2001:db8:cafe::17"]),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["192.0.2.60"]),
            (
                "for=192.0.2.43, for=198.51.100.17",
                &["192.0.2.43", "198.51.100.17"],
            ),
            // Commas and semicolons in quotes, what is empty, and what names nobody.
            ("for=\"a,for=192.0.2.1\"", &["-"]),
            ("for=\"a\\\",for=192.0.2.1;\"", &["-"]),
            (",, ;;for=192.0.2.1;,", &["192.0.2.1"]),
            ("by=192.0.2.1, for", &["-", "-"]),
            ("", &[]),
        ] {
            assert_eq!(nodes(value).unwrap(), found, "{value}");
        }
        for endless in ["for=\"", "for=192.0.2.1;host=\"a\\\"", "\"\"\""] {
            assert_eq!(nodes(endless), None, "{endless}");
        }
    }

    #[test]
    fn scheme_and_host_are_read_too() {
        let mut elements = Vec::new();
        read(b"Proto=https;HOST=\"a.test:8\", host=b.test", &mut elements).unwrap();
        let told: Vec<_> = elements.iter().map(|one| (one.proto, one.host)).collect();
        assert_eq!(
            told,
            [(Some("https"), Some("a.test:8")), (None, Some("b.test"))]
        );
    }
}
