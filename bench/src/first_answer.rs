use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts: short beside what is measured, and not a busy loop on a machine with two cores.
const PAUSE: Duration = Duration::from_micros(500);

/// Asks `addr` for `host` on new connections until an answer is a 200 whose body satisfies `wanted`; returns when it
/// came, and the body.
pub fn first_answer(
    addr: SocketAddr,
    host: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Instant, String)> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = "nothing was asked".to_owned();
    while Instant::now() < deadline {
        match ask(addr, host) {
            Ok(answer) => match answer.split_once("\r\n\r\n") {
                Some((head, body)) if head.starts_with("HTTP/1.1 200") && wanted(body) => {
                    return Ok((Instant::now(), body.to_owned()));
                }
                _ => {
                    last = answer
                        .lines()
                        .next()
                        .unwrap_or("an empty answer")
                        .to_owned()
                }
            },
            Err(error) => last = error.to_string(),
        }
        sleep(PAUSE);
    }
    Err(format!("{addr} did not answer as it should within {PATIENCE:?}: {last}").into())
}

fn ask(addr: SocketAddr, host: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
