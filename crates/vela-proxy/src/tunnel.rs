use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::curfew::{Bedtime, Curfew};
use crate::wire::Wire;

/// Joins two connections that have switched to another protocol. Carries bytes both ways until one
/// side has closed and no more comes from the other for `linger`, or until the moment comes that
/// one of the curfews has for it. Adds up what it carries there and back.
pub(crate) async fn tunnel<A, B>(
    client: &mut Wire<A>,
    upstream: &mut Wire<B>,
    linger: Duration,
    curfews: [&Curfew; 2],
    carried: (&mut u64, &mut u64),
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Way::new(carried.0), Way::new(carried.1));
    let mut lingering: Option<Pin<Box<Sleep>>> = None;
    let mut bedtime = Bedtime::new(curfews);
    let ended = poll_fn(|cx| {
        let gone = [
            there.poll_carry(cx, client, upstream)?,
            back.poll_carry(cx, upstream, client)?,
        ];
        if gone.iter().all(Poll::is_ready) {
            return Poll::Ready(Ok(None));
        }
        if let Poll::Ready(until) = bedtime.poll(cx) {
            return Poll::Ready(Ok(Some(until)));
        }
        let has_moved = there.has_moved() | back.has_moved();
        if gone.iter().any(Poll::is_ready) {
            let timer = lingering.get_or_insert_with(|| Box::pin(sleep(linger)));
            if has_moved && let Some(until) = Instant::now().checked_add(linger) {
                timer.as_mut().reset(until);
            }
            return timer.as_mut().poll(cx).map(|()| Ok(None));
        }
        Poll::<io::Result<_>>::Pending
    })
    .await;
    match ended {
        Ok(None) => {}
        Ok(Some(until)) => part(client, upstream, until).await,
        Err(error) => tracing::trace!(%error, "a tunnel broke off"),
    }
}

/// Tells both sides that nothing more comes, and gives them until then to close theirs. What they
/// still send is lost; but to close at once would be to reset, and lose what they were sent too.
async fn part<A, B>(client: &mut Wire<A>, upstream: &mut Wire<B>, until: Instant)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut here, mut there) = (false, false);
    let parting = poll_fn(|cx| {
        let gone = [
            poll_part(cx, client, &mut here),
            poll_part(cx, upstream, &mut there),
        ];
        match gone.iter().all(Poll::is_ready) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    });
    // Whoever has not closed by then is closed on.
    timeout_at(until, parting).await.ok();
}

fn poll_part<S>(cx: &mut Context<'_>, wire: &mut Wire<S>, is_told: &mut bool) -> Poll<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !*is_told {
        // It may have gone.
        ready!(Pin::new(&mut wire.stream).poll_shutdown(cx)).ok();
        *is_told = true;
    }
    loop {
        wire.input.release();
        if let Ok(0) | Err(_) = ready!(wire.poll_fill(cx, CARRIED)) {
            return Poll::Ready(());
        }
    }
}

/// One direction of a tunnel.
#[derive(Debug)]
struct Way<'a> {
    carried: &'a mut u64,
    has_read_all: bool,
    has_ended: bool,
    has_moved: bool,
}

/// How much may be on its way in one direction.
const CARRIED: usize = 16 * 1024;

impl<'a> Way<'a> {
    fn new(carried: &'a mut u64) -> Way<'a> {
        Way {
            carried,
            has_read_all: false,
            has_ended: false,
            has_moved: false,
        }
    }

    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Ready when one side has said that it ends, and the other has been told.
    fn poll_carry<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
    ) -> io::Result<Poll<()>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        match self.poll_all(cx, from, to) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_all<A, B>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
    ) -> Poll<io::Result<()>>
    where
        A: AsyncRead + Unpin,
        B: AsyncWrite + Unpin,
    {
        while !self.has_ended {
            if !(from.input.is_empty() && to.output.is_empty()) {
                let sent = ready!(to.poll_send(cx, from.input.filled()))?;
                from.input.consume(sent);
                *self.carried += sent as u64;
                self.has_moved = true;
                to.output.release_if_empty();
            } else if self.has_read_all {
                ready!(Pin::new(&mut to.stream).poll_shutdown(cx))?;
                self.has_ended = true;
            } else {
                match from.poll_fill(cx, CARRIED) {
                    Poll::Ready(Ok(0)) => self.has_read_all = true,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        // What it has taken and holds back goes out meanwhile.
                        ready!(to.poll_flush(cx))?;
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    use super::*;

    /// As a stream that encrypts does.
    #[tokio::test(start_paused = true)]
    async fn what_a_side_holds_back_goes_out_when_no_more_comes() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut upstream, b) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let (mut a, mut b) = (Wire::new(BufWriter::new(a)), Wire::new(b));
            a.output.append(b"101");
            let (never, linger) = (Curfew::default(), Duration::from_secs(10));
            tunnel(&mut a, &mut b, linger, [&never; 2], (&mut 0, &mut 0)).await;
        });
        let mut got = [0; 6];
        upstream.write_all(b"abc").await.unwrap();
        let reading = client.read_exact(&mut got);
        // The clock does not wait: all else has come to rest when this has passed.
        let read = tokio::time::timeout(Duration::from_secs(1), reading).await;
        read.unwrap().unwrap();
        assert_eq!(&got, b"101abc");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_still_answers_for_a_while() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut upstream, b) = tokio::io::duplex(64);
        let joined = tokio::spawn(async move {
            let (mut a, mut b) = (Wire::new(a), Wire::new(b));
            a.output.append(b"101");
            b.output.append(b"early ");
            let (mut there, mut back) = (0, 0);
            let carried = (&mut there, &mut back);
            let (never, linger) = (Curfew::default(), Duration::from_secs(10));
            tunnel(&mut a, &mut b, linger, [&never; 2], carried).await;
            assert_eq!((there, back), (3, 30));
        });
        client.write_all(b"all").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = String::new();
        upstream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "early all");
        let mut answer = [0; 6];
        client.read_exact(&mut answer[..3]).await.unwrap();
        assert_eq!(&answer[..3], b"101");
        // Each piece gives it time for the next one.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            upstream.write_all(b"answer").await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
        }

        let begun = Instant::now();
        joined.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!(client.read(&mut answer).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn at_its_moment_both_sides_are_told_and_have_time_to_go() {
        let limit = Duration::from_secs(60);
        for leaves in [true, false] {
            let (mut client, a) = tokio::io::duplex(64);
            let (mut upstream, b) = tokio::io::duplex(64);
            let begun = Instant::now();
            let curfew = Curfew::default();
            curfew.tell(limit);
            let joined = tokio::spawn(async move {
                let (mut a, mut b) = (Wire::new(a), Wire::new(b));
                tunnel(
                    &mut a,
                    &mut b,
                    Duration::from_secs(10),
                    [&Curfew::default(), &curfew],
                    (&mut 0, &mut 0),
                )
                .await;
            });
            let mut got = Vec::new();
            upstream.read_to_end(&mut got).await.unwrap();
            client.read_to_end(&mut got).await.unwrap();
            assert!(got.is_empty() && begun.elapsed() >= limit / 2);
            client.write_all(&[0; 1000]).await.unwrap();
            drop(client);
            tokio::task::yield_now().await;
            assert!(!joined.is_finished());
            if leaves {
                drop(upstream);
                let told = Instant::now();
                joined.await.unwrap();
                assert_eq!(told.elapsed(), Duration::ZERO);
            } else {
                tokio::time::timeout(limit, joined).await.unwrap().unwrap();
                assert!(begun.elapsed() <= limit);
            }
        }
    }
}
