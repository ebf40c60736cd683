use std::time::Duration;

use crate::section::Section;
use crate::value::Value;

/// `[proxy.timeouts]`: how long the proxy waits. What is unset the proxy has a default for; all but
/// `tunnel_linger`, `stop` and `stop_streams` are longer than zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxyTimeouts {
    /// `header`: for the whole head of a request.
    pub header: Option<Duration>,
    /// `keep_alive`: for the next request of a client's connection.
    pub keep_alive: Option<Duration>,
    /// `body`: for the next piece of a request's body.
    pub body: Option<Duration>,
    /// `write`: for a client to take the next piece of a response.
    pub write: Option<Duration>,
    /// `connect`: for an instance to accept a connection.
    pub connect: Option<Duration>,
    /// `response`: for an instance to begin its response.
    pub response: Option<Duration>,
    /// `response_body`: for an instance to send the next piece of a response that is no event stream.
    pub response_body: Option<Duration>,
    /// `linger`: for a client to end what it sends after its last answer, in all.
    pub linger: Option<Duration>,
    /// `linger_idle`: for the next piece of that.
    pub linger_idle: Option<Duration>,
    /// `upstream_idle`: for an unused connection to an instance to be used again.
    pub upstream_idle: Option<Duration>,
    /// `tunnel_linger`: for the other side of a WebSocket of which one side has closed.
    pub tunnel_linger: Option<Duration>,
    /// `parked`: for an instance to be there, of an app that is being updated or started.
    pub parked: Option<Duration>,
    /// `stop`: for requests in flight to end when the daemon stops.
    pub stop: Option<Duration>,
    /// `stop_streams`: for WebSockets and event streams to end then.
    pub stop_streams: Option<Duration>,
}

impl ProxyTimeouts {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut positive = |key| section.read(key, Value::positive_duration);
        Self {
            header: positive("header"),
            keep_alive: positive("keep_alive"),
            body: positive("body"),
            write: positive("write"),
            connect: positive("connect"),
            response: positive("response"),
            response_body: positive("response_body"),
            linger: positive("linger"),
            linger_idle: positive("linger_idle"),
            upstream_idle: positive("upstream_idle"),
            parked: positive("parked"),
            tunnel_linger: section.read("tunnel_linger", Value::duration),
            stop: section.read("stop", Value::duration),
            stop_streams: section.read("stop_streams", Value::duration),
        }
    }
}
