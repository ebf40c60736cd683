use std::io::Write;

use crate::buffer::Buffer;
use crate::failure::Failure;

/// Writes the proxy's own answer to a request that no upstream answers: plain text, and short.
pub(crate) fn write(failure: &Failure, with_body: bool, closes: bool, out: &mut Buffer) {
    let status = failure.status();
    let reason = reason(status);
    let text = format!("{status} {reason}\n{failure}\n");
    let mut head = Vec::with_capacity(256);
    let retry = if status == 503 {
        "retry-after: 5\r\n"
    } else {
        ""
    };
    let connection = if closes { "connection: close\r\n" } else { "" };
    // Writing to memory does not fail.
    write!(
        head,
        "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         cache-control: no-store\r\ncontent-length: {}\r\n{retry}{connection}\r\n",
        text.len()
    )
    .ok();
    out.append(&head);
    if with_body {
        out.append(text.as_bytes());
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}
