use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::{self, Framing, Head};
use crate::chunks::{Chunks, Piece};
use crate::client_stream::ClientStream;
use crate::exchange::After;

/// A stream of HTTP/2, as a connection of HTTP/1.1 that has one request: what is read is the
/// request's body, what is written are the response's heads and body.
#[derive(Debug)]
pub(crate) struct Stream {
    incoming: Incoming,
    body: RecvStream,
    /// What has come and is unread; the framing of chunks is among it.
    unread: VecDeque<Unread>,
    respond: SendResponse<Bytes>,
    outgoing: Outgoing,
    /// There once the response's head has been sent.
    sending: Option<SendStream<Bytes>>,
    is_head: bool,
    is_tunnel: bool,
    /// The client has taken the stream back.
    is_left: bool,
}

#[derive(Debug)]
enum Incoming {
    /// As it comes.
    Plain,
    /// In chunks.
    Chunked,
    Ended,
}

#[derive(Debug)]
struct Unread {
    bytes: Bytes,
    /// The client may send as much again when it has been read.
    is_data: bool,
}

#[derive(Debug)]
enum Outgoing {
    /// A response's head, an interim one maybe.
    Head,
    Length(u64),
    /// So much of the present chunk is left.
    Chunked {
        chunks: Chunks,
        left: usize,
    },
    Tunnel,
    Ended,
}

impl Stream {
    pub(super) fn new(
        parts: &Parts,
        head: &Head,
        body: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> Stream {
        Stream {
            incoming: match body.is_end_stream() {
                true => Incoming::Ended,
                false if head.is_chunked => Incoming::Chunked,
                false => Incoming::Plain,
            },
            body,
            unread: VecDeque::new(),
            respond,
            outgoing: Outgoing::Head,
            sending: None,
            is_head: parts.method == Method::HEAD,
            is_tunnel: head.is_tunnel,
            is_left: false,
        }
    }

    /// Ends the stream as its request has ended. Whether it was the client that left.
    pub(super) fn end(&mut self, after: After) -> bool {
        let reason = match self.outgoing {
            Outgoing::Ended if after != After::Reset => return self.is_left,
            _ if self.is_left => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        };
        match &mut self.sending {
            Some(sending) => sending.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
        self.is_left
    }

    fn left(&mut self, error: h2::Error) -> io::Error {
        // Who breaks the protocol leaves too, and so does not get around what is said of leaving
        // (CVE-2025-8671).
        self.is_left |= error.is_remote() || error.is_io() || error.is_library();
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }

    /// What comes next from the client; `false` at its end.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Incoming::Ended = self.incoming {
            return match self.is_tunnel {
                true => Poll::Ready(Ok(false)),
                // A request that has come wholly is no sign that the client has gone.
                false => self.poll_reset(cx),
            };
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(bytes)) => {
                let is_chunked = matches!(self.incoming, Incoming::Chunked);
                if is_chunked && !bytes.is_empty() {
                    self.add(format!("{:x}\r\n", bytes.len()).into(), false);
                }
                let is_empty = bytes.is_empty();
                self.add(bytes, true);
                if is_chunked && !is_empty {
                    self.add(Bytes::from_static(b"\r\n"), false);
                }
            }
            Some(Err(error)) => return Poll::Ready(Err(self.left(error))),
            None => {
                if let Incoming::Chunked = self.incoming {
                    let trailers = match ready!(self.body.poll_trailers(cx)) {
                        Ok(trailers) => trailers,
                        Err(error) => return Poll::Ready(Err(self.left(error))),
                    };
                    self.add(head::last_chunk(trailers.as_ref()), false);
                }
                self.incoming = Incoming::Ended;
            }
        }
        Poll::Ready(Ok(true))
    }

    fn add(&mut self, bytes: Bytes, is_data: bool) {
        self.unread.push_back(Unread { bytes, is_data });
    }

    /// Waits for the client to take the stream back.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        let error = match ready!(reset) {
            Ok(reason) => {
                self.is_left = true;
                io::Error::new(io::ErrorKind::ConnectionReset, reason.description())
            }
            Err(error) => self.left(error),
        };
        Poll::Ready(Err(error))
    }

    /// How much may be sent now, of as much as is wanted.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        sending.reserve_capacity(wanted);
        while sending.capacity() == 0 {
            match ready!(sending.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.left(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(sending.capacity().min(wanted)))
    }

    fn send(&mut self, bytes: &[u8], is_end: bool) -> io::Result<()> {
        if is_end {
            self.outgoing = Outgoing::Ended;
        }
        let Some(sending) = &mut self.sending else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let sent = sending.send_data(Bytes::copy_from_slice(bytes), is_end);
        sent.map_err(|error| self.left(error))
    }

    /// Sends the head that the bytes begin with; gives its length.
    fn send_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let read = head::response(bytes).ok_or_else(malformed)?;
        let (mut response, framing, length) = read;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove("sec-websocket-accept");
            self.outgoing = Outgoing::Tunnel;
        } else if status.is_informational() {
            let sent = self.respond.send_informational(response);
            sent.map_err(|error| self.left(error))?;
            return Ok(length);
        } else if self.is_tunnel && status.is_success() {
            // To the client it would say that the tunnel is there.
            response = Response::new(());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            self.outgoing = Outgoing::Ended;
        } else {
            let has_no_body = self.is_head
                || status == StatusCode::NO_CONTENT
                || status == StatusCode::NOT_MODIFIED;
            self.outgoing = match framing {
                _ if has_no_body => Outgoing::Ended,
                Framing::None | Framing::Length(0) => Outgoing::Ended,
                Framing::Length(length) => Outgoing::Length(length),
                Framing::Chunked => Outgoing::Chunked {
                    chunks: Chunks::default(),
                    left: 0,
                },
            };
        }
        let is_end = matches!(self.outgoing, Outgoing::Ended);
        let sent = self.respond.send_response(response, is_end);
        self.sending = Some(sent.map_err(|error| self.left(error))?);
        Ok(length)
    }

    /// Sends some of the bytes; gives how many.
    fn poll_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = match &mut self.outgoing {
            Outgoing::Head => return Poll::Ready(self.send_head(bytes)),
            Outgoing::Ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Outgoing::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Outgoing::Tunnel => usize::MAX,
            Outgoing::Chunked { left, .. } if *left > 0 => *left,
            Outgoing::Chunked { chunks, left } => {
                let piece = chunks.next(bytes);
                match piece {
                    Piece::Framing(length) => return Poll::Ready(Ok(length)),
                    Piece::Data(length) => {
                        *left = length;
                        length
                    }
                    Piece::Trailers(length) => {
                        return Poll::Ready(self.send_trailers(&bytes[..length]));
                    }
                    // What this proxy writes is whole.
                    Piece::Partial | Piece::Malformed => {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                }
            }
        };
        let count = ready!(self.poll_room(cx, wanted.min(bytes.len())))?;
        let is_end = match &mut self.outgoing {
            Outgoing::Length(left) => {
                *left -= count as u64;
                *left == 0
            }
            Outgoing::Chunked { left, .. } => {
                *left -= count;
                false
            }
            _ => false,
        };
        self.send(&bytes[..count], is_end)?;
        Poll::Ready(Ok(count))
    }

    fn send_trailers(&mut self, section: &[u8]) -> io::Result<usize> {
        let trailers = head::trailers(section).ok_or(io::ErrorKind::InvalidData)?;
        if trailers.is_empty() {
            self.send(&[], true)?;
        } else if let Some(sending) = &mut self.sending {
            self.outgoing = Outgoing::Ended;
            let sent = sending.send_trailers(trailers);
            sent.map_err(|error| self.left(error))?;
        }
        Ok(section.len())
    }
}

impl ClientStream for Stream {
    const ENDS_BY_WORD: bool = false;
    const VERSION: Option<&'static str> = Some("HTTP/2.0");

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_reset(cx).map(|_| ())
    }

    /// [`Stream::end`] does.
    fn reset_when_closed(&self) {}
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        loop {
            let Some(next) = stream.unread.front_mut() else {
                match ready!(stream.poll_incoming(cx))? {
                    true => continue,
                    false => return Poll::Ready(Ok(())),
                }
            };
            let count = next.bytes.len().min(space.remaining());
            space.put_slice(&next.bytes[..count]);
            next.bytes.advance(count);
            let (is_data, is_empty) = (next.is_data, next.bytes.is_empty());
            if is_data {
                // Fails only when more is released than has come.
                let released = stream.body.flow_control().release_capacity(count);
                released.map_err(|error| stream.left(error))?;
            }
            if is_empty {
                stream.unread.pop_front();
            }
            if count > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let mut written = 0;
        while written < bytes.len() {
            match stream.poll_some(cx, &bytes[written..]) {
                Poll::Ready(Ok(count)) => written += count,
                // What has been written counts; the rest meets the same again.
                _ if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        Poll::Ready(match stream.outgoing {
            Outgoing::Tunnel => stream.send(&[], true),
            _ => Ok(()),
        })
    }
}
