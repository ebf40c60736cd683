use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A small app that speaks HTTP/1.1: a page with what it does, JSON, an echo, events, a large
/// answer. What is sent to `/result` is given to the test.
pub(crate) async fn start() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (told, results) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                // The proxy ends a connection when its client does.
                serve(BufReader::new(socket), told).await.ok();
            });
        }
    });
    (addr, results)
}

pub(crate) const LARGE: usize = 4 << 20;

async fn serve(
    mut socket: BufReader<TcpStream>,
    told: mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    loop {
        let (mut head, mut body) = (String::new(), Vec::new());
        while !head.ends_with("\r\n\r\n") {
            if socket.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let lower = head.to_lowercase();
        if let Some((_, rest)) = lower.split_once("content-length: ") {
            let length = rest.lines().next().unwrap_or_default();
            body = vec![0; length.parse().unwrap()];
            socket.read_exact(&mut body).await?;
        } else if lower.contains("transfer-encoding: chunked") {
            loop {
                let mut size = String::new();
                socket.read_line(&mut size).await?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                socket.read_exact(&mut chunk).await?;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (kind, answer) = match path {
            "/" => ("text/html", include_bytes!("page.html").to_vec()),
            "/json" => ("application/json", head.clone().into_bytes()),
            "/echo" => ("application/octet-stream", body),
            "/large" => ("application/octet-stream", vec![b'x'; LARGE]),
            "/result" => {
                told.send(String::from_utf8(body).unwrap()).ok();
                ("text/plain", Vec::new())
            }
            "/events" => return events(socket).await,
            _ => ("text/plain", b"hello\n".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        socket.get_mut().write_all(head.as_bytes()).await?;
        socket.get_mut().write_all(&answer).await?;
    }
}

/// One event at a time, until the client goes.
async fn events(mut socket: BufReader<TcpStream>) -> std::io::Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    socket.get_mut().write_all(head).await?;
    for number in 0.. {
        let event = format!("data: {number}\n\n");
        socket.get_mut().write_all(event.as_bytes()).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
