use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::Timeouts;
use crate::client_stream::ClientStream;
use crate::patience::{Patience, Wait};
use crate::wire::Wire;

/// The end of a connection whose client may still be sending, as one does whose upload nobody wants.
///
/// To close it at once would be to reset it, and a reset overtakes an answer that has not been read:
/// many clients read nothing before they have sent all. So the client is told that nothing more
/// comes, and what it sends is thrown away until it has gone.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// `None` is no limit.
    until: Option<Instant>,
    idle: Duration,
    is_shut: bool,
    is_hurried: bool,
}

/// How long a client may take to see that its connection ends, when the proxy stops and where it is
/// owed no answer.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

impl Lingering {
    pub(crate) fn new(limits: &Timeouts) -> Lingering {
        Lingering {
            until: Instant::now().checked_add(limits.linger),
            idle: limits.linger_idle,
            is_shut: false,
            is_hurried: false,
        }
    }

    /// Ready when the client has gone, or has had its time: there is less of it once `is_stopping`.
    /// `patience` waits for nothing else meanwhile.
    pub(crate) fn poll<C>(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut Wire<C>,
        patience: &mut Patience,
        is_stopping: bool,
    ) -> Poll<()>
    where
        C: ClientStream,
    {
        if is_stopping && !std::mem::replace(&mut self.is_hurried, true) {
            let soon = Instant::now() + FAREWELL;
            self.until = Some(self.until.map_or(soon, |until| until.min(soon)));
            patience.end();
        }
        if !self.is_shut {
            match Pin::new(&mut wire.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.is_shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                // Its end is a word that the client does not take.
                Poll::Pending => return self.poll_over(cx, patience),
            }
        }
        // However fast the client sends, the runtime ends this after a number of reads.
        loop {
            match wire.poll_fill(cx, 1) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => {
                    wire.input.consume(count);
                    patience.end();
                }
                Poll::Pending => return self.poll_over(cx, patience),
            }
        }
    }

    fn poll_over(&self, cx: &mut Context<'_>, patience: &mut Patience) -> Poll<()> {
        let left = self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return Poll::Ready(());
        }
        patience.wait(Wait::Linger, self.idle.min(left));
        patience.poll_over(cx).map(|_| ())
    }
}
