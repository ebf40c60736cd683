use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::LONG;
use crate::frames::{
    ACK, Frame, GOAWAY, HEADERS, RST_STREAM, SETTINGS, fields, frame, settings, status, whole,
};
use crate::world::Door;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that sends what it is told, frame for frame.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
}

/// What a client gets for what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The connection ends, with this error.
    GoAway(u32),
    /// It ends without a word.
    Closed,
    /// The stream ends, with this error, and nothing else.
    Reset(u32),
    Status(u16),
    /// Nothing at all.
    None,
}

impl Raw {
    /// Says nothing yet.
    pub(crate) async fn enter(door: &Door) -> Raw {
        Raw {
            stream: door.enter().await,
        }
    }

    /// With the settings of both sides settled.
    pub(crate) async fn connect(door: &Door) -> Raw {
        Raw::connect_with(door, &[]).await
    }

    pub(crate) async fn connect_with(door: &Door, wanted: &[(u16, u32)]) -> Raw {
        Raw::begin(door.enter().await, wanted).await
    }

    pub(crate) async fn begin(stream: TlsStream<TcpStream>, wanted: &[(u16, u32)]) -> Raw {
        let mut raw = Raw { stream };
        raw.send(&[PREFACE, &settings(wanted)].concat()).await;
        let first = raw.next().await.expect("settings");
        assert_eq!((first.kind, first.flags), (SETTINGS, 0));
        raw.send(&frame(SETTINGS, ACK, 0, [])).await;
        while raw.next().await.expect("an acknowledgement") != Frame::settings_ack() {}
        raw
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The other side may end at any time: that is for the test to notice.
        self.try_send(bytes).await.ok();
    }

    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let frame = timeout(LONG, self.read()).await;
        frame.expect("a frame in time").ok()
    }

    async fn read(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame that satisfies; `None` when the connection ends before.
    pub(crate) async fn find(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if is_it(&frame) {
                return Some(frame);
            }
        }
    }

    /// What comes of what was sent, on the stream or for the connection.
    pub(crate) async fn reaction(&mut self, stream: u32) -> Reaction {
        loop {
            let Some(frame) = self.next().await else {
                return Reaction::Closed;
            };
            match frame.kind {
                GOAWAY => return Reaction::GoAway(frame.error()),
                RST_STREAM if frame.stream == stream => return Reaction::Reset(frame.error()),
                HEADERS if frame.stream == stream => {
                    return Reaction::Status(status(&frame.payload).expect("a status"));
                }
                HEADERS if frame.stream == SENTINEL => return Reaction::None,
                _ => {}
            }
        }
    }

    /// The same, where nothing may be expected: a request behind it is answered first.
    pub(crate) async fn reaction_or_none(&mut self, stream: u32) -> Reaction {
        self.send(&sentinel()).await;
        self.reaction(stream).await
    }

    /// Whether the connection is sound: a request is answered.
    pub(crate) async fn serves(&mut self) -> bool {
        self.reaction_or_none(0).await == Reaction::None
    }
}

/// A request on a stream that nothing else uses.
const SENTINEL: u32 = 1001;

fn sentinel() -> Vec<u8> {
    whole(SENTINEL, &fields("GET", "/sentinel", &[]))
}

impl Frame {
    fn settings_ack() -> Frame {
        Frame {
            kind: SETTINGS,
            flags: ACK,
            stream: 0,
            payload: Vec::new(),
        }
    }
}
