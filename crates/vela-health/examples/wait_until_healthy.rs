//! A server that takes 300 ms to start, and the wait until it is healthy:
//! `cargo run -p vela-health --example wait_until_healthy`

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vela_health::{HttpProbe, Policy, Target};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // A port that is free; the server takes it later.
    let addr = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        serve(addr).await
    });

    let probe = HttpProbe::new("/health")?;
    let healthy = Policy::default()
        .wait(
            &probe,
            &Target::new(addr),
            pending::<()>(),
            |attempt| match attempt.result {
                Ok(()) => println!("{:4} ms: healthy", attempt.elapsed.as_millis()),
                Err(error) => println!("{:4} ms: {error}", attempt.elapsed.as_millis()),
            },
        )
        .await?;
    println!("found after {} attempts", healthy.attempts);
    Ok(())
}

async fn serve(addr: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        if stream.read(&mut [0; 1024]).await? > 0 {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nup\n")
                .await?;
        }
    }
}
