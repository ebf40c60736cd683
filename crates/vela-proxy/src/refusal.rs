/// Why a request is refused before it is routed: what two servers could understand differently is
/// not passed from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request is malformed")]
    Malformed,
    #[error("the request's target is too long")]
    TargetTooLong,
    #[error("the request has too many or too long headers")]
    HeadTooLarge,
    #[error("the request's body is too large")]
    BodyTooLarge,
    #[error("the request has no Host header")]
    NoHost,
    #[error("the request has more than one Host header")]
    RepeatedHost,
    #[error("the Host is not a host name")]
    InvalidHost,
    #[error("the request's target is not a path")]
    InvalidTarget,
    #[error("the request's Content-Length is not one number")]
    ContentLength,
    #[error("the request's Transfer-Encoding does not end in chunked")]
    NotChunked,
    #[error("the only Transfer-Encoding that is understood is chunked")]
    TransferEncoding,
    #[error("CONNECT is not supported")]
    Connect,
    #[error("what is at an https address must be asked for over a secured connection")]
    Misdirected,
    #[error("the only version that is understood is HTTP/1")]
    Version,
    #[error("the only Expect that is understood is 100-continue")]
    Expectation,
}

impl Refusal {
    pub(crate) fn status(self) -> u16 {
        match self {
            Refusal::TransferEncoding | Refusal::Connect => 501,
            Refusal::Version => 505,
            Refusal::Misdirected => 421,
            Refusal::Expectation => 417,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::HeadTooLarge => 431,
            _ => 400,
        }
    }
}
