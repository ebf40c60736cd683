use hyper::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use crate::failure::Failure;
use crate::response_body::ResponseBody;

/// The proxy's own answer to a request that no upstream answers: plain text, and short.
pub(crate) fn page(failure: &Failure) -> Response<ResponseBody> {
    let status = failure.status();
    let text = format!("{status}\n{failure}\n");
    let mut response = Response::new(ResponseBody::page(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if failure.ends_connection() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
