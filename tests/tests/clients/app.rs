use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// What the app answers at `/`.
pub(crate) const GREETING: &str = "hello\n";
/// How long its answer at `/large` is, in bytes.
pub(crate) const LARGE: usize = 4 << 20;

/// A small app: a page, a large one, an echo that says what it was sent, and one that takes nothing.
/// Gives its address.
pub(crate) async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(answer));
            tokio::spawn(async move {
                // The proxy ends a connection when its client does.
                serving.await.ok();
            });
        }
    });
    addr
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let mut status = StatusCode::OK;
    let answer = match parts.uri.path() {
        "/refused" => {
            status = StatusCode::PAYLOAD_TOO_LARGE;
            Bytes::new()
        }
        "/large" => Bytes::from(vec![b'x'; LARGE]),
        "/echo" => match body.collect().await {
            Ok(body) => described(&parts.method, &body.to_bytes()).into(),
            // It was cut short, and nobody gets an answer.
            Err(_) => Bytes::new(),
        },
        _ => Bytes::from_static(GREETING.as_bytes()),
    };
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = status;
    Ok(response)
}

/// What the app says of a request with that body.
pub(crate) fn described(method: &Method, body: &[u8]) -> String {
    let digest: String = Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{method} {} {digest}\n", body.len())
}
