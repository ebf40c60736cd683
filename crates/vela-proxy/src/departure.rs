use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::client_stream::ClientStream;

/// Notices that a client leaves while nothing is read of it, because what it sends is not taken.
///
/// Its end stands behind all that it has sent, where no read gets to; so it is asked for by itself. Only
/// once in a while, and only after a while: most that is not taken at once is taken soon.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    look: Option<Pin<Box<Sleep>>>,
}

const LOOK: Duration = Duration::from_secs(1);

impl Departure {
    /// Ready when the client has left. To be polled only while it is not read from.
    pub(crate) fn poll<C>(&mut self, cx: &mut Context<'_>, client: &C) -> Poll<()>
    where
        C: ClientStream,
    {
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        while look.as_mut().poll(cx).is_ready() {
            if client.has_left() {
                return Poll::Ready(());
            }
            look.as_mut().reset(Instant::now() + LOOK);
        }
        Poll::Pending
    }
}
