use std::io::{self, Write};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::HeaderName;
use crate::buffer::Buffer;
use crate::chunks::{Chunks, Piece};
use crate::field::Field;
use crate::lines::Lines;
use crate::wire::Wire;

/// A body on its way from one connection to another, in constant memory: nothing is read while
/// what was read before has not been taken.
#[derive(Debug)]
pub(crate) struct Flow {
    source: Source,
    /// It leaves in chunks. Else as it is.
    to_chunks: bool,
    takes_trailers: bool,
    has_moved: bool,
    awaits: Awaits,
    /// How much more may come in chunks.
    allowed: u64,
    passed: u64,
    /// No trailer of that name is passed on.
    barred: Option<HeaderName>,
}

#[derive(Debug)]
enum Source {
    /// So many bytes are left.
    Length(u64),
    Chunks(Chunks),
    UntilClose,
    /// Its end has been read.
    Ended,
}

/// What a body that does not move waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Source,
    Sink,
}

/// Why a body does not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the body ended early or is malformed")]
    Source,
    #[error("the body is too large")]
    TooLarge,
    #[error("the body is not taken")]
    Sink(#[source] io::Error),
}

/// How much may wait to be sent before the rest is left unread.
const HIGH_WATER: usize = 64 * 1024;
/// How many fields a trailer section may have.
const MOST_TRAILERS: usize = 64;

impl Flow {
    pub(crate) fn length(length: u64) -> Flow {
        Flow::of(Source::Length(length), false, false)
    }

    pub(crate) fn chunks(chunks: Chunks, to_chunks: bool, takes_trailers: bool) -> Flow {
        Flow::of(Source::Chunks(chunks), to_chunks, takes_trailers)
    }

    pub(crate) fn until_close(to_chunks: bool) -> Flow {
        Flow::of(Source::UntilClose, to_chunks, false)
    }

    fn of(source: Source, to_chunks: bool, takes_trailers: bool) -> Flow {
        Flow {
            source,
            to_chunks,
            takes_trailers,
            has_moved: false,
            awaits: Awaits::Source,
            allowed: u64::MAX,
            passed: 0,
            barred: None,
        }
    }

    /// Breaks where more comes in chunks. `None` if it is longer already.
    pub(crate) fn at_most(self, allowed: u64) -> Option<Flow> {
        match self.source {
            Source::Length(length) if length > allowed => None,
            _ => Some(Flow { allowed, ..self }),
        }
    }

    /// Passes no trailer of that name on.
    pub(crate) fn without_trailer(self, name: HeaderName) -> Flow {
        Flow {
            barred: Some(name),
            ..self
        }
    }

    /// Whether the end of the body has been read.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.source, Source::Length(0) | Source::Ended)
    }

    pub(crate) fn to_chunks(&self) -> bool {
        self.to_chunks
    }

    /// Whether only the end of the connection tells who gets the body where it ends.
    pub(crate) fn ends_by_closing(&self) -> bool {
        !self.to_chunks && !matches!(self.source, Source::Length(_))
    }

    /// Whether anything has moved since this was asked last.
    pub(crate) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    pub(crate) fn awaits(&self) -> Awaits {
        self.awaits
    }

    /// How many bytes of the body have been passed on.
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    /// The body need not be passed on. Whether all that was left of it had come already.
    pub(crate) fn skip(&mut self, input: &mut Buffer) -> bool {
        match self.source {
            Source::Length(left) => match usize::try_from(left) {
                Ok(left) if left <= input.len() => {
                    input.consume(left);
                    self.source = Source::Ended;
                    true
                }
                _ => false,
            },
            Source::Ended => true,
            Source::Chunks(_) | Source::UntilClose => false,
        }
    }

    /// Passes the body on until all of it has been written, with what was in the output before.
    pub(crate) fn poll_pass<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
    ) -> Poll<Result<(), Broken>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        loop {
            self.encode(&mut from.input, &mut to.output)?;
            let here = match self.source {
                Source::Length(left) => usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(from.input.len()),
                Source::UntilClose => from.input.len(),
                Source::Chunks(_) | Source::Ended => 0,
            };
            if here > 0 || !to.output.is_empty() {
                match to.poll_send(cx, &from.input.filled()[..here]) {
                    Poll::Ready(Ok(sent)) => {
                        from.input.consume(sent);
                        self.passed += sent as u64;
                        if let Source::Length(left) = &mut self.source {
                            *left -= sent as u64;
                        }
                        self.has_moved = true;
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Sink(error))),
                    Poll::Pending => {
                        self.awaits = Awaits::Sink;
                        return Poll::Pending;
                    }
                }
            }
            if self.is_done() {
                self.awaits = Awaits::Sink;
                return to.poll_flush(cx).map_err(Broken::Sink);
            }
            match from.poll_fill(cx, HIGH_WATER) {
                Poll::Ready(Ok(0)) if matches!(self.source, Source::UntilClose) => {
                    self.source = Source::Ended;
                    if self.to_chunks {
                        to.output.append(b"0\r\n\r\n");
                    }
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::Source)),
                Poll::Ready(Ok(_)) => self.has_moved = true,
                Poll::Pending => {
                    // A stream that encrypts may hold back what it has taken.
                    self.awaits = match to.poll_flush(cx) {
                        Poll::Ready(Ok(())) => Awaits::Source,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Sink(error))),
                        Poll::Pending => Awaits::Sink,
                    };
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves what does not leave as it came.
    fn encode(&mut self, input: &mut Buffer, output: &mut Buffer) -> Result<(), Broken> {
        while output.len() < HIGH_WATER {
            let piece = match &mut self.source {
                Source::Chunks(chunks) => chunks.next(input.filled()),
                Source::UntilClose if self.to_chunks && !input.is_empty() => {
                    Piece::Data(input.len())
                }
                _ => return Ok(()),
            };
            match piece {
                Piece::Framing(length) => input.consume(length),
                Piece::Data(length) => {
                    self.allowed = match self.allowed.checked_sub(length as u64) {
                        Some(allowed) => allowed,
                        None => return Err(Broken::TooLarge),
                    };
                    self.passed += length as u64;
                    let data = &input.filled()[..length];
                    if self.to_chunks {
                        append_chunk(data, output);
                    } else {
                        output.append(data);
                    }
                    input.consume(length);
                }
                Piece::Trailers(length) => {
                    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
                    let trailers = trailers(&input.filled()[..length], &mut fields)?;
                    if self.to_chunks {
                        output.append(b"0\r\n");
                        if self.takes_trailers {
                            let barred = self.barred.as_ref();
                            let is_barred =
                                |name: &[u8]| barred.is_some_and(|barred| barred.is_like(name));
                            let passes = |field: Field, name: &[u8]| {
                                field.may_be_trailer() && !is_barred(name)
                            };
                            trailers.copy(passes, output);
                        }
                        output.append(b"\r\n");
                    }
                    input.consume(length);
                    self.source = Source::Ended;
                }
                Piece::Partial => return Ok(()),
                Piece::Malformed => return Err(Broken::Source),
            }
        }
        Ok(())
    }
}

fn append_chunk(data: &[u8], output: &mut Buffer) {
    let mut line = [0; 18];
    let mut rest = &mut line[..];
    // A usize has at most 16 digits.
    write!(rest, "{:x}\r\n", data.len()).ok();
    let unused = rest.len();
    output.append(&line[..line.len() - unused]);
    output.append(data);
    output.append(b"\r\n");
}

/// The lines of a trailer section.
fn trailers<'h, 'b>(
    section: &'b [u8],
    fields: &'h mut [httparse::Header<'b>],
) -> Result<Lines<'h, 'b>, Broken> {
    match httparse::parse_headers(section, fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => {
            Ok(Lines::of(section, fields))
        }
        _ => Err(Broken::Source),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::*;

    /// What comes out of what goes in.
    async fn pass(mut flow: Flow, sent: &[u8]) -> Result<String, Broken> {
        let (mut before, from) = duplex(7);
        let (to, mut behind) = duplex(5);
        let (mut from, mut to) = (Wire::new(from), Wire::new(to));
        let sending = async {
            // Whoever reads may stop reading.
            before.write_all(sent).await.ok();
            drop(before);
        };
        let passing = async {
            let passed = poll_fn(|cx| flow.poll_pass(cx, &mut from, &mut to)).await;
            drop((from, to));
            passed
        };
        let mut got = String::new();
        let (_, passed, read) = tokio::join!(sending, passing, behind.read_to_string(&mut got));
        read.unwrap();
        passed.map(|()| got)
    }

    #[tokio::test]
    async fn each_kind_leaves_as_it_should() {
        let chunks = |to_chunks, trailers| Flow::chunks(Chunks::default(), to_chunks, trailers);
        let chunked =
            b"3;x\r\nabc\r\n1\r\nd\r\n0\r\nX: 1\r\nX-Forwarded-For: 6\r\nHost: h\r\n\r\nrest";
        for (flow, sent, got) in [
            (Flow::length(3), &b"abcrest"[..], "abc"),
            (Flow::length(0), b"rest", ""),
            (Flow::until_close(false), b"abc", "abc"),
            (Flow::until_close(true), b"", "0\r\n\r\n"),
            (chunks(false, true), chunked, "abcd"),
        ] {
            assert_eq!(pass(flow, sent).await.unwrap(), got);
        }
        let got = pass(chunks(true, true), chunked).await.unwrap();
        assert!(got.ends_with("\r\n0\r\nX: 1\r\n\r\n"), "{got}");
        let got = pass(chunks(true, false), chunked).await.unwrap();
        assert!(got.ends_with("\r\nd\r\n0\r\n\r\n"), "{got}");
    }

    /// As a stream that encrypts does.
    #[tokio::test]
    async fn what_the_sink_holds_back_is_not_forgotten() {
        let (mut before, from) = duplex(64);
        let (to, mut behind) = duplex(64);
        let (mut from, mut to) = (Wire::new(from), Wire::new(BufWriter::new(to)));
        let mut flow = Flow::length(6);
        let mut got = [0; 3];
        before.write_all(b"abc").await.unwrap();
        let passed = futures::poll!(poll_fn(|cx| flow.poll_pass(cx, &mut from, &mut to)));
        assert!(passed.is_pending());
        assert_eq!(flow.awaits(), Awaits::Source);
        assert!(futures::poll!(std::pin::pin!(behind.read_exact(&mut got))).is_ready());
        before.write_all(b"def").await.unwrap();
        let passed = futures::poll!(poll_fn(|cx| flow.poll_pass(cx, &mut from, &mut to)));
        assert!(matches!(passed, Poll::Ready(Ok(()))));
        assert!(futures::poll!(std::pin::pin!(behind.read_exact(&mut got))).is_ready());
        assert_eq!(&got, b"def");
    }

    #[tokio::test]
    async fn trailers_make_no_claims() {
        let flow = Flow::chunks(Chunks::default(), true, true);
        let flow = flow.without_trailer("Client-IP".parse().unwrap());
        let sent = b"0\r\nX: 1\r\nCLIENT-IP: 6\r\nClient_Ip: 6\r\nForwarded: for=6\r\n\
            X-Request-ID: 6\r\nX_Request_Id: 6\r\nX-Request-Start: 6\r\nClient-IPs: 2\r\n\r\n";
        let got = pass(flow, sent).await.unwrap();
        assert_eq!(got, "0\r\nX: 1\r\nClient-IPs: 2\r\n\r\n");
    }

    #[tokio::test]
    async fn trailers_are_counted_and_do_not_grow() {
        let section = |count| format!("0\r\n{}\r\n", "a:\r\n".repeat(count));
        let chunks = || Flow::chunks(Chunks::default(), true, true);
        let passed = pass(chunks(), section(64).as_bytes()).await;
        assert_eq!(passed.unwrap(), section(64));
        let broken = pass(chunks(), section(65).as_bytes()).await.unwrap_err();
        assert!(matches!(broken, Broken::Source), "{broken:?}");
    }

    #[tokio::test]
    async fn too_long_trailers_are_broken_at_one_go_too() {
        let long = format!("0\r\nX: {}\r\n\r\n", "a".repeat(100_000));
        let (mut from, mut to) = (Wire::new(tokio::io::empty()), Wire::new(Vec::new()));
        from.input.append(long.as_bytes());
        let mut flow = Flow::chunks(Chunks::default(), true, true);
        let passed = poll_fn(|cx| flow.poll_pass(cx, &mut from, &mut to)).await;
        assert!(matches!(passed, Err(Broken::Source)), "{passed:?}");
    }

    #[tokio::test]
    async fn what_is_cut_short_is_broken() {
        for (flow, sent) in [
            (Flow::length(4), &b"abc"[..]),
            (Flow::chunks(Chunks::default(), true, true), b"3\r\nabc\r\n"),
            (
                Flow::chunks(Chunks::default(), true, true),
                b"0\r\nX : 1\r\n\r\n",
            ),
            (
                Flow::chunks(Chunks::default(), true, true),
                b"0\r\nX: 1\r\n folded\r\n\r\n",
            ),
        ] {
            let broken = pass(flow, sent).await.unwrap_err();
            assert!(matches!(broken, Broken::Source), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn no_more_comes_in_chunks_than_may() {
        let chunks = |most| {
            let flow = Flow::chunks(Chunks::default(), false, true);
            flow.at_most(most).unwrap()
        };
        assert!(Flow::length(4).at_most(3).is_none() && Flow::length(3).at_most(3).is_some());
        let sent = b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n";
        assert_eq!(pass(chunks(4), sent).await.unwrap(), "abcd");
        let broken = pass(chunks(3), sent).await.unwrap_err();
        assert!(matches!(broken, Broken::TooLarge), "{broken:?}");
    }
}
