//! Switches a route between two servers 50 times under load, and counts what clients saw.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vela_proxy::{Proxy, ProxyConfig, RouteSpec, Router, Upstream};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let (blue, green) = (start_app("blue!")?, start_app("green")?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let proxy = Proxy::new(ProxyConfig::default());
    let serving = proxy.serve(vec![listener])?;
    let route = |app: SocketAddr| -> Outcome<RouteSpec> {
        let hosts = vec!["demo.test".parse()?];
        Ok(RouteSpec::new("demo", hosts, vec![Upstream::new(app)]))
    };
    // The first apply replaces nothing.
    drop(proxy.apply(route(blue)?).await?);

    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let load = Arc::clone(&load);
            thread::spawn(move || load.run(addr))
        })
        .collect();
    for turn in 0..50 {
        let next = if turn % 2 == 0 { green } else { blue };
        if let Some(replaced) = proxy.apply(route(next)?).await? {
            proxy.drain(replaced, Duration::from_secs(5).into()).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| "a client panicked")?;
    }
    serving.shutdown(Duration::from_secs(5)).await;
    println!(
        "50 switches, {} requests, {} failed",
        load.ok.load(Ordering::Relaxed),
        load.failed.load(Ordering::Relaxed)
    );
    println!("{:?}", proxy.stats());
    Ok(())
}

/// Requests one after the other, each on a new connection.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    ok: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    fn run(&self, addr: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            let outcome = match get(addr) {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => &self.ok,
                _ => &self.failed,
            };
            outcome.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn get(addr: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(addr)?;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: demo.test\r\nConnection: close\r\n\r\n")?;
    std::io::read_to_string(socket)
}

/// A server with a thread for each connection, which it keeps alive.
fn start_app(text: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket, text));
        }
    });
    Ok(addr)
}

fn serve(mut socket: TcpStream, text: &str) -> std::io::Result<()> {
    let lines = BufReader::new(socket.try_clone()?).lines();
    for line in lines {
        if line?.is_empty() {
            let length = text.len();
            write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
            )?;
        }
    }
    Ok(())
}
