use memchr::memchr;

/// Reads a chunked body piece by piece, strictly: what another parser could read differently is an
/// error, and chunk extensions end here.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// How many bytes beside the data have come that no chunk has paid for.
    overhead: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a size line.
    #[default]
    Size,
    /// Within a chunk, with so many bytes to come.
    Data(u64),
    /// Before the CRLF that ends a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

/// What the next bytes are. The numbers say how many of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Not the body's: skip them.
    Framing(usize),
    /// The body's.
    Data(usize),
    /// The trailer section and the end of the body: header lines and an empty one.
    Trailers(usize),
    /// More bytes are needed.
    Partial,
    /// They are no chunked body.
    Malformed,
}

/// The longest size line: extensions that nobody reads need no more.
const LONGEST_LINE: usize = 1024;
/// The longest trailer section, with its last line.
const LONGEST_TRAILERS: usize = 8 * 1024;
/// How many bytes beside the data may come, but for what each chunk may have: 16 bytes, so that a
/// body may come byte by byte, and twice its data. Else short chunks with long extensions would
/// have the proxy read far more than it passes on (CVE-2023-39326). As Go's net/http has it.
const MOST_OVERHEAD: u64 = 16 * 1024;
const OVERHEAD_OF_CHUNK: u64 = 16;

impl Chunks {
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Piece {
        match self.state {
            State::Size => self.size_line(bytes),
            State::Data(left) => {
                if bytes.is_empty() {
                    return Piece::Partial;
                }
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - here as u64;
                self.state = match left {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                Piece::Data(here)
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Piece::Framing(2)
                }
                [] | [b'\r'] => Piece::Partial,
                _ => Piece::Malformed,
            },
            State::Trailers => trailers(bytes),
        }
    }

    fn size_line(&mut self, bytes: &[u8]) -> Piece {
        let Some(end) = memchr(b'\n', &bytes[..bytes.len().min(LONGEST_LINE)]) else {
            let digits = bytes
                .iter()
                .take(17)
                .take_while(|byte| byte.is_ascii_hexdigit());
            let is_size = match digits.count() {
                0 => bytes.is_empty(),
                17.. => false,
                // The CR may be the last byte so far.
                count => {
                    let rest = &bytes[count..];
                    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
                    rest.is_empty() || is_extension(rest)
                }
            };
            return match is_size && bytes.len() < LONGEST_LINE {
                true => Piece::Partial,
                false => Piece::Malformed,
            };
        };
        match end.checked_sub(1).map(|line| (&bytes[..line], bytes[line])) {
            Some((line, b'\r')) => match size(line).filter(|&size| self.is_worth(size, end + 1)) {
                Some(0) => self.state = State::Trailers,
                Some(size) => self.state = State::Data(size),
                None => return Piece::Malformed,
            },
            _ => return Piece::Malformed,
        }
        Piece::Framing(end + 1)
    }

    /// Whether a chunk of that size may have so long a size line, after all that came before.
    fn is_worth(&mut self, size: u64, line: usize) -> bool {
        // And the CRLF behind the data.
        self.overhead += line as u64 + 2;
        let allowed = size.saturating_mul(2).saturating_add(OVERHEAD_OF_CHUNK);
        self.overhead = self.overhead.saturating_sub(allowed);
        self.overhead <= MOST_OVERHEAD
    }
}

/// The size in a size line that may have extensions.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if digits == 0 || digits > 16 || !(digits == line.len() || is_extension(&line[digits..])) {
        return None;
    }
    let text = std::str::from_utf8(&line[..digits]).ok()?;
    // No more than 63 bits, as of a length.
    i64::from_str_radix(text, 16).ok()?.try_into().ok()
}

/// Whether what stands behind a size is `; name=value`, or the begin of it: no whitespace before
/// the semicolon, and no control character, a CR in particular.
fn is_extension(bytes: &[u8]) -> bool {
    let is_text = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    bytes.first() == Some(&b';') && bytes.iter().all(is_text)
}

fn trailers(bytes: &[u8]) -> Piece {
    let mut line = 0;
    while let Some(offset) = memchr(b'\n', &bytes[line..]) {
        let at = line + offset;
        if at == line || bytes[at - 1] != b'\r' {
            return Piece::Malformed;
        }
        if at == line + 1 {
            return match at < LONGEST_TRAILERS {
                true => Piece::Trailers(at + 1),
                false => Piece::Malformed,
            };
        }
        line = at + 1;
    }
    match bytes.len() < LONGEST_TRAILERS {
        true => Piece::Partial,
        false => Piece::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and the trailers, or nothing when the bytes are malformed or not all there.
    fn read(bytes: &[u8], step: usize) -> Result<(String, usize), Piece> {
        let mut chunks = Chunks::default();
        let (mut body, mut at, mut end) = (Vec::new(), 0, step.min(bytes.len()));
        loop {
            match chunks.next(&bytes[at..end]) {
                Piece::Framing(count) => at += count,
                Piece::Data(count) => {
                    body.extend_from_slice(&bytes[at..at + count]);
                    at += count;
                }
                Piece::Trailers(count) => {
                    return Ok((String::from_utf8(body).unwrap(), at + count));
                }
                Piece::Partial if end < bytes.len() => end = (end + step).min(bytes.len()),
                other => return Err(other),
            }
        }
    }

    #[test]
    fn bodies_are_read_however_they_come() {
        for (bytes, body) in [
            ("0\r\n\r\n", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc"),
            (
                "003;a=b;c=\"d\"\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\n",
                "abc0123456789",
            ),
            ("1\r\n\n\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", "\n"),
        ] {
            for step in 1..=bytes.len() {
                assert_eq!(
                    read(bytes.as_bytes(), step),
                    Ok((body.to_owned(), bytes.len())),
                    "{bytes:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused_at_once() {
        for bytes in [
            "\r\n",
            "\n",
            "x",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 ;a\r\n",
            "1\n",
            "1\rX",
            "1;a\rb\r\n",
            "1;\0\r\n",
            "1,\r\n",
            "ffffffffffffffff1\r\n",
            // Who counts with a sign takes it for less than nothing.
            "ffffffffffffffff\r\n",
            "8000000000000000\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\r0",
            "1\r\r\n",
            "1;a\r\r\n",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
            "1\r\na\r\n\r\n",
            "g\r\n",
        ] {
            for step in [1, 2, bytes.len()] {
                assert_eq!(
                    read(bytes.as_bytes(), step),
                    Err(Piece::Malformed),
                    "{bytes:?} by {step}"
                );
            }
        }
        let long = format!("1;{}", "a".repeat(2 * LONGEST_LINE));
        assert_eq!(read(long.as_bytes(), 100), Err(Piece::Malformed));
        let long = format!("0\r\n{}", "a: b\r\n".repeat(LONGEST_TRAILERS));
        assert_eq!(read(long.as_bytes(), 1000), Err(Piece::Malformed));
    }

    #[test]
    fn the_largest_size_is_no_overflow() {
        let mut chunks = Chunks::default();
        assert_eq!(chunks.next(b"7fffffffffffffff\r\n"), Piece::Framing(18));
        assert_eq!(chunks.next(b"abc"), Piece::Data(3));
    }

    #[test]
    fn trailers_have_their_limit_however_they_come() {
        // Beside the value: a name, a colon, a space, and two ends of lines.
        let longest = LONGEST_TRAILERS - 7;
        for (length, is_sound) in [(longest, true), (longest + 1, false), (100_000, false)] {
            let bytes = format!("0\r\nX: {}\r\n\r\n", "a".repeat(length));
            for step in [1000, bytes.len() - 1, bytes.len()] {
                let whole = read(bytes.as_bytes(), step);
                let wanted = match is_sound {
                    true => Ok((String::new(), bytes.len())),
                    false => Err(Piece::Malformed),
                };
                assert_eq!(whole, wanted, "{length} by {step}");
            }
        }
    }

    #[test]
    fn extensions_do_not_outweigh_the_data() {
        let chunks = |data: &str, extension: &str, count| {
            format!("{:x}{extension}\r\n{data}\r\n", data.len()).repeat(count)
        };
        let signature = format!(";chunk-signature={}", "0".repeat(64));
        let long = format!(";{}", "a".repeat(1000));
        let large = "x".repeat(100_000);
        for (bytes, is_sound) in [
            // Byte by byte, for as long as it likes.
            (chunks("x", "", 50_000), true),
            (chunks(&"x".repeat(40), &signature, 5_000), true),
            (chunks("x", &signature, 100), true),
            (chunks("x", &signature, 1_000), false),
            (chunks("x", &long, 10), true),
            (chunks("x", &long, 20), false),
            // What was sent before weighs nothing, and what is sent between pays.
            (chunks(&large, "", 1) + &chunks("x", &long, 20), false),
            (
                [chunks("x", &long, 10), chunks(&large, "", 1)]
                    .concat()
                    .repeat(9),
                true,
            ),
        ] {
            let bytes = bytes + "0\r\n\r\n";
            for step in [1_009, bytes.len()] {
                match read(bytes.as_bytes(), step) {
                    Ok((_, length)) => assert!(is_sound && length == bytes.len(), "{step}"),
                    Err(piece) => assert!(!is_sound && piece == Piece::Malformed, "{step}"),
                }
            }
        }
    }
}
