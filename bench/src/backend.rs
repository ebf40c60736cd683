use std::io::{Result, Write};
use std::net::TcpListener;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers `/N` with N bytes, over connections that are kept. A new connection costs it little, so
/// that proxies which make many are not measured by it.
pub fn serve(listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let noise: Arc<[u8]> = b"0123456789abcdef".repeat(1 << 16).into();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let noise = Arc::clone(&noise);
            // A proxy that goes away harms its own answer only.
            tokio::spawn(async move { drop(answer(stream, &noise).await) });
        }
    })
}

async fn answer(mut stream: TcpStream, noise: &[u8]) -> Result<()> {
    let mut request = vec![0; 4096];
    let mut filled = 0;
    let mut response = Vec::new();
    loop {
        let read = stream.read(&mut request[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        // Nobody pipelines here, and no request has a body.
        if !request[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        let path = request[..filled].split(|&byte| byte == b' ').nth(1);
        let size = path
            .and_then(|path| std::str::from_utf8(path.get(1..)?).ok()?.parse().ok())
            .unwrap_or(0)
            .min(noise.len());
        let close = request[..filled]
            .windows(17)
            .any(|bytes| bytes.eq_ignore_ascii_case(b"connection: close"));
        response.clear();
        write!(
            response,
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n{}\r\n",
            if close { "Connection: close\r\n" } else { "" }
        )?;
        response.extend_from_slice(&noise[..size]);
        stream.write_all(&response).await?;
        if close {
            return Ok(());
        }
        filled = 0;
    }
}
