//! Messages, read as strictly as can be and apart from how the proxy reads them: what could be read
//! in two ways is an error.

/// A request's head.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) fields: Fields<'a>,
    pub(super) body: Body,
    pub(super) is_upgrade: bool,
    pub(super) length: usize,
}

impl<'a> Request<'a> {
    /// The values of the fields with this name, which is in lower case.
    pub(super) fn values(&self, name: &str) -> Vec<&'a [u8]> {
        values(&self.fields, name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(usize),
    Chunked,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) fields: Fields<'a>,
    pub(super) has_length: bool,
    pub(super) is_chunked: bool,
    pub(super) length: usize,
}

/// Names in lower case, and values.
pub(super) type Fields<'a> = Vec<(String, &'a [u8])>;

/// Nothing when it is not whole.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Request<'_>>, &'static str> {
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = words[..] else {
        return Err("a request line that is not three words");
    };
    let is_target = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if !is_token(method) || target.is_empty() || !target.iter().all(is_target) {
        return Err("a request line that is none");
    }
    let Some(fields) = fields(bytes, &mut at)? else {
        return Ok(None);
    };
    if values(&fields, "host").len() != 1 {
        return Err("not one Host");
    }
    let connection = values(&fields, "connection");
    if !matches!(connection[..], [] | [b"te"] | [b"upgrade"]) {
        return Err("a Connection of the client's");
    }
    let body = match (
        &values(&fields, "content-length")[..],
        &values(&fields, "transfer-encoding")[..],
    ) {
        ([], []) => Body::Length(0),
        ([digits], []) => Body::Length(number(digits, 10).ok_or("a length that is none")?),
        ([], [b"chunked"]) => Body::Chunked,
        _ => return Err("not one framing"),
    };
    Ok(Some(Request {
        method,
        target,
        body,
        is_upgrade: connection == [b"upgrade"],
        length: at,
        fields,
    }))
}

/// The words of the first line, and the fields: nothing else is in these bytes.
pub(super) fn lines(bytes: &[u8]) -> Result<(Vec<&[u8]>, Fields<'_>), &'static str> {
    let (line, mut at) = line(bytes, 0)?.ok_or("no line")?;
    let fields = fields(bytes, &mut at)?.ok_or("no end")?;
    match at == bytes.len() {
        true => Ok((line.split(|&byte| byte == b' ').collect(), fields)),
        false => Err("something behind the end"),
    }
}

/// A request of a client's that has one meaning only: its method, its target and its length.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) length: usize,
}

/// Nothing when it is not whole.
pub(super) fn asked(bytes: &[u8]) -> Result<Option<Asked<'_>>, &'static str> {
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err("a request line that is not three words");
    };
    let Some(fields) = fields(bytes, &mut at)? else {
        return Ok(None);
    };
    let lengths = values(&fields, "content-length");
    let codings = values(&fields, "transfer-encoding");
    let body = match (version, &lengths[..], &codings[..]) {
        (b"HTTP/1.0" | b"HTTP/1.1", [], []) => Some(0),
        (b"HTTP/1.0" | b"HTTP/1.1", [digits], []) => {
            let length = number(digits, 10).ok_or("a length that is none")?;
            Some(length).filter(|&length| length <= bytes.len() - at)
        }
        (b"HTTP/1.1", [], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            chunks(&bytes[at..])?.map(|chunks| chunks.length)
        }
        _ => return Err("not one framing"),
    };
    Ok(body.map(|body| Asked {
        method,
        target,
        length: at + body,
    }))
}

/// How often a head has a header, if it has nothing but header lines.
pub(super) fn count(head: &[u8], name: &str) -> Option<usize> {
    let (_, mut at) = line(head, 0).ok()??;
    let fields = fields(head, &mut at).ok()??;
    Some(values(&fields, name).len())
}

/// Whether an answer is the last on its connection, beyond doubt.
pub(super) fn closes(answer: &[u8]) -> bool {
    let Ok(Some(head)) = response(answer) else {
        return false;
    };
    let text = answer[..head.length].to_ascii_lowercase();
    let line = b"\r\nconnection: close\r\n";
    head.status >= 200 && text.windows(line.len()).any(|some| some == line)
}

/// A whole request, and its length with its body.
pub(super) fn message(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, &'static str> {
    let Some(head) = request(bytes)? else {
        return Ok(None);
    };
    let body = &bytes[head.length..];
    let body = match head.body {
        Body::Length(length) => (length <= body.len()).then_some(length),
        Body::Chunked => chunks(body)?.map(|chunks| chunks.length),
    };
    Ok(body.map(|body| {
        let length = head.length + body;
        (head, length)
    }))
}

/// Nothing when it is not whole.
pub(super) fn response(bytes: &[u8]) -> Result<Option<Response<'_>>, &'static str> {
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let status = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| {
        let (status, reason) = rest.split_at_checked(3)?;
        reason.starts_with(b" ").then_some(status)
    });
    let status = status
        .and_then(|status| number(status, 10))
        .ok_or("a status line that is none")?;
    let Some(fields) = fields(bytes, &mut at)? else {
        return Ok(None);
    };
    let lengths = values(&fields, "content-length");
    let codings = values(&fields, "transfer-encoding");
    if lengths.len() + codings.len() > 1 {
        return Err("more than one framing");
    }
    if lengths.iter().any(|digits| number(digits, 10).is_none()) {
        return Err("a length that is none");
    }
    if codings.iter().any(|coding| *coding != b"chunked") {
        return Err("a coding that is not chunked");
    }
    Ok(Some(Response {
        status: status as u16,
        has_length: !lengths.is_empty(),
        is_chunked: !codings.is_empty(),
        length: at,
        fields,
    }))
}

/// Nothing when it is no chunked body to its end.
pub(super) fn chunked(bytes: &[u8]) -> Option<Chunks<'_>> {
    chunks(bytes).ok()?
}

/// A body that came in chunks.
pub(super) struct Chunks<'a> {
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields<'a>,
    /// Where the trailers begin.
    pub(super) last: usize,
    pub(super) length: usize,
}

/// As the proxy is meant to read them: extensions without control characters and not too long, each
/// and in all, no whitespace before them.
fn chunks(bytes: &[u8]) -> Result<Option<Chunks<'_>>, &'static str> {
    let (mut body, mut at, mut overhead) = (Vec::new(), 0, 0);
    loop {
        let Some((size, data)) = line(bytes, at)? else {
            return Ok(None);
        };
        if size.len() > 1022 {
            return Err("a long size line");
        }
        let (digits, extension) = match size.iter().position(|&byte| byte == b';') {
            Some(end) => size.split_at(end),
            None => (size, &b""[..]),
        };
        let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        if digits.len() > 16 || !extension.iter().all(is_text) {
            return Err("a size line that is none");
        }
        let size = std::str::from_utf8(digits).ok();
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.filter(|size| is_hex && size >> 63 == 0);
        let size = size.ok_or("a size that is none")?;
        let paid = u128::from(size) * 2 + 16;
        overhead = (overhead + (data - at) as u128 + 2).saturating_sub(paid);
        if overhead > 16 * 1024 {
            return Err("more around the data than data");
        }
        at = data;
        if size == 0 {
            let trailers = fields(bytes, &mut at)?;
            let long = at - data > 8 * 1024;
            return match trailers {
                Some(trailers) if trailers.len() <= 64 && !long => Ok(Some(Chunks {
                    body,
                    trailers,
                    last: data,
                    length: at,
                })),
                Some(_) => Err("too many trailers"),
                None => Ok(None),
            };
        }
        let rest = &bytes[at..];
        let Some(data) = usize::try_from(size).ok().and_then(|size| rest.get(..size)) else {
            return Ok(None);
        };
        body.extend_from_slice(data);
        at += data.len();
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("a chunk that does not end where it should"),
        }
    }
}

/// The line that begins there, and where the next one does.
fn line(bytes: &[u8], begin: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let rest = &bytes[begin..];
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let line = rest[..end]
        .strip_suffix(b"\r")
        .ok_or("a line that ends without a CR")?;
    match line.iter().any(|&byte| byte == b'\r' || byte == 0) {
        true => Err("a CR or a NUL within a line"),
        false => Ok(Some((line, begin + end + 1))),
    }
}

/// Header lines up to the empty one.
fn fields<'a>(bytes: &'a [u8], at: &mut usize) -> Result<Option<Fields<'a>>, &'static str> {
    let mut fields = Vec::new();
    loop {
        let Some((line, next)) = line(bytes, *at)? else {
            return Ok(None);
        };
        *at = next;
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.ok_or("a line without a colon")?);
        let value = &value[1..];
        let is_text = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
        if !is_token(name) || !value.iter().all(is_text) {
            return Err("a header line that is none");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value.trim_ascii()));
    }
}

fn values<'a>(fields: &Fields<'a>, wanted: &str) -> Vec<&'a [u8]> {
    let values = fields.iter().filter(|(name, _)| name == wanted);
    values.map(|(_, value)| *value).collect()
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_number = text.chars().all(|digit| digit.is_digit(radix));
    let number = is_number.then(|| i64::from_str_radix(text, radix).ok())??;
    number.try_into().ok()
}

fn is_token(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_part)
}
