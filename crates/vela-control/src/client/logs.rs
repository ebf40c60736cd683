use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::stream::{self, BoxStream};
use vela_protocol::LogLine;

use super::ClientError;
use super::http::Http;
use super::lines::Lines;

/// The lines of an app's log, as they are written.
///
/// Ends when all were given, or never while it follows the log; an error is the last item.
pub struct LogStream {
    lines: BoxStream<'static, Result<LogLine, ClientError>>,
}

impl LogStream {
    pub(super) fn new(http: Http, lines: Lines) -> LogStream {
        let lines = stream::unfold(Some((http, lines)), async |state| {
            let (http, mut lines) = state?;
            match lines.next().await? {
                Ok(line) => Some((Ok(line), Some((http, lines)))),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    Some((Err(http.strange(error.to_string())), None))
                }
                Err(error) => Some((Err(http.lost(error)), None)),
            }
        });
        LogStream {
            lines: Box::pin(lines),
        }
    }
}

impl Stream for LogStream {
    type Item = Result<LogLine, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStream").finish_non_exhaustive()
    }
}
