use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use vela_proxy::Metrics;

use crate::failure::Failure;

/// Where a monitoring system of this machine asks for `/metrics`, and for nothing else.
#[derive(Debug)]
pub(super) struct MetricsPort {
    listener: TcpListener,
    /// How long one connection may take: it has one request.
    patience: Duration,
}

/// How many are answered at a time; others wait.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request in bytes: hyper takes no less.
const LONGEST_HEAD: usize = 8 * 1024;
/// How long to wait when there are no file descriptors for another connection.
const EXHAUSTED: Duration = Duration::from_millis(50);

impl MetricsPort {
    /// Nothing, where nothing is wanted.
    pub(super) fn bind(address: Option<SocketAddr>) -> Result<Option<MetricsPort>, Failure> {
        let Some(address) = address else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Some(MetricsPort {
                listener,
                patience: PATIENCE,
            })),
            Err(error) => Err(Failure::because(
                format!("cannot serve metrics on {address}"),
                &error,
            )
            .with_hint("`metrics` in [proxy] of server.toml names the address")),
        }
    }

    /// Answers until it is dropped. Who asks is not told apart: on this machine everybody may.
    pub(super) async fn serve(self, metrics: impl Fn() -> Metrics + Clone + Send + Sync + 'static) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return warn!(%error, "cannot serve metrics"),
        };
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            // Nobody closes it.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = metrics.clone();
                    tokio::spawn(async move {
                        connection(stream, metrics, self.patience).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: impl Fn() -> Metrics, patience: Duration) {
    let service = service_fn(|request| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(patience, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for metrics broke"),
        Err(_) => debug!("a connection for metrics took too long"),
    }
}

fn answer(request: &Request<Incoming>, metrics: impl Fn() -> Metrics) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    if request.uri().path() != "/metrics" {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        *answer.body_mut() = Full::from("metrics are at /metrics\n");
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let allowed = "GET, HEAD".parse().expect("a constant of letters");
        answer.headers_mut().insert(ALLOW, allowed);
    } else {
        let kind = Metrics::CONTENT_TYPE.parse();
        let kind = kind.expect("a constant of letters");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        *answer.body_mut() = Full::from(metrics().text);
    }
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use vela_proxy::{Proxy, ProxyConfig};

    use super::*;

    /// Serves, with that patience, and says where.
    fn serve(patience: Duration) -> SocketAddr {
        let any = "127.0.0.1:0".parse().unwrap();
        let port = MetricsPort::bind(Some(any)).unwrap().unwrap();
        let address = port.listener.local_addr().unwrap();
        let port = MetricsPort { patience, ..port };
        let proxy = Proxy::new(ProxyConfig::default());
        tokio::spawn(port.serve(move || proxy.metrics()));
        address
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let address = serve(PATIENCE);
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let kind = format!("content-type: {}\r\n", Metrics::CONTENT_TYPE);
        assert!(answer.contains(&kind), "{answer}");
        assert!(answer.contains("\nvela_proxy_build_info{") && answer.ends_with("# EOF\n"));
        for (request, status) in [
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            ("GET /v1/apps HTTP/1.1\r\nhost: x\r\n\r\n", 404),
            (
                "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
                405,
            ),
            ("nonsense\r\n\r\n", 400),
        ] {
            let answer = ask(address, request).await;
            let begin = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&begin), "{request}: {answer}");
        }
        let none = MetricsPort::bind(None).unwrap();
        assert!(none.is_none());
        assert!(MetricsPort::bind(Some(address)).is_err());
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_away_for_long() {
        let address = serve(Duration::from_millis(50));
        let mut silent = Vec::new();
        for _ in 0..2 * AT_ONCE {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for mut one in silent {
            assert_eq!(one.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
