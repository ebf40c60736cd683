use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use httpdate::HttpDate;

use crate::ErrorPages;
use crate::buffer::Buffer;
use crate::failure::Failure;
use crate::page_template::{PageTemplate, escaped};

/// The proxy's own answer to a request that no upstream answers: plain text, and short; or a page
/// that somebody wrote for it.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    status: u16,
    text: Cow<'a, str>,
    location: Option<&'a str>,
    is_maintenance: bool,
    template: Option<Arc<PageTemplate>>,
}

/// What follows a page's head.
#[derive(Debug)]
pub(crate) enum Body {
    Text(String),
    Html {
        template: Arc<PageTemplate>,
        status: String,
        reason: &'static str,
        message: String,
    },
}

impl<'a> Page<'a> {
    pub(crate) fn of(failure: Failure) -> Page<'static> {
        Page::new(failure.status(), failure.to_string().into())
    }

    pub(crate) fn redirect(location: &'a str) -> Page<'a> {
        Page {
            location: Some(location),
            ..Page::new(308, Cow::Borrowed("it is served at another address"))
        }
    }

    pub(crate) fn maintenance(message: Option<&'a str>) -> Page<'a> {
        let message = message.unwrap_or("the app is being maintained, and will be back");
        Page {
            is_maintenance: true,
            ..Page::new(503, Cow::Borrowed(message))
        }
    }

    /// For a certificate authority, which wants nothing but this.
    pub(crate) fn challenge(text: &'a [u8]) -> Page<'a> {
        Page::new(200, String::from_utf8_lossy(text))
    }

    fn new(status: u16, text: Cow<'a, str>) -> Page<'a> {
        Page {
            status,
            text,
            location: None,
            is_maintenance: false,
            template: None,
        }
    }

    /// The same answer with one of these pages, if one is for it and it has none yet.
    pub(crate) fn with_page_of(mut self, pages: Option<&ErrorPages>) -> Page<'a> {
        if let (None, Some(pages)) = (&self.template, pages) {
            let found = pages.find(self.status, self.is_maintenance);
            self.template = found.cloned();
        }
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Writes the head, and gives what is to follow it.
    pub(crate) fn write_head(self, closes: bool, out: &mut Buffer) -> Body {
        let status = self.status;
        let reason = reason(status);
        let body = match self.template {
            None if status == 200 => Body::Text(self.text.into_owned()),
            None => Body::Text(format!("{status} {reason}\n{}\n", self.text)),
            Some(template) => Body::Html {
                template,
                status: status.to_string(),
                reason,
                message: escaped(&self.text).into_owned(),
            },
        };
        let kind = match &body {
            Body::Text(_) => "plain",
            Body::Html { .. } => "html",
        };
        let mut head = Vec::with_capacity(256);
        let (field, value) = match self.location {
            Some(location) => ("location: ", location),
            None if status == 503 => ("retry-after: ", "5"),
            None => ("", ""),
        };
        let end = if field.is_empty() { "" } else { "\r\n" };
        let date = HttpDate::from(SystemTime::now());
        let connection = if closes { "connection: close\r\n" } else { "" };
        let length: usize = body.pieces().map(str::len).sum();
        // Writing to memory does not fail.
        write!(
            head,
            "HTTP/1.1 {status} {reason}\r\ncontent-type: text/{kind}; charset=utf-8\r\n\
             cache-control: no-store\r\ncontent-length: {length}\r\ndate: {date}\r\n\
             {field}{value}{end}{connection}\r\n",
        )
        .ok();
        out.append(&head);
        body
    }
}

impl Body {
    pub(crate) fn pieces(&self) -> Box<dyn Iterator<Item = &str> + Send + '_> {
        match self {
            Body::Text(text) => Box::new(std::iter::once(&**text)),
            Body::Html {
                template,
                status,
                reason,
                message,
            } => Box::new(template.fill(status, reason, message)),
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
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
