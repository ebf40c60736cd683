use crate::refusal::Refusal;

/// Why a request is answered by the proxy itself. The text is for the client: it names nothing
/// that is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Refused(Refusal),
    #[error("the request did not come in time")]
    HeadTimedOut,
    #[error("nothing is served at this host")]
    UnknownHost,
    #[error("clients must come by HTTPS, with a certificate of their own")]
    Unsecured,
    #[error("the app is not running")]
    NoUpstream,
    #[error("the app is being updated, and too many requests wait for it")]
    ParkFull,
    #[error("the app is being updated, and takes longer than expected")]
    ParkTooLong,
    #[error("the app does not accept connections")]
    Unreachable,
    #[error("the server has no file descriptor or memory left for a connection to the app")]
    Exhausted,
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
    pub(crate) fn status(self) -> u16 {
        match self {
            Failure::Refused(refusal) => refusal.status(),
            Failure::UnknownHost => 404,
            Failure::Unsecured => 403,
            Failure::NoUpstream | Failure::ParkFull | Failure::ParkTooLong | Failure::Exhausted => {
                503
            }
            Failure::Unreachable | Failure::Lost | Failure::Malformed => 502,
            Failure::ConnectTimedOut | Failure::ResponseTimedOut => 504,
            Failure::HeadTimedOut | Failure::BodyTimedOut => 408,
            Failure::BodyAborted => 400,
        }
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
