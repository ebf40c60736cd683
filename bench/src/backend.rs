use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// Answers `/N` with N bytes, over connections that are kept, with a thread for each.
pub fn serve(listener: &TcpListener) -> std::io::Result<()> {
    let noise: Arc<[u8]> = b"0123456789abcdef".repeat(1 << 16).into();
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let noise = Arc::clone(&noise);
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            // A proxy that goes away harms its own answer only.
            .spawn(move || drop(answer(stream, &noise)))?;
    }
    Ok(())
}

fn answer(mut stream: TcpStream, noise: &[u8]) -> std::io::Result<()> {
    let mut request = [0; 8192];
    let mut filled = 0;
    let mut response = Vec::new();
    loop {
        let read = stream.read(&mut request[filled..])?;
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
        stream.write_all(&response)?;
        if close {
            return Ok(());
        }
        filled = 0;
    }
}
