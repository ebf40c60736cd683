use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde::Serialize;
use vela_protocol::{ApiError, ErrorCode};

use crate::headers::PROTOCOL;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// One JSON value.
pub(super) fn json(value: &impl Serialize) -> Answer {
    with(StatusCode::OK, value)
}

/// Nothing, successfully.
pub(super) fn done() -> Answer {
    head(
        StatusCode::OK,
        "application/json",
        Full::from("{}\n").boxed_unsync(),
    )
}

/// A text of that `Content-Type`.
pub(super) fn text(kind: &'static str, text: String) -> Answer {
    head(StatusCode::OK, kind, Full::from(text).boxed_unsync())
}

/// One JSON value a line, each sent as it comes.
pub(super) fn lines<T: Serialize>(values: impl Stream<Item = T> + Send + 'static) -> Answer {
    let frames = values.map(|value| Ok(Frame::data(line(&value))));
    let body = StreamBody::new(frames).boxed_unsync();
    head(StatusCode::OK, "application/x-ndjson", body)
}

/// An error, with the status that fits it.
pub(super) fn error(error: &ApiError) -> Answer {
    let status = match error.code {
        ErrorCode::Invalid | ErrorCode::Version => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict | ErrorCode::Busy => StatusCode::CONFLICT,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with(status, error)
}

fn with(status: StatusCode, value: &impl Serialize) -> Answer {
    head(
        status,
        "application/json",
        Full::from(line(value)).boxed_unsync(),
    )
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("answers are structs of strings and numbers");
    text.push(b'\n');
    text.into()
}

fn head(status: StatusCode, kind: &str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header(PROTOCOL, vela_protocol::VERSION)
        .body(body)
        .expect("the headers are constants")
}
