use std::io;
use std::pin::pin;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::time::timeout;

use crate::client::Ongoing;
use crate::lease::Lease;

/// Two connections that have switched to another protocol, and are joined.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    /// Pins the upstream for as long as the tunnel lives.
    pub(crate) lease: Lease,
}

impl Tunnel {
    /// Carries bytes both ways until one side has closed and the other had time to follow.
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
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut from_a, mut to_a) = split(a);
    let (mut from_b, mut to_b) = split(b);
    let mut there = pin!(async move {
        copy(&mut from_a, &mut to_b).await?;
        to_b.shutdown().await
    });
    let mut back = pin!(async move {
        copy(&mut from_b, &mut to_a).await?;
        to_a.shutdown().await
    });
    let rest = tokio::select! {
        ended = &mut there => {
            ended?;
            timeout(linger, back).await
        }
        ended = &mut back => {
            ended?;
            timeout(linger, there).await
        }
    };
    rest.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
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
        upstream.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();

        let begun = Instant::now();
        joined.await.unwrap().unwrap();
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        assert_eq!(client.read(&mut answer).await.unwrap(), 0);
    }
}
