use std::io;

use bytes::Bytes;
use futures::{FutureExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vela_protocol::Envelope;

use crate::client::lines::Lines;

/// The bytes are what a daemon answers, behind one that says in which pieces they come, and whether
/// they break off.
pub(super) fn answer_lines(bytes: &[u8]) {
    let Some((&flags, bytes)) = bytes.split_first() else {
        return;
    };
    let breaks_off = flags & 1 != 0;
    let mut whole: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    // What no newline ends may be cut.
    whole.pop();
    let whole = whole.iter().filter(|line| !line.trim_ascii().is_empty());
    let wanted: Vec<Option<Value>> = whole
        .map(|line| serde_json::from_slice(line).ok())
        .collect();
    for step in [usize::from(flags >> 1) + 1, bytes.len().max(1)] {
        let values = read::<Value>(bytes, step, breaks_off);
        assert_eq!(values, wanted, "{}", bytes.escape_ascii());
        for event in read::<Envelope>(bytes, step, breaks_off)
            .into_iter()
            .flatten()
        {
            let again = serde_json::to_value(&event).and_then(serde_json::from_value::<Envelope>);
            let again = again.expect("what was read can be written, and read again");
            // What is unknown may have come twice, and so be something else now.
            assert_eq!((again.deploy, again.seq), (event.deploy, event.seq));
        }
    }
}

/// The lines, and nothing in place of those that are not of this type.
fn read<T: DeserializeOwned>(bytes: &[u8], step: usize, breaks_off: bool) -> Vec<Option<T>> {
    let pieces = bytes.chunks(step).map(Bytes::copy_from_slice);
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let end = breaks_off.then(|| Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    let mut lines = Lines::new(StreamBody::new(stream::iter(frames.chain(end))));
    let mut read = Vec::new();
    loop {
        let next = lines.next::<T>().now_or_never();
        match next.expect("it is never to be waited for") {
            None => {
                assert!(!breaks_off, "an answer that broke off has ended well");
                return read;
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::Other => {
                assert!(breaks_off, "{error}");
                return read;
            }
            Some(line) => read.push(line.ok()),
        }
        assert!(read.len() <= bytes.len());
    }
}
