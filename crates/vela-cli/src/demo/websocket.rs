use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes, BytesMut};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use uuid::Uuid;

/// The largest payload that is accepted; the demo's messages are a few bytes.
const MAX_PAYLOAD: u64 = 64 * 1024;

/// The close code of a server that goes away: what an instance sends when it is told to stop.
pub(crate) const GOING_AWAY: u16 = 1001;

/// The close code of a peer that is done.
pub(crate) const NORMAL: u16 = 1000;

/// Which end of the connection this is: a client masks what it sends, a server must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// A message of RFC 6455. Fragmented messages are refused: neither end of the demo sends any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<u16>),
}

/// The framing of RFC 6455 over a connection that was already upgraded.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    io: S,
    role: Role,
    received: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    pub(crate) fn new(io: S, role: Role) -> WebSocket<S> {
        WebSocket {
            io,
            role,
            received: BytesMut::new(),
        }
    }

    /// The next message, or nothing when the connection ended between two messages. Cancel safe.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = decode(&mut self.received, self.role)? {
                return Ok(Some(message));
            }
            if self.io.read_buf(&mut self.received).await? == 0 {
                return match self.received.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Sends one message. Not cancel safe: half a frame may have been written.
    pub(crate) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let mask = (self.role == Role::Client).then(random_mask);
        self.io.write_all(&encode(message, mask)).await?;
        self.io.flush().await
    }

    /// Ends this side of the connection.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}

/// A fresh `Sec-WebSocket-Key`.
pub(crate) fn random_key() -> String {
    BASE64.encode(Uuid::new_v4().as_bytes())
}

/// The `Sec-WebSocket-Accept` that answers `key`.
pub(crate) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

fn random_mask() -> [u8; 4] {
    let bytes = Uuid::new_v4().into_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn encode(message: &Message, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code;
    let (opcode, payload): (u8, &[u8]) = match message {
        Message::Text(payload) => (0x1, payload),
        Message::Binary(payload) => (0x2, payload),
        Message::Close(None) => (0x8, &[]),
        Message::Close(Some(number)) => {
            code = number.to_be_bytes();
            (0x8, &code)
        }
        Message::Ping(payload) => (0x9, payload),
        Message::Pong(payload) => (0xA, payload),
    };
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => frame.push(mask_bit | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend_from_slice(mask));
    let start = frame.len();
    frame.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut frame[start..], mask);
    }
    frame
}

/// Takes one whole frame off the front of `received`; nothing when it is not all there yet.
fn decode(received: &mut BytesMut, role: Role) -> io::Result<Option<Message>> {
    let [first, second, ..] = received[..] else {
        return Ok(None);
    };
    if first & 0xF0 != 0x80 {
        return Err(malformed("a fragment, or a reserved bit"));
    }
    if (second & 0x80 != 0) != (role == Role::Server) {
        return Err(malformed(
            "a frame of a client must be masked, one of a server must not",
        ));
    }
    let (len, length_bytes) = match second & 0x7F {
        126 => match received.get(2..4) {
            Some(bytes) => (u64::from(u16::from_be_bytes([bytes[0], bytes[1]])), 2),
            None => return Ok(None),
        },
        127 => match received.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(bytes) => (u64::from_be_bytes(bytes), 8),
            None => return Ok(None),
        },
        len => (u64::from(len), 0),
    };
    if len > MAX_PAYLOAD {
        return Err(malformed("a payload over 64 KiB"));
    }
    let mask_bytes = if role == Role::Server { 4 } else { 0 };
    let header = 2 + length_bytes + mask_bytes;
    if received.len() < header + len as usize {
        return Ok(None);
    }
    let mut mask = [0; 4];
    mask[..mask_bytes].copy_from_slice(&received[header - mask_bytes..header]);
    received.advance(header);
    let mut payload = received.split_to(len as usize);
    apply_mask(&mut payload, mask);
    let payload = payload.freeze();
    Ok(Some(match first & 0x0F {
        0x1 => Message::Text(payload),
        0x2 => Message::Binary(payload),
        0x8 => match payload[..] {
            [] => Message::Close(None),
            [high, low, ..] => Message::Close(Some(u16::from_be_bytes([high, low]))),
            [_] => return Err(malformed("half a close code")),
        },
        0x9 => Message::Ping(payload),
        0xA => Message::Pong(payload),
        _ => return Err(malformed("an unknown opcode")),
    }))
}

fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let key = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_masked_hello_of_the_rfc_decodes_byte_by_byte() {
        let frame = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let mut received = BytesMut::new();
        for byte in &frame[..frame.len() - 1] {
            received.extend_from_slice(&[*byte]);
            assert_eq!(decode(&mut received, Role::Server).unwrap(), None);
        }
        received.extend_from_slice(&frame[frame.len() - 1..]);
        let message = decode(&mut received, Role::Server).unwrap();
        assert_eq!(message, Some(Message::Text("Hello".into())));
        assert!(received.is_empty());
    }

    #[tokio::test]
    async fn messages_of_every_kind_and_length_cross_both_ways() {
        for role in [Role::Client, Role::Server] {
            let (here, there) = tokio::io::duplex(1 << 20);
            let other = match role {
                Role::Client => Role::Server,
                Role::Server => Role::Client,
            };
            let mut sender = WebSocket::new(here, role);
            let mut receiver = WebSocket::new(there, other);
            let messages = [
                Message::Text("tick".into()),
                Message::Binary(vec![7; 125].into()),
                Message::Binary(vec![7; 126].into()),
                Message::Binary(vec![7; 0xFFFF].into()),
                Message::Binary(vec![7; 0x10000].into()),
                Message::Ping("a".into()),
                Message::Pong("a".into()),
                Message::Close(None),
                Message::Close(Some(GOING_AWAY)),
            ];
            for message in &messages {
                sender.send(message).await.unwrap();
                assert_eq!(receiver.receive().await.unwrap().as_ref(), Some(message));
            }
            drop(sender);
            assert_eq!(receiver.receive().await.unwrap(), None);
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let refused = |bytes: &[u8], role| decode(&mut bytes.into(), role).is_err();
        assert!(refused(&[0x81, 0x00], Role::Server), "unmasked to a server");
        assert!(refused(&[0x81, 0x80], Role::Client), "masked to a client");
        assert!(refused(&[0x01, 0x00], Role::Client), "a fragment");
        assert!(refused(&[0xC1, 0x00], Role::Client), "a reserved bit");
        assert!(refused(&[0x83, 0x00], Role::Client), "an unknown opcode");
        assert!(refused(&[0x88, 0x01, 0x03], Role::Client), "half a code");
        let huge = [0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0];
        assert!(refused(&huge, Role::Client), "2^63 bytes");
    }
}
