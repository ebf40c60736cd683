//! A request as whoever looks for its parts, and takes no offence, would read it.

pub(crate) struct Request<'a> {
    /// The first line.
    pub(crate) line: &'a [u8],
    /// The lines up to the empty one.
    pub(crate) head: &'a [u8],
    /// What stands in chunked bodies where sizes do, with the LF.
    pub(crate) sizes: Vec<&'a [u8]>,
    /// A chunk ends with an LF only.
    pub(crate) has_bare_end: bool,
    /// What comes behind the last size.
    pub(crate) trailers: &'a [u8],
    /// All of it, and what comes behind it.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Request<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Request<'a> {
        let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte));
        let behind = &bytes[begin.unwrap_or(bytes.len())..];
        let mut end = 0;
        for line in behind.split_inclusive(|&byte| byte == b'\n') {
            end += line.len();
            if line.trim_ascii().is_empty() {
                break;
            }
        }
        let (head, body) = behind.split_at(end);
        let mut request = Request {
            line: behind
                .split(|&byte| byte == b'\n')
                .next()
                .unwrap_or_default()
                .trim_ascii_end(),
            head,
            sizes: Vec::new(),
            has_bare_end: false,
            trailers: &[],
            bytes,
        };
        request.read_chunks(body);
        request
    }

    /// As long as there is something like chunks.
    fn read_chunks(&mut self, mut body: &'a [u8]) {
        while let Some(end) = body.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = body.split_at(end + 1);
            let is_digit = |byte: &&u8| byte.is_ascii_hexdigit();
            let digits = line.iter().take_while(is_digit).count();
            let digits = std::str::from_utf8(&line[..digits]).unwrap();
            let Ok(size) = usize::from_str_radix(digits, 16) else {
                return;
            };
            self.sizes.push(line);
            if size == 0 {
                self.trailers = rest;
                return;
            }
            let Some(behind) = rest.get(size..) else {
                return;
            };
            self.has_bare_end |= behind.starts_with(b"\n");
            let behind = behind.strip_prefix(b"\r").unwrap_or(behind);
            body = behind.strip_prefix(b"\n").unwrap_or(behind);
        }
    }

    pub(crate) fn target(&self) -> &'a [u8] {
        self.line
            .split(|&byte| byte == b' ')
            .nth(1)
            .unwrap_or_default()
    }

    /// The host in a target in absolute form.
    pub(crate) fn authority(&self) -> Option<&'a [u8]> {
        let target = self.target();
        let at = target.windows(3).position(|some| some == b"://")?;
        target[at + 3..].split(|byte| b"/?".contains(byte)).next()
    }

    /// The values of a header, whose name is given in lower case.
    pub(crate) fn values(&self, name: &[u8]) -> Vec<&'a [u8]> {
        let fields = self.head.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        });
        let named = fields.filter(|(one, _)| one.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }
}

/// Whether a line ends without a CR.
pub(crate) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n"))
}

/// A name or an address, and perhaps a port.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !text.ends_with(b"]") => (&text[..colon], &text[colon + 1..]),
        _ => (text, &b""[..]),
    };
    let is_name = |name: &[u8]| {
        let labels = name
            .strip_suffix(b".")
            .unwrap_or(name)
            .split(|&byte| byte == b'.');
        labels.into_iter().all(|label| {
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            (1..64).contains(&label.len()) && label.iter().all(is_part)
        })
    };
    let is_address = |name: &[u8]| {
        let inner = name
            .strip_prefix(b"[")
            .and_then(|name| name.strip_suffix(b"]"));
        let text = inner.and_then(|inner| std::str::from_utf8(inner).ok());
        text.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let port = std::str::from_utf8(port).unwrap_or("x");
    (is_name(name) || is_address(name)) && (port.is_empty() || port.parse::<u16>().is_ok())
}
