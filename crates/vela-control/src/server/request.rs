#![expect(
    clippy::result_large_err,
    reason = "the error is the answer: made once, and sent"
)]

use std::borrow::Cow;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use vela_protocol::{ApiError, ErrorCode};

use crate::headers::PROTOCOL;

/// The longest JSON body.
const LONGEST: usize = 1 << 20;

/// The path's segments, percent-decoded.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let segments = path.trim_start_matches('/').split('/').map(decoded);
    let segments: Option<Vec<String>> = segments.collect();
    segments.ok_or_else(|| invalid(format!("the path {path} is not of UTF-8, percent-encoded")))
}

/// A value of the query; nothing if it is not there.
pub(crate) fn query<T: FromStr>(head: &Parts, key: &str) -> Result<Option<T>, ApiError> {
    let pairs = head.uri.query().unwrap_or_default().split('&');
    let mut values = pairs.filter_map(|pair| pair.split_once('='));
    match values.find(|(name, _)| *name == key) {
        None => Ok(None),
        Some((_, value)) => match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(invalid(format!(
                "{key} cannot be `{}`",
                value.escape_debug()
            ))),
        },
    }
}

pub(crate) fn id(text: &str) -> Result<Uuid, ApiError> {
    text.parse()
        .map_err(|_| invalid(format!("`{}` is not a UUID", text.escape_debug())))
}

/// Refuses a client that speaks other words.
pub(super) fn check_version(head: &Parts) -> Result<(), ApiError> {
    let Some(theirs) = head.headers.get(PROTOCOL) else {
        return Ok(());
    };
    let ours = vela_protocol::VERSION;
    if theirs.as_bytes() == ours.to_string().as_bytes() {
        return Ok(());
    }
    let theirs = String::from_utf8_lossy(theirs.as_bytes()).into_owned();
    let message = format!(
        "the client speaks version {} of the protocol, the server version {ours}",
        theirs.escape_debug()
    );
    Err(ApiError::new(ErrorCode::Version, message))
}

/// The body as JSON.
pub(super) async fn json<T: DeserializeOwned>(body: Incoming) -> Result<T, ApiError> {
    let body: Bytes = match Limited::new(body, LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = "the request's body is longer than 1 MiB";
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
        Err(error) => return Err(invalid(format!("the request's body broke off: {error}"))),
    };
    // serde's message may quote the text, which may hold secrets: the place is enough.
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "does not have the right fields",
            _ => "is not JSON",
        };
        invalid(format!(
            "the request's body {what}, at line {line} column {column}"
        ))
    })
}

pub(super) fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::Invalid, message)
}

/// Nothing for what the decoder would take as it is: a `%` without its two digits.
fn decoded(segment: &str) -> Option<String> {
    let is_escape = |after: &str| {
        let digits = after.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() == 2
    };
    if !segment.split('%').skip(1).all(is_escape) {
        return None;
    }
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_after_they_are_split() {
        assert_eq!(segments("/v1/apps/..%2Fx").unwrap(), ["v1", "apps", "../x"]);
        assert_eq!(segments("/").unwrap(), [""]);
        for path in ["/%", "/%4", "/%zz", "/%ff"] {
            assert!(segments(path).is_err(), "{path}");
        }
    }
}
