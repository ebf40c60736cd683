use hyper::StatusCode;

use crate::request_check::Refusal;

/// Why a request is answered by the proxy itself. The text is for the client: it names nothing
/// that is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error("nothing is served at this host")]
    UnknownHost,
    #[error("the app is not running")]
    NoUpstream,
    #[error("the app is being updated, and too many requests wait for it")]
    ParkFull,
    #[error("the app is being updated, and takes longer than expected")]
    ParkTooLong,
    #[error("the app does not accept connections")]
    Unreachable,
    #[error("the app does not accept connections in time")]
    ConnectTimedOut,
    #[error("the app ended the connection without a complete response")]
    Lost,
    #[error("the app's response is malformed")]
    Malformed,
    #[error("the app does not respond in time")]
    ResponseTimedOut,
    #[error("the request's body did not come in time")]
    BodyTimedOut,
    #[error("the request's body ended early or is malformed")]
    BodyAborted,
}

impl Failure {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Failure::Refused(refusal) => refusal.status(),
            Failure::UnknownHost => StatusCode::NOT_FOUND,
            Failure::NoUpstream | Failure::ParkFull | Failure::ParkTooLong => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failure::Unreachable | Failure::Lost | Failure::Malformed => StatusCode::BAD_GATEWAY,
            Failure::ConnectTimedOut | Failure::ResponseTimedOut => StatusCode::GATEWAY_TIMEOUT,
            Failure::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Failure::BodyAborted => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether what follows on the connection can't be trusted to be a request.
    pub(crate) fn ends_connection(self) -> bool {
        matches!(
            self,
            Failure::Refused(_) | Failure::BodyTimedOut | Failure::BodyAborted
        )
    }

    /// Whether it is the upstream's doing.
    pub(crate) fn is_upstreams(self) -> bool {
        matches!(
            self,
            Failure::Unreachable
                | Failure::ConnectTimedOut
                | Failure::Lost
                | Failure::Malformed
                | Failure::ResponseTimedOut
        )
    }
}
