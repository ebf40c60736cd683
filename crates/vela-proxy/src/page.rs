use std::borrow::Cow;
use std::io::Write;

use crate::buffer::Buffer;
use crate::failure::Failure;

/// The proxy's own answer to a request that no upstream answers: plain text, and short.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    status: u16,
    text: Cow<'a, str>,
    location: Option<&'a str>,
}

impl<'a> Page<'a> {
    pub(crate) fn of(failure: Failure) -> Page<'static> {
        Page {
            status: failure.status(),
            text: failure.to_string().into(),
            location: None,
        }
    }

    pub(crate) fn redirect(location: &'a str) -> Page<'a> {
        Page {
            status: 308,
            text: Cow::Borrowed("the address has another form"),
            location: Some(location),
        }
    }

    pub(crate) fn maintenance(message: Option<&'a str>) -> Page<'a> {
        Page {
            status: 503,
            text: Cow::Borrowed(message.unwrap_or("the app is being maintained, and will be back")),
            location: None,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn write(&self, with_body: bool, closes: bool, out: &mut Buffer) {
        let status = self.status;
        let reason = reason(status);
        let text = format!("{status} {reason}\n{}\n", self.text);
        let mut head = Vec::with_capacity(256);
        let (field, value) = match self.location {
            Some(location) => ("location: ", location),
            None if status == 503 => ("retry-after: ", "5"),
            None => ("", ""),
        };
        let end = if field.is_empty() { "" } else { "\r\n" };
        let connection = if closes { "connection: close\r\n" } else { "" };
        // Writing to memory does not fail.
        write!(
            head,
            "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             cache-control: no-store\r\ncontent-length: {}\r\n{field}{value}{end}{connection}\r\n",
            text.len()
        )
        .ok();
        out.append(&head);
        if with_body {
            out.append(text.as_bytes());
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
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
        _ => "Error",
    }
}
