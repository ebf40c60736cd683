//! Cases that nobody wrote: those of the table, changed a little by a generator whose seed repeats them.

/// Numbers that look random: SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// What parsers treat in a way of their own.
const BYTES: &[u8] =
    b"\0\x01\t\n\x0b\x0c\r !\"#%'(),-./0129:;<=>?@AFXafx[\\]_`{|}~\x7f\x80\xa0\xc3\xff";

/// Lines for between the others.
const FIELDS: &[&[u8]] = &[
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"content-length: 5",
    b"Content-Length: 3, 3",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, x",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade",
    b"Connection: host, x-a, content-length",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Host: a.test",
    b"Host: b.test",
    b"X-A: 1",
    b"X-Empty:",
    b" folded",
    b"TE: trailers",
    b"Trailer: X-A",
    b"",
];

const BODIES: &[&[u8]] = &[
    b"abc",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;x\r\nabc\r\n0\r\nX-A: 1\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"\r\n",
];

const VERSIONS: &[&[u8]] = &[
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"",
];

/// One of the cases with one to three changes.
pub(crate) fn mutated(random: &mut Random, cases: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = cases[random.below(cases.len())].clone();
    for _ in 0..=random.below(3) {
        change(random, &mut bytes, cases);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, cases: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    match random.below(12) {
        0..=2 => bytes.insert(at, BYTES[random.below(BYTES.len())]),
        3 if at < bytes.len() => bytes[at] = BYTES[random.below(BYTES.len())],
        4 if at < bytes.len() => drop(bytes.remove(at)),
        5 | 6 => {
            let mut lines = lines(bytes);
            let field = random.one_of(FIELDS);
            let at = random.below(lines.len() + 1);
            lines.insert(at, [field, b"\r\n"].concat());
            *bytes = lines.concat();
        }
        7 => {
            let mut lines = lines(bytes);
            if lines.len() > 1 {
                let (one, other) = (random.below(lines.len()), random.below(lines.len()));
                match random.below(3) {
                    0 => lines.swap(one, other),
                    1 => drop(lines.remove(one)),
                    _ => lines.insert(other, lines[one].clone()),
                }
            }
            *bytes = lines.concat();
        }
        8 => {
            // Another end of a line.
            let mut lines = lines(bytes);
            if !lines.is_empty() {
                let one = random.below(lines.len());
                let end: &[u8] =
                    random.one_of(&[&b"\n"[..], b"\r", b"\r\r\n", b"\r\n\r\n", b" \r\n"]);
                lines[one] = [lines[one].trim_ascii_end(), end].concat();
            }
            *bytes = lines.concat();
        }
        9 => bytes.extend_from_slice(random.one_of(BODIES)),
        10 => bytes.extend_from_slice(&cases[random.below(cases.len())]),
        _ => {
            let versions = bytes.windows(8).position(|some| some == b"HTTP/1.1");
            if let Some(at) = versions {
                bytes.splice(at..at + 8, random.one_of(VERSIONS).iter().copied());
            }
        }
    }
}

/// With their ends.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(<[u8]>::to_vec).collect()
}
