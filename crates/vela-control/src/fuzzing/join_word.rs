use futures::FutureExt;

use crate::join::{ABSENT, DENIED, READY};
use crate::ssh::joining::{Word, read_word};

/// More than this is not read.
const MOST: usize = 64 << 10;

/// The bytes are what a server says that was asked to run `vela join`.
pub(super) fn join_word(bytes: &[u8]) {
    let mut rest = bytes;
    let read = read_word(&mut rest).now_or_never();
    let read = read.expect("it is never to be waited for");
    let read = read.expect("memory does not fail");
    let text = bytes.escape_ascii();
    let mut at = 0;
    for line in bytes[..bytes.len().min(MOST)].split_inclusive(|&byte| byte == b'\n') {
        at += line.len();
        let Some(mut line) = line.strip_suffix(b"\n") else {
            break;
        };
        while let [shorter @ .., b'\r'] = line {
            line = shorter;
        }
        let path = |begin: &str| {
            let path = line.strip_prefix(begin.as_bytes())?;
            Some(String::from_utf8_lossy(path).into_owned().into())
        };
        let wanted = match (path(ABSENT), path(DENIED)) {
            (Some(path), _) => Word::Absent(path),
            (_, Some(path)) => Word::Denied(path),
            _ if line == READY.as_bytes() => Word::Ready,
            _ => continue,
        };
        assert_eq!(read, wanted, "{text}");
        // What comes behind it is the daemon's.
        assert_eq!(rest, &bytes[at..], "{text}");
        return;
    }
    assert_eq!(read, Word::Silent, "{text}");
    assert_eq!(bytes.len() - rest.len(), bytes.len().min(MOST));
}
