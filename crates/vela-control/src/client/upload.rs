use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use uuid::Uuid;
use vela_protocol::Upload;

use super::ClientError;
use super::http::{Call, Http};

const CHUNK: usize = 128 << 10;
/// How often a file is sent before a lost connection is given up.
const ATTEMPTS: u32 = 3;

/// Sends what `source` holds, which must be `size` bytes.
pub(super) async fn send(
    http: &Http,
    id: Uuid,
    source: impl AsyncRead + Send + Unpin,
    size: u64,
    progress: &mut (impl FnMut(u64) + Send),
) -> Result<Upload, ClientError> {
    let mut sender = http.ready().await?;
    // A few chunks of room, so that reading and sending overlap.
    let (chunks, body) = mpsc::channel(4);
    let body = Chunks {
        chunks: body,
        left: size,
    };
    let request = http
        .head(Method::PUT, &format!("/v1/uploads/{id}"))
        .header("content-type", "application/gzip")
        .body(body.boxed_unsync())
        .expect("the path is an id");
    let answer = sender.send_request(request);
    let fed = feed(source, size, chunks, progress);
    // The daemon may answer before it has all, when it refuses it.
    let (answer, fed) = tokio::join!(answer, fed);
    fed.map_err(ClientError::Source)?;
    let answer = answer.map_err(|error| http.lost(io::Error::other(error)))?;
    let answer = http.finish(sender, answer).await?;
    let body = http.read(answer).await?;
    let upload: Upload =
        serde_json::from_slice(&body).map_err(|error| http.strange(error.to_string()))?;
    match upload.size == size {
        true => Ok(upload),
        false => Err(http.strange(format!("it received {} of {size} bytes", upload.size))),
    }
}

/// Sends a file, from its beginning again if the connection is lost.
pub(super) async fn send_file(
    http: &Http,
    id: Uuid,
    path: &Path,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Upload, ClientError> {
    let unreadable = |source| ClientError::Read {
        path: path.to_owned(),
        source,
    };
    for attempt in 1.. {
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        match send(http, id, file, size, &mut progress).await {
            Err(ClientError::Source(source)) => return Err(unreadable(source)),
            Err(ClientError::Lost { source, .. }) if attempt < ATTEMPTS => {
                tracing::info!(error = %source, attempt, "the upload was cut: sending it again");
                // What the daemon received whole, while its answer was lost, would be in the way.
                if let Err(error) = discard(http, id).await {
                    tracing::debug!(%error, "the cut upload could not be dropped");
                }
                progress(0);
            }
            result => return result,
        }
    }
    unreachable!("the last attempt returns")
}

/// Drops an upload.
pub(super) async fn discard(http: &Http, id: Uuid) -> Result<(), ClientError> {
    let path = format!("/v1/uploads/{id}");
    let call = Call::change(Method::DELETE, path, Bytes::new());
    let answer = http.call(&call).await?;
    http.read(answer).await.map(drop)
}

/// Moves the source into the body; ends early, in good order, when nobody reads the body any more.
async fn feed(
    mut source: impl AsyncRead + Send + Unpin,
    size: u64,
    chunks: mpsc::Sender<io::Result<Bytes>>,
    progress: &mut (impl FnMut(u64) + Send),
) -> io::Result<()> {
    let mut sent = 0;
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = source.read_buf(&mut chunk).await;
        let failed = match read {
            Ok(0) if sent == size => return Ok(()),
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than announced"),
            Ok(_) if sent + chunk.len() as u64 > size => {
                io::Error::new(io::ErrorKind::InvalidData, "it is longer than announced")
            }
            Ok(count) => {
                if chunks.send(Ok(chunk.freeze())).await.is_err() {
                    return Ok(());
                }
                sent += count as u64;
                progress(sent);
                continue;
            }
            Err(error) => error,
        };
        // Cuts the request, so that the daemon drops what it has.
        let cut = io::Error::new(failed.kind(), failed.to_string());
        return match chunks.send(Err(cut)).await {
            Ok(()) | Err(_) => Err(failed),
        };
    }
}

struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.chunks.poll_recv(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.left = self.left.saturating_sub(chunk.len() as u64);
        }
        polled.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
