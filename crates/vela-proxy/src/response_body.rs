use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::client::Ongoing;
use crate::lease::Lease;

/// What a client gets: an upstream's response as it comes, or a page of the proxy's own.
///
/// An error of the upstream passes through, and makes hyper break the connection off: a response
/// that is cut short never looks like a complete one.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    content: Content,
    /// Held until the response has ended, or the client has gone.
    ongoing: Option<Ongoing>,
}

#[derive(Debug)]
enum Content {
    Page(Option<Bytes>),
    Upstream(Incoming, Option<Lease>),
}

impl ResponseBody {
    pub(crate) fn page(text: impl Into<Bytes>) -> ResponseBody {
        ResponseBody {
            content: Content::Page(Some(text.into()).filter(|text: &Bytes| !text.is_empty())),
            ongoing: None,
        }
    }

    pub(crate) fn upstream(body: Incoming, lease: Lease) -> ResponseBody {
        ResponseBody {
            content: Content::Upstream(body, Some(lease)),
            ongoing: None,
        }
    }

    /// Keeps the request counted as in flight until the body has ended.
    pub(crate) fn with(self, ongoing: Ongoing) -> ResponseBody {
        let mut body = ResponseBody {
            ongoing: Some(ongoing),
            ..self
        };
        body.end_if_complete();
        body
    }

    /// hyper does not poll a body beyond its announced length, so its end is seen here.
    fn end_if_complete(&mut self) {
        if self.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        let ongoing = self.ongoing.take();
        if let Content::Upstream(_, lease) = &mut self.content
            && let Some(lease) = lease.take()
        {
            lease.end(ongoing);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = match &mut self.content {
            Content::Page(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Upstream(body, _) => Pin::new(body).poll_frame(cx),
        };
        match &polled {
            Poll::Ready(None) => self.end(),
            // Nor does it ask for anything after trailers.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => self.end(),
            Poll::Ready(Some(Ok(_))) => self.end_if_complete(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Page(text) => text.is_none(),
            Content::Upstream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Page(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Content::Upstream(body, _) => body.size_hint(),
        }
    }
}
