//! What a backend sees, read as strictly as can be: what it could read in two ways is broken.

/// Names and values.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// A request as a backend has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    /// Names in lower case, in the order in which they came.
    pub(crate) headers: Headers,
    /// Without its chunks.
    pub(crate) body: Vec<u8>,
    /// Behind its chunks, as `headers` are.
    pub(crate) trailers: Headers,
    /// A chunk has more than a size.
    pub(crate) has_extensions: bool,
}

/// A request, or why what came is not one for sure.
pub(crate) type Entry = Result<Seen, &'static str>;

/// What the next bytes on a connection are.
#[derive(Debug)]
pub(crate) enum Next {
    /// A request, in so many bytes.
    Whole(Seen, usize),
    Partial,
    /// Not one request for sure.
    Broken(&'static str),
}

pub(crate) fn next(bytes: &[u8]) -> Next {
    match read(bytes) {
        Ok(Some((seen, length))) => Next::Whole(seen, length),
        Ok(None) => Next::Partial,
        Err(what) => Next::Broken(what),
    }
}

fn read(bytes: &[u8]) -> Result<Option<(Seen, usize)>, &'static str> {
    let Some((request_line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    let mut parts = request_line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("a request line that is not three words");
    };
    if !(is_token(method) && (version == b"HTTP/1.1" || version == b"HTTP/1.0")) {
        return Err("a request line that is none");
    }
    if target.is_empty() || target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err("a target that is none");
    }
    let Some(headers) = fields(bytes, &mut at)? else {
        return Ok(None);
    };
    let mut has_extensions = false;
    let (body, trailers) = match framing(&headers)? {
        Framing::Length(length) => match bytes.get(at..).and_then(|rest| rest.get(..length)) {
            Some(body) => {
                at += length;
                (body.to_vec(), Headers::new())
            }
            None => return Ok(None),
        },
        Framing::Chunked => match chunks(bytes, &mut at, &mut has_extensions)? {
            Some(body_and_trailers) => body_and_trailers,
            None => return Ok(None),
        },
    };
    let seen = Seen {
        method: String::from_utf8_lossy(method).into_owned(),
        target: target.to_vec(),
        headers,
        body,
        trailers,
        has_extensions,
    };
    Ok(Some((seen, at)))
}

/// The line that begins there, and where the next one does.
fn line(bytes: &[u8], begin: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let rest = &bytes[begin..];
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let Some(line) = rest[..end].strip_suffix(b"\r") else {
        return Err("a line that ends without a CR");
    };
    match line.iter().any(|&byte| byte == b'\r' || byte == 0) {
        true => Err("a CR or a NUL within a line"),
        false => Ok(Some((line, begin + end + 1))),
    }
}

/// Header lines up to the empty one.
fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Headers>, &'static str> {
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
        let (name, value) = line.split_at(colon.ok_or("a header line without a colon")?);
        if !is_token(name) {
            return Err("a header name that is none");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value[1..].trim_ascii().to_vec()));
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(headers: &[(String, Vec<u8>)]) -> Result<Framing, &'static str> {
    let all = |wanted: &str| {
        let values = headers.iter().filter(move |(name, _)| name == wanted);
        values.map(|(_, value)| &value[..]).collect::<Vec<_>>()
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([digits], []) => match number(digits, 10) {
            Some(length) => Ok(Framing::Length(length)),
            None => Err("a length that is no number"),
        },
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [..]) => Err("a coding that is not chunked"),
        _ => Err("more than one framing"),
    }
}

fn chunks(
    bytes: &[u8],
    at: &mut usize,
    has_extensions: &mut bool,
) -> Result<Option<(Vec<u8>, Headers)>, &'static str> {
    let mut body = Vec::new();
    loop {
        let Some((size, data)) = line(bytes, *at)? else {
            return Ok(None);
        };
        let size = match size.iter().position(|&byte| byte == b';') {
            Some(end) => {
                *has_extensions = true;
                &size[..end]
            }
            None => size,
        };
        let size = number(size, 16).ok_or("a chunk size that is no number")?;
        if size == 0 {
            *at = data;
            return Ok(fields(bytes, at)?.map(|trailers| (body, trailers)));
        }
        let Some(chunk) = bytes[data..].get(..size + 2) else {
            return Ok(None);
        };
        let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
            return Err("a chunk that does not end where it should");
        };
        body.extend_from_slice(chunk);
        *at = data + size + 2;
    }
}

/// As apps count, with a sign.
fn number(digits: &[u8], radix: u32) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    match text.chars().all(|digit| digit.is_digit(radix)) {
        true => i64::from_str_radix(text, radix).ok()?.try_into().ok(),
        false => None,
    }
}

fn is_token(name: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_part)
}

#[test]
fn what_could_be_read_in_two_ways_is_broken() {
    let whole = |bytes: &[u8]| match next(bytes) {
        Next::Whole(seen, length) => (seen.body, seen.trailers, length),
        other => panic!("{other:?}"),
    };
    let plain = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
    assert_eq!(whole(plain), (Vec::new(), Vec::new(), plain.len() - 4));
    let chunked =
        b"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\nrest";
    let trailers = vec![("t".to_owned(), b"1".to_vec())];
    let end = chunked.len() - 4;
    assert_eq!(whole(chunked), (b"ab".to_vec(), trailers, end));
    for end in 0..chunked.len() - 4 {
        assert!(matches!(next(&chunked[..end]), Next::Partial), "{end}");
    }
    for broken in [
        "GET / HTTP/1.1\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n",
        "GET / HTTP/1.1\r\n A: b\r\n",
        "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    ] {
        assert!(
            matches!(next(broken.as_bytes()), Next::Broken(_)),
            "{broken:?}"
        );
    }
}
