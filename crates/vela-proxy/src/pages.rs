use std::io::Write;

use crate::buffer::Buffer;
use crate::entrance::Answer;
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

/// Writes the answer to a request that goes to no upstream.
pub(crate) fn write_answer(answer: &Answer, with_body: bool, closes: bool, out: &mut Buffer) {
    let connection = if closes { "connection: close\r\n" } else { "" };
    match answer {
        Answer::Challenge(text) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n\
                 content-length: {}\r\n{connection}\r\n",
                text.len()
            );
            out.append(head.as_bytes());
            if with_body {
                out.append(text);
            }
        }
        Answer::Redirect(location) => {
            let head = format!(
                "HTTP/1.1 308 Permanent Redirect\r\nlocation: {location}\r\n\
                 content-length: 0\r\n{connection}\r\n"
            );
            out.append(head.as_bytes());
        }
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
