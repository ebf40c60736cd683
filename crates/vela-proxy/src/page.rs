use std::borrow::Cow;
use std::io::Write;

use crate::buffer::Buffer;
use crate::failure::Failure;

/// The proxy's own answer to a request that no upstream answers: plain text, and short.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    status: u16,
    body: Cow<'a, [u8]>,
    location: Option<&'a str>,
}

impl<'a> Page<'a> {
    pub(crate) fn of(failure: Failure) -> Page<'static> {
        Page::saying(failure.status(), &failure.to_string())
    }

    pub(crate) fn redirect(location: &'a str) -> Page<'a> {
        Page {
            location: Some(location),
            ..Page::saying(308, "it is served at another address")
        }
    }

    pub(crate) fn maintenance(message: Option<&str>) -> Page<'static> {
        Page::saying(
            503,
            message.unwrap_or("the app is being maintained, and will be back"),
        )
    }

    /// For a certificate authority.
    pub(crate) fn challenge(text: &'a [u8]) -> Page<'a> {
        Page {
            status: 200,
            body: Cow::Borrowed(text),
            location: None,
        }
    }

    fn saying(status: u16, what: &str) -> Page<'static> {
        let text = format!("{status} {}\n{what}\n", reason(status));
        Page {
            status,
            body: Cow::Owned(text.into_bytes()),
            location: None,
        }
    }

    pub(crate) fn write(&self, with_body: bool, closes: bool, out: &mut Buffer) {
        let status = self.status;
        let (field, value, end) = match self.location {
            Some(location) => ("location: ", location, "\r\n"),
            None if status == 503 => ("retry-after: ", "5", "\r\n"),
            None => ("", "", ""),
        };
        let connection = if closes { "connection: close\r\n" } else { "" };
        let mut head = Vec::with_capacity(256);
        // Writing to memory does not fail.
        write!(
            head,
            "HTTP/1.1 {status} {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             cache-control: no-store\r\ncontent-length: {}\r\n{field}{value}{end}{connection}\r\n",
            reason(status),
            self.body.len()
        )
        .ok();
        out.append(&head);
        if with_body {
            out.append(&self.body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        308 => "Permanent Redirect",
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
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
