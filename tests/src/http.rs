use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Status and body of one request on a connection of its own.
pub async fn get(addr: SocketAddr, host: &str, path: &str) -> (u16, String) {
    try_get(addr, host, path).await.unwrap()
}

/// The same; fails when there is no whole answer within 20 seconds.
pub async fn try_get(addr: SocketAddr, host: &str, path: &str) -> io::Result<(u16, String)> {
    tokio::time::timeout(Duration::from_secs(20), ask(addr, host, "GET", path)).await?
}

/// The same for a POST without a body.
pub async fn try_post(addr: SocketAddr, host: &str, path: &str) -> io::Result<(u16, String)> {
    tokio::time::timeout(Duration::from_secs(20), ask(addr, host, "POST", path)).await?
}

async fn ask(addr: SocketAddr, host: &str, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await?;
    // HTTP/1.0, so that the body comes as it is.
    let request = format!("{method} {path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}
