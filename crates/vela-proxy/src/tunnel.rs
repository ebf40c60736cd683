use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

use crate::client::Ongoing;
use crate::lease::Lease;
use crate::moment::Moment;

/// Two connections that have switched to another protocol, and are joined.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    /// Pins the upstream for as long as the tunnel lives.
    pub(crate) lease: Lease,
}

impl Tunnel {
    /// Carries bytes both ways until one side has closed and no more comes from the other.
    pub(crate) async fn run(self, ongoing: Ongoing) {
        let Tunnel {
            client,
            upstream,
            lease,
        } = self;
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::trace!(%error, "an upgrade did not come about");
                return;
            }
        };
        let linger = ongoing.client.worker.config.timeouts.tunnel_linger;
        if let Err(error) = join(TokioIo::new(client), TokioIo::new(upstream), linger).await {
            tracing::trace!(%error, "a tunnel broke off");
        }
        // The connections have gone before the pin goes.
        drop(lease);
        drop(ongoing);
    }
}

async fn join<A, B>(a: A, b: B, linger: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Send,
    B: AsyncRead + AsyncWrite + Send,
{
    let (from_a, to_a) = split(a);
    let (from_b, to_b) = split(b);
    let moved = Moment::new();
    let mut there = pin!(carry(from_a, to_b, &moved));
    let mut back = pin!(carry(from_b, to_a, &moved));
    let mut rest: Pin<&mut (dyn Future<Output = io::Result<()>> + Send)> = tokio::select! {
        ended = &mut there => {
            ended?;
            back
        }
        ended = &mut back => {
            ended?;
            there
        }
    };
    moved.mark();
    loop {
        let left = linger.saturating_sub(moved.at().elapsed());
        match timeout(left, rest.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) if moved.at().elapsed() < linger => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Carries bytes one way until they end, and says so on the other side.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Moment,
) -> io::Result<()> {
    let mut buffer = vec![0; 8 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            moved.mark();
            rest = &rest[written..];
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_still_answers_for_a_while() {
        let (mut client, a) = tokio::io::duplex(64);
        let (mut upstream, b) = tokio::io::duplex(64);
        let joined = tokio::spawn(join(a, b, Duration::from_secs(10)));
        client.write_all(b"all").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = String::new();
        upstream.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "all");
        // Each piece gives it time for the next one.
        let mut answer = [0; 6];
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            upstream.write_all(b"answer").await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
        }

        let begun = Instant::now();
        joined.await.unwrap().unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!(client.read(&mut answer).await.unwrap(), 0);
    }
}
