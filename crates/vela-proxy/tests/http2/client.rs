use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::LONG;
use crate::world::Door;

/// A client that behaves.
pub(crate) struct Client {
    pub(crate) requests: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }
}

impl Client {
    pub(crate) async fn connect(door: &Door) -> Client {
        Client::with(door, &Builder::new()).await
    }

    pub(crate) async fn with(door: &Door, builder: &Builder) -> Client {
        let (requests, connection) = builder.handshake(door.enter().await).await.unwrap();
        Client {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a request; `is_whole` says that it has no body.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        is_whole: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_send(request, is_whole).await.unwrap()
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let ready = timeout(LONG, self.requests.clone().ready());
        self.requests = ready.await.expect("room for a stream")?;
        self.requests.send_request(request, is_whole)
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path), None).await.unwrap()
    }

    /// A request with all of its body.
    pub(crate) async fn ask(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<Answer, h2::Error> {
        let (response, mut sending) = self.try_send(request, body.is_none()).await?;
        let upload = async move {
            if let Some(body) = body {
                // Whoever answers early takes no more of it.
                send_all(&mut sending, body).await.ok();
                sending.send_data(Bytes::new(), true).ok();
            }
            sending
        };
        let both = async { tokio::join!(answer(response), upload) };
        let (answered, _) = timeout(LONG, both).await.expect("an answer in time");
        answered
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("https://a.test{path}"))
        .body(())
        .unwrap()
}

/// Sends as the windows allow.
pub(crate) async fn send_all(
    sending: &mut SendStream<Bytes>,
    mut body: Bytes,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        sending.reserve_capacity(body.len());
        let room = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await;
        let Some(room) = room.transpose()? else {
            return Err(h2::Reason::CANCEL.into());
        };
        sending.send_data(body.split_to(room.min(body.len())), false)?;
    }
    Ok(())
}

/// The whole of an answer.
pub(crate) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let bytes = rest(&mut body).await?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(bytes).unwrap(),
        trailers: body.trailers().await?,
    })
}

/// What is left of a body.
pub(crate) async fn rest(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The next piece of a body that is any; `None` at its end.
pub(crate) async fn next(body: &mut RecvStream) -> Option<Bytes> {
    loop {
        let piece = timeout(LONG, body.data()).await.expect("a piece in time");
        let piece = piece?.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        if !piece.is_empty() {
            return Some(piece);
        }
    }
}
