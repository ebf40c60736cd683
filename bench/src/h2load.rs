use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::{Result, Seen};

/// Asks with nghttp2's `h2load`: HTTP/2 over TLS, that many connections with that many streams each. It tells no
/// percentiles.
pub fn h2load(
    addr: SocketAddr,
    (connections, streams): (usize, usize),
    size: usize,
    seconds: u64,
) -> Result<Seen> {
    let output = Command::new("h2load")
        .args([
            format!("-t{}", connections.min(2)),
            format!("-c{connections}"),
        ])
        .args([format!("-m{streams}"), format!("-D{seconds}")])
        .arg(format!("https://{addr}/{size}"))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    read(&text)
        .ok_or_else(|| format!("h2load measured nothing: {text}").into())
        .map(|(requests, bytes, errors)| Seen {
            requests,
            took: Duration::from_secs(seconds),
            bytes,
            errors,
            ..Seen::default()
        })
}

/// Requests that succeeded, bytes that came, and requests that did not succeed.
fn read(text: &str) -> Option<(u64, u64, u64)> {
    let line = |head: &str| text.lines().find_map(|line| line.strip_prefix(head));
    let number = |line: &str, what: &str| -> Option<u64> {
        let words = line.split(", ").find(|words| words.ends_with(what))?;
        words.split_whitespace().next()?.parse().ok()
    };
    // It must be what was asked for, and not HTTP/1.1.
    line("Application protocol: h2")?;
    let requests = line("requests: ")?;
    let codes = line("status codes: ")?;
    let traffic = line("traffic: ")?;
    let (_, bytes) = traffic.split_once('(')?;
    let (bytes, _) = bytes.split_once(')')?;
    let good = number(codes, "2xx")?;
    let bad = number(requests, "failed")? + number(codes, "4xx")? + number(codes, "5xx")?;
    Some((good, bytes.parse().ok()?, bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_report_is_read() {
        let text = "\
TLS Protocol: TLSv1.3
Application protocol: h2

finished in 1.01s, 20990.00 req/s, 20.95MB/s
requests: 20990 total, 21022 started, 20990 done, 20980 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 20980 2xx, 0 3xx, 3 4xx, 7 5xx
traffic: 20.95MB (21968345) total, 239.95KB (245711) headers (space savings 94.00%), 20.50MB (21493760) data
";
        assert_eq!(read(text), Some((20_980, 21_968_345, 20)));
        assert_eq!(read(&text.replace(": h2", ": http/1.1")), None);
    }
}
