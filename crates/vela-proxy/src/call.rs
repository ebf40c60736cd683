use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::ProxyConfig;
use crate::client_stream::ClientStream;
use crate::departure::Departure;
use crate::flow::{Awaits, Broken, Flow};
use crate::head_end::{Extent, HeadEnd};
use crate::patience::{Patience, Wait};
use crate::request_head::Asked;
use crate::response_head::{self, Answered};
use crate::wire::Wire;

/// A request on its way over one connection to an upstream, and its response on the way back:
/// both move at the same time.
#[derive(Debug)]
pub(crate) struct Call<'a, C, U> {
    pub(crate) client: &'a mut Wire<C>,
    /// Its output begins with the request's head.
    pub(crate) upstream: &'a mut Wire<U>,
    pub(crate) upload: &'a mut Upload,
    pub(crate) patience: &'a mut Patience,
    pub(crate) asked: &'a Asked,
    pub(crate) config: &'a ProxyConfig,
    /// The client's connection may serve another request, if nothing else forbids it.
    pub(crate) may_stay: bool,
    /// What responses without `Strict-Transport-Security` get as that.
    pub(crate) hsts: Option<&'a str>,
}

/// A request's body, and the head before it.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) flow: Flow,
    pub(crate) state: Uploaded,
    /// The client waits with the body until it is asked for it, so that none of it is passed on.
    pub(crate) is_held: bool,
    /// An upstream ended the connection that it was sent over. It is not lost twice.
    pub(crate) was_lost: bool,
    pub(crate) departure: Departure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    NotYet,
    Wholly,
    /// The upstream takes no more of it. It may respond nonetheless.
    Unwanted,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The upstream was sent nothing of the request.
    Unsent,
    /// The upstream's connection ended without a response.
    Lost,
    Malformed,
    ResponseTimedOut,
    BodyTimedOut,
    BodyAborted,
    BodyTooLarge,
    ClientGone,
}

/// Why a response does not get to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    ByUpstream,
    /// The upstream goes on being connected, and sends nothing.
    BySilence,
    ByClient,
    /// It is a stream, and its time is over.
    AtCurfew,
}

/// How much a client may send ahead before the rest is left unread.
pub(crate) const SENT_AHEAD: usize = 16 * 1024;
/// How long an upstream may take to ask for the body of a client that waits for that. Many never
/// ask. curl waits as long as well before it sends the body unasked.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl<C, U> Call<'_, C, U>
where
    C: ClientStream,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends the request until the head of its response is there. That of the client's response
    /// is in its output then. `patience` is for the next piece of the request to be taken, and
    /// then for the begin of the response.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        head_end: &mut HeadEnd,
        patience: Duration,
    ) -> Poll<Result<Answered, Trouble>> {
        loop {
            match self.poll_upload(cx) {
                Poll::Ready(Err(trouble)) => return Poll::Ready(Err(trouble)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // Who responds at all has been asked, whatever it took of the request.
            if self.upload.state == Uploaded::Unwanted
                && self.upstream.output.is_untouched()
                && self.upstream.input.is_untouched()
            {
                return Poll::Ready(Err(Trouble::Unsent));
            }
            // An interim response or the proxy's own.
            if let Poll::Ready(Err(_)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(Trouble::ClientGone));
            }
            // Who sends interim responses without end waits for a client that does not take them.
            if self.client.output.len() >= SENT_AHEAD {
                break;
            }
            match self.upstream.poll_fill(cx, self.config.limits.head_bytes) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Trouble::Lost)),
                Poll::Ready(Ok(_)) => {
                    if let Some(answered) = self.read_head(head_end)? {
                        self.patience.end();
                        return Poll::Ready(Ok(answered));
                    }
                }
                Poll::Pending => break,
            }
        }
        if self.upload.state == Uploaded::NotYet {
            if self.client.stream.poll_left(cx).is_ready() || self.poll_departed(cx).is_ready() {
                return Poll::Ready(Err(Trouble::ClientGone));
            }
            self.wait_for_upload(patience);
        } else if poll_gone(self.client, &mut self.upload.departure, cx).is_ready() {
            return Poll::Ready(Err(Trouble::ClientGone));
        } else {
            // It was the last piece.
            if self.upload.flow.has_moved() {
                self.patience.end();
            }
            self.patience.wait(Wait::Response, patience);
        }
        match ready!(self.patience.poll_over(cx)) {
            Wait::Continue => {
                self.ask_for_body();
                self.poll_answer(cx, head_end, patience)
            }
            Wait::Body => Poll::Ready(Err(Trouble::BodyTimedOut)),
            _ => Poll::Ready(Err(Trouble::ResponseTimedOut)),
        }
    }

    /// Passes the response on until the client has all of it and the upstream all of the request.
    /// `patience` is for the next piece of a response that is no stream.
    pub(crate) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        download: &mut Flow,
        patience: Option<Duration>,
    ) -> Poll<Result<(), Cut>> {
        if let Poll::Ready(Err(_)) = self.poll_upload(cx) {
            return Poll::Ready(Err(Cut::ByClient));
        }
        if self.poll_departed(cx).is_ready() {
            return Poll::Ready(Err(Cut::ByClient));
        }
        let limits = &self.config.timeouts;
        match download.poll_pass(cx, self.upstream, self.client) {
            Poll::Ready(Ok(())) if self.upload.state != Uploaded::NotYet => {
                self.patience.end();
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(())) if self.client.stream.poll_left(cx).is_ready() => {
                return Poll::Ready(Err(Cut::ByClient));
            }
            Poll::Ready(Ok(())) => {
                self.wait_for_upload(limits.response);
                return self.patience.poll_over(cx).map(|wait| match wait {
                    // The response is whole all the same.
                    Wait::Response => {
                        self.upload.state = Uploaded::Unwanted;
                        Ok(())
                    }
                    _ => Err(Cut::ByClient),
                });
            }
            Poll::Ready(Err(Broken::Source | Broken::TooLarge)) => {
                return Poll::Ready(Err(Cut::ByUpstream));
            }
            Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(Err(Cut::ByClient)),
            Poll::Pending if download.awaits() == Awaits::Sink => {
                if download.has_moved() {
                    self.patience.end();
                }
                self.patience.wait(Wait::Write, limits.write);
            }
            Poll::Pending => {
                let gone = match self.upload.state {
                    Uploaded::NotYet => self.client.stream.poll_left(cx),
                    _ => poll_gone(self.client, &mut self.upload.departure, cx),
                };
                if gone.is_ready() {
                    return Poll::Ready(Err(Cut::ByClient));
                }
                if download.has_moved() | self.upload.flow.has_moved() {
                    self.patience.end();
                }
                match patience {
                    Some(patience) => self.patience.wait(Wait::ResponseBody, patience),
                    None => self.patience.end(),
                }
            }
        }
        self.patience.poll_over(cx).map(|wait| match wait {
            // Nothing to be said yet, maybe, because the request is not whole.
            Wait::ResponseBody if !self.awaits_client() => Err(Cut::BySilence),
            _ => Err(Cut::ByClient),
        })
    }

    /// An error is the client's.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        if self.upload.state != Uploaded::NotYet {
            return Poll::Ready(Ok(()));
        }
        let passed = match self.is_held(cx) {
            true => match ready!(self.upstream.poll_flush(cx)) {
                Ok(()) => return Poll::Pending,
                Err(error) => Err(Broken::Sink(error)),
            },
            false => ready!(self.upload.flow.poll_pass(cx, self.client, self.upstream)),
        };
        match passed {
            Ok(()) => self.upload.state = Uploaded::Wholly,
            Err(Broken::Sink(error)) => {
                tracing::debug!(%error, "an upstream does not take a request");
                self.upload.state = Uploaded::Unwanted;
            }
            Err(Broken::Source) => return Poll::Ready(Err(Trouble::BodyAborted)),
            Err(Broken::TooLarge) => return Poll::Ready(Err(Trouble::BodyTooLarge)),
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client still waits to be asked for the body. It need not wait for long.
    fn is_held(&mut self, cx: &mut Context<'_>) -> bool {
        let Upload { is_held, .. } = &mut *self.upload;
        *is_held = *is_held
            && self.client.input.is_empty()
            && self.client.poll_fill(cx, SENT_AHEAD).is_pending();
        *is_held
    }

    fn ask_for_body(&mut self) {
        self.upload.is_held = false;
        self.client.output.append(CONTINUE);
    }

    /// Ready when the client has left while the upstream does not take what it sends.
    fn poll_departed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Upload {
            flow,
            state,
            departure,
            ..
        } = &mut *self.upload;
        if *state == Uploaded::NotYet && flow.awaits() == Awaits::Sink {
            return departure.poll(cx, &self.client.stream);
        }
        Poll::Pending
    }

    /// Waits for the client to send the next piece of the body, or for the upstream to take it,
    /// which has as much time for that as for its response.
    fn wait_for_upload(&mut self, patience: Duration) {
        if self.upload.is_held {
            return self.patience.wait(Wait::Continue, ASKED_WITHIN);
        }
        if self.upload.flow.has_moved() {
            self.patience.end();
        }
        match self.upload.flow.awaits() {
            Awaits::Source => self
                .patience
                .wait(Wait::Body, self.config.timeouts.body_read),
            Awaits::Sink => self.patience.wait(Wait::Response, patience),
        }
    }

    /// Whether the client has not sent all of the request, and the upstream has taken what it has.
    fn awaits_client(&self) -> bool {
        self.upload.state == Uploaded::NotYet && self.upload.flow.awaits() == Awaits::Source
    }

    fn read_head(&mut self, head_end: &mut HeadEnd) -> Result<Option<Answered>, Trouble> {
        loop {
            let limits = &self.config.limits;
            let input = &mut self.upstream.input;
            let length = match head_end.find(input.filled()) {
                Extent::Whole(length) if length <= limits.head_bytes => length,
                Extent::Partial { .. } if input.len() < limits.head_bytes => return Ok(None),
                _ => return Err(Trouble::Malformed),
            };
            let unsent = self.client.output.len();
            let answered = response_head::translate(
                &input.filled()[..length],
                limits,
                self.asked,
                // Who has its answer need not send the body, but may.
                self.may_stay && !self.upload.is_held,
                self.hsts,
                &mut self.client.output,
            );
            input.consume(length);
            *head_end = HeadEnd::default();
            match answered {
                Ok(answered) if answered.status == 100 && self.upload.is_held => {
                    self.ask_for_body();
                }
                Ok(answered) if (100..200).contains(&answered.status) && answered.status != 101 => {
                }
                // Nobody has asked for it, or not to the end. Interim responses before it stay.
                Ok(answered)
                    if answered.status == 101
                        && !(self.asked.upgrades && self.upload.state == Uploaded::Wholly) =>
                {
                    self.client.output.truncate(unsent);
                    return Err(Trouble::Malformed);
                }
                Ok(answered) => {
                    if self.upload.is_held {
                        self.upload.state = Uploaded::Unwanted;
                    }
                    return Ok(Some(answered));
                }
                Err(response_head::Malformed) => return Err(Trouble::Malformed),
            }
        }
    }
}

/// Ready when the client has gone. What it sends ahead is kept, up to a limit, and from there on its
/// departure is looked for.
pub(crate) fn poll_gone<C>(
    client: &mut Wire<C>,
    departure: &mut Departure,
    cx: &mut Context<'_>,
) -> Poll<()>
where
    C: ClientStream,
{
    if client.stream.poll_left(cx).is_ready() {
        return Poll::Ready(());
    }
    while client.input.len() < SENT_AHEAD {
        match ready!(client.poll_fill(cx, SENT_AHEAD)) {
            Ok(0) | Err(_) => return Poll::Ready(()),
            Ok(_) => {}
        }
    }
    departure.poll(cx, &client.stream)
}

/// The shortest of the limits that a client's connection may meet.
pub(crate) fn shortest_limit(config: &ProxyConfig) -> Duration {
    let limits = &config.timeouts;
    let all = [
        limits.header_read,
        limits.keep_alive,
        limits.body_read,
        limits.write,
        limits.response,
        limits.response_body,
    ];
    all.into_iter().min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::chunks::Chunks;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\n\r\n";
    const PATIENCE: Duration = Duration::from_secs(60);

    /// The status of what comes of a request with such a body.
    async fn ask(client: DuplexStream, upstream: DuplexStream, body: Flow) -> Result<u16, Trouble> {
        let is_held = false;
        ask_for(client, upstream, body, is_held).await
    }

    async fn ask_for(
        client: DuplexStream,
        upstream: DuplexStream,
        body: Flow,
        is_held: bool,
    ) -> Result<u16, Trouble> {
        let (mut client, mut upstream) = (Wire::new(client), Wire::new(upstream));
        upstream.output.append(HEAD);
        let config = ProxyConfig::default();
        let mut call = Call {
            client: &mut client,
            upstream: &mut upstream,
            upload: &mut Upload {
                flow: body,
                state: Uploaded::NotYet,
                is_held,
                was_lost: false,
                departure: Departure::default(),
            },
            patience: &mut Patience::new(shortest_limit(&config)),
            asked: &Asked {
                is_head: false,
                is_idempotent: false,
                is_http11: true,
                keep_alive: true,
                expects_continue: is_held,
                takes_trailers: false,
                upgrades: false,
            },
            config: &config,
            may_stay: true,
            hsts: None,
        };
        let mut head_end = HeadEnd::default();
        let answered = poll_fn(|cx| call.poll_answer(cx, &mut head_end, PATIENCE)).await;
        answered.map(|answered| answered.status)
    }

    /// What comes of an upload in chunks whose upstream takes the head and one chunk, says this,
    /// and closes, while the next chunk is on its way.
    async fn cut_off(says: &[u8], next: &[u8]) -> Result<u16, Trouble> {
        let (mut outside, client) = duplex(1024);
        let (upstream, mut app) = duplex(1024);
        let chunks = Flow::chunks(Chunks::default(), true, true);
        let mut asking = Box::pin(ask(client, upstream, chunks));
        outside.write_all(b"3\r\nabc\r\n").await.unwrap();
        assert!(futures::poll!(&mut asking).is_pending());
        let mut taken = [0; HEAD.len() + 8];
        app.read_exact(&mut taken).await.unwrap();
        assert!(taken.ends_with(b"3\r\nabc\r\n"));
        app.write_all(says).await.unwrap();
        drop(app);
        outside.write_all(next).await.unwrap();
        asking.await
    }

    #[tokio::test]
    async fn what_was_sent_in_part_is_not_unsent() {
        for next in [&b"3\r\ndef\r\n"[..], b"0\r\n\r\n"] {
            let early = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
            assert_eq!(cut_off(early, next).await, Ok(413));
            assert_eq!(cut_off(b"", next).await, Err(Trouble::Lost));
        }
    }

    /// It need not have taken any of the request.
    #[tokio::test]
    async fn who_has_said_something_has_been_asked() {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        for (says, trouble) in [(&b""[..], Trouble::Unsent), (hints, Trouble::Lost)] {
            let (_outside, client) = duplex(1024);
            let (mut upstream, mut app) = duplex(1024);
            // There is no room for the head.
            upstream.write_all(&[b'x'; 1024]).await.unwrap();
            let mut asking = Box::pin(ask(client, upstream, Flow::length(0)));
            app.write_all(says).await.unwrap();
            assert!(futures::poll!(&mut asking).is_pending());
            drop(app);
            assert_eq!(asking.await, Err(trouble));
        }
    }

    /// Each side is waited for as it may be, however slow the other is.
    #[tokio::test(start_paused = true)]
    async fn the_upstream_has_its_time_for_each_piece_and_then_for_its_response() {
        let slow = PATIENCE * 9 / 10;
        let (mut outside, client) = duplex(1024);
        // There is room for one piece of three.
        let (upstream, mut app) = duplex(HEAD.len());
        outside.write_all(&[b'x'; 2 * HEAD.len()]).await.unwrap();
        let body = Flow::length(2 * HEAD.len() as u64);
        let asking = tokio::spawn(ask(client, upstream, body));
        for _ in 0..2 {
            sleep(slow).await;
            app.read_exact(&mut [0; HEAD.len()]).await.unwrap();
        }
        sleep(slow).await;
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        app.read_exact(&mut [0; HEAD.len()]).await.unwrap();
        app.write_all(answer).await.unwrap();
        assert_eq!(asking.await.unwrap(), Ok(204));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_go_on_is_told_from_the_other() {
        for (sent, trouble, limit) in [
            (&b"body"[..], Trouble::ResponseTimedOut, PATIENCE),
            (b"", Trouble::BodyTimedOut, Duration::from_secs(30)),
        ] {
            let (mut outside, client) = duplex(1024);
            let (upstream, _app) = duplex(HEAD.len());
            outside.write_all(sent).await.unwrap();
            let begun = Instant::now();
            let answered = ask(client, upstream, Flow::length(4)).await;
            assert_eq!(answered, Err(trouble));
            assert_eq!(begun.elapsed(), limit);
        }
    }

    /// Whether or not the upstream ever does: the client is told once.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_asks_for_is_asked_for_in_time() {
        for late_word in [&b""[..], CONTINUE, b"HTTP/1.1 100 Go on\r\nx: y\r\n\r\n"] {
            let (mut outside, client) = duplex(1024);
            let (upstream, mut app) = duplex(1024);
            let begun = Instant::now();
            let asking = tokio::spawn(ask_for(client, upstream, Flow::length(4), true));
            app.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            let mut word = [0; CONTINUE.len()];
            outside.read_exact(&mut word).await.unwrap();
            assert_eq!(word, CONTINUE);
            assert_eq!(begun.elapsed(), ASKED_WITHIN);
            app.write_all(late_word).await.unwrap();
            outside.write_all(b"body").await.unwrap();
            let mut body = [0; 4];
            app.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"body");
            app.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(asking.await.unwrap(), Ok(204));
            // The response's head was not written any more.
            assert_eq!(outside.read(&mut word).await.unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_unasked_waits_for_nothing() {
        let begun = Instant::now();
        for is_at_once in [true, false] {
            let (mut outside, client) = duplex(1024);
            let (upstream, mut app) = duplex(1024);
            let asking = ask_for(client, upstream, Flow::length(4), true);
            let mut asking = Box::pin(asking);
            if !is_at_once {
                assert!(futures::poll!(&mut asking).is_pending());
                app.read_exact(&mut [0; HEAD.len()]).await.unwrap();
            }
            outside.write_all(b"body").await.unwrap();
            assert!(futures::poll!(&mut asking).is_pending());
            let mut came = [0; HEAD.len() + 4];
            let length = app.read(&mut came).await.unwrap();
            assert!(came[..length].ends_with(b"body"));
            app.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(asking.await, Ok(204));
            assert_eq!(outside.read(&mut came).await.unwrap(), 0);
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    /// How a response of so many bytes ends whose request has a body of so many.
    async fn respond(
        (client, upload): (DuplexStream, u64),
        (upstream, download): (DuplexStream, u64),
        patience: Option<Duration>,
    ) -> Result<(), Cut> {
        let config = ProxyConfig::default();
        let mut call = Call {
            client: &mut Wire::new(client),
            upstream: &mut Wire::new(upstream),
            upload: &mut Upload {
                flow: Flow::length(upload),
                state: Uploaded::NotYet,
                is_held: false,
                was_lost: false,
                departure: Departure::default(),
            },
            patience: &mut Patience::new(shortest_limit(&config)),
            asked: &Asked {
                is_head: false,
                is_idempotent: false,
                is_http11: true,
                keep_alive: true,
                expects_continue: false,
                takes_trailers: false,
                upgrades: false,
            },
            config: &config,
            may_stay: true,
            hsts: None,
        };
        let mut download = Flow::length(download);
        let rest = poll_fn(|cx| call.poll_rest(cx, &mut download, patience));
        timeout(PATIENCE * 1000, rest).await.expect("an end")
    }

    #[tokio::test(start_paused = true)]
    async fn each_piece_of_a_response_has_its_time_and_a_stream_has_any() {
        for patience in [Some(PATIENCE), None] {
            let (_outside, client) = duplex(1024);
            let (upstream, mut app) = duplex(1024);
            let responding = tokio::spawn(respond((client, 0), (upstream, 100), patience));
            for _ in 0..5 {
                sleep(PATIENCE * 9 / 10).await;
                app.write_all(b"piece").await.unwrap();
            }
            let begun = Instant::now();
            if patience.is_some() {
                assert_eq!(responding.await.unwrap(), Err(Cut::BySilence));
                assert_eq!(begun.elapsed(), PATIENCE);
                continue;
            }
            sleep(PATIENCE * 100).await;
            assert!(!responding.is_finished());
            drop(app);
            assert_eq!(responding.await.unwrap(), Err(Cut::ByUpstream));
        }
    }

    /// Whoever holds up the request holds up the response.
    #[tokio::test(start_paused = true)]
    async fn a_response_is_waited_for_as_long_as_the_request_moves() {
        // The upstream takes all, or no more than the first two pieces.
        for (pieces, room, cut) in [(2, 1024, Cut::ByClient), (3, 10, Cut::BySilence)] {
            let (mut outside, client) = duplex(1024);
            let (upstream, _app) = duplex(room);
            let responding = tokio::spawn(respond((client, 100), (upstream, 5), Some(PATIENCE)));
            for _ in 0..pieces {
                sleep(PATIENCE * 9 / 10).await;
                outside.write_all(b"piece").await.unwrap();
            }
            let begun = Instant::now();
            assert_eq!(responding.await.unwrap(), Err(cut));
            assert_eq!(begun.elapsed(), PATIENCE);
        }
    }
}
