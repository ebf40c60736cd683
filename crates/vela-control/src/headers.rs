/// In a request the version of the client's words, in an answer that of the daemon's. A request without it, as of
/// `curl`, is taken to speak the daemon's.
pub(crate) const PROTOCOL: &str = "vela-protocol";

/// Who the client says it is, such as `alice@laptop`.
pub(crate) const CLIENT: &str = "vela-client";
