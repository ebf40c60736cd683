use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

/// The longest line; a daemon's are far shorter.
const MAX_LINE: usize = 4 << 20;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Newline-delimited JSON as it arrives.
#[derive(Debug)]
pub(crate) struct Lines<B = Incoming> {
    body: B,
    buffer: BytesMut,
    /// Up to where the buffer was searched for a line's end.
    searched: usize,
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes, Error: Into<Cause>> + Unpin,
{
    pub(crate) fn new(body: B) -> Lines<B> {
        Lines {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line; nothing when the answer ended in good order. Cancel safe.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<io::Result<T>> {
        loop {
            match self.buffered() {
                Some(line) if line.trim_ascii().is_empty() => continue,
                Some(line) => {
                    let parsed = serde_json::from_slice(&line);
                    return Some(parsed.map_err(io::Error::from));
                }
                None => {}
            }
            if self.buffer.len() > MAX_LINE {
                let error = "a line is longer than 4 MiB";
                return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Some(Err(io::Error::other(error))),
                None => return None,
            }
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|&b| b == b'\n');
        let Some(at) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + at).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}
