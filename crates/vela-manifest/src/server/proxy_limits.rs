use std::ops::RangeInclusive;

use crate::section::Section;
use crate::value::Value;

/// `[proxy.limits]`: how much the proxy takes. What is unset the proxy has a default for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProxyLimits {
    /// `head`: the longest head of a request or response, in bytes; 1 KiB to 16 MiB.
    pub head: Option<usize>,
    /// `headers`: the most fields in one; 1 to 1000.
    pub headers: Option<usize>,
    /// `target`: the longest target of a request, in bytes; 256 to 16 Mi, and no longer than `head`.
    pub target: Option<usize>,
    /// `body`: the longest body of a request to any app, in bytes; at least 1.
    pub body: Option<u64>,
    /// `connections`: the most of clients at one time; at least 1.
    pub connections: Option<usize>,
    /// `connections_per_address`: the most of clients of one address; at least 1.
    pub connections_per_address: Option<usize>,
    /// `idle_upstream_connections`: the most unused ones that each worker keeps to one instance; may be 0.
    pub idle_upstream_connections: Option<usize>,
    /// `parked`: the most requests of one app that wait for an instance; may be 0.
    pub parked: Option<usize>,
}

/// More than a machine has ports for its own.
const MOST_CONNECTIONS: usize = 10_000_000;

impl ProxyLimits {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let limits = Self {
            head: section.read("head", |value| bytes(value, 1 << 10..=16 << 20)),
            headers: section.read("headers", |value| value.integer(1..=1000)),
            target: section.read("target", |value| bytes(value, 256..=16 << 20)),
            body: section.read("body", Value::size_limit),
            connections: section.read("connections", |value| value.integer(1..=MOST_CONNECTIONS)),
            connections_per_address: section.read("connections_per_address", |value| {
                value.integer(1..=MOST_CONNECTIONS)
            }),
            idle_upstream_connections: section.read("idle_upstream_connections", |value| {
                value.integer(0..=MOST_CONNECTIONS)
            }),
            parked: section.read("parked", |value| value.integer(0..=MOST_CONNECTIONS)),
        };
        if let (Some(target), Some(head)) = (limits.target, limits.head)
            && target > head
        {
            section.report_key(
                "target",
                "`target` is more than `head`, of which it is a part",
                None,
            );
        }
        limits
    }
}

/// A size that is kept in memory.
fn bytes(value: &Value<'_>, range: RangeInclusive<u64>) -> Option<usize> {
    usize::try_from(value.size_in(range)?).ok()
}
