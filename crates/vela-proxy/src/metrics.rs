use std::fmt::{self, Error};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::UpstreamStatus;
use crate::acme::Certified;
use crate::tally::{BOUNDS, Class, Count, Fault, Method, Stream, Totals};
use crate::tls::CertifiedSnapshot;

/// What a [`Proxy`](crate::Proxy) has counted, as a monitoring system reads it.
///
/// Names begin with `vela_proxy_`. The label `app` is a route's id, and empty for what belongs to
/// no route: requests for unknown hosts, and those that are refused before their host is read. No
/// label is of a client's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// In the text format of [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).
    pub text: String,
}

impl Metrics {
    /// The `Content-Type` of the text.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// For implementations of [`Router`](crate::Router) that have metrics of their own, in the
    /// same format.
    pub fn new(text: String) -> Metrics {
        Metrics { text }
    }

    /// The text's own type, for whoever passes it on.
    pub fn content_type(&self) -> &'static str {
        Metrics::CONTENT_TYPE
    }

    /// These, and how the certificates of routes stand.
    #[must_use]
    pub fn with_certified(self, certified: Vec<Certified>) -> Metrics {
        self.with(CertifiedSnapshot(certified))
    }

    pub(crate) fn of(snapshot: Snapshot) -> Metrics {
        let text = encoded(snapshot);
        Metrics { text }
    }

    /// These, and behind them those of another part.
    pub(crate) fn with(mut self, other: impl Collector) -> Metrics {
        // What ends a text ends it once.
        let end = self
            .text
            .strip_suffix("# EOF\n")
            .map_or(self.text.len(), str::len);
        self.text.truncate(end);
        self.text.push_str(&encoded(other));
        self
    }
}

fn encoded(collector: impl Collector) -> String {
    let mut registry = Registry::with_prefix("vela_proxy");
    registry.register_collector(Box::new(collector));
    let mut text = String::new();
    if let Err(error) = text::encode(&mut text, &registry) {
        // Memory takes all that is written to it.
        tracing::error!(%error, "the metrics are incomplete");
    }
    text
}

/// All counters of one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// By route; the first one is of no route.
    pub(crate) apps: Vec<(String, Totals)>,
    pub(crate) upstreams: Vec<UpstreamStatus>,
    pub(crate) connections: u64,
    pub(crate) connections_total: u64,
    /// How many there may be.
    pub(crate) connections_limit: usize,
    pub(crate) over_limit: u64,
    pub(crate) reclaimed: u64,
    pub(crate) exhausted: u64,
    pub(crate) over_address_limit: u64,
    pub(crate) accept_errors: u64,
    /// Where there is an access log.
    pub(crate) log: Option<LogTotals>,
}

/// What became of the lines of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogTotals {
    pub(crate) written: u64,
    pub(crate) dropped: u64,
}

type Labels<'a> = [(&'static str, &'a str)];

/// One metric of the exposition.
pub(crate) struct Family<'a>(MetricEncoder<'a>);

impl Collector for Snapshot {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        // Not of the type info, which the older format of Prometheus does not know.
        gauge(&mut to, "build_info", "What serves here")?.value(&version, 1)?;
        self.requests(&mut to)?;
        self.durations(&mut to)?;
        self.streams(&mut to)?;
        self.upstreams(&mut to)?;
        self.bodies(&mut to)?;
        self.connections(&mut to)?;
        if let Some(log) = self.log {
            counter(
                &mut to,
                "access_log_lines",
                "Lines written to the access log",
            )?
            .total(&[], log.written)?;
            let help = "Lines that the access log had no room for, or could not be written";
            counter(&mut to, "access_log_dropped", help)?.total(&[], log.dropped)?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn requests(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that have ended, by the class of their status: 4xx for those \
                    whose client left before the answer";
        let mut requests = counter(to, "requests", help)?;
        for (app, totals) in &self.apps {
            for (method, method_name) in Method::ALL {
                for (class, class_name) in Class::ALL {
                    let mut count = totals.of(Count::Ended(method, class));
                    match class {
                        Class::ClientLeft => continue,
                        Class::ClientError => {
                            count += totals.of(Count::Ended(method, Class::ClientLeft));
                        }
                        _ => {}
                    }
                    if count > 0 {
                        let labels = [("app", &**app), ("method", method_name)];
                        let labels = [labels[0], labels[1], ("class", class_name)];
                        requests.total(&labels, count)?;
                    }
                }
            }
        }
        let help = "Requests whose client left before the answer, status 499 in the access log";
        let left = |totals: &Totals| {
            let count = |(method, _)| totals.of(Count::Ended(method, Class::ClientLeft));
            Method::ALL.into_iter().map(count).sum()
        };
        self.of_apps(counter(to, "clients_left", help)?, left)?;

        let help = "Requests, tunnels and event streams in flight, parked requests included";
        let mut in_flight = gauge(to, "requests_in_flight", help)?;
        for (app, totals) in self.routed() {
            let open = totals.open(Count::Begun, totals.ended());
            in_flight.value(&[("app", app)], open)?;
        }
        let mut parked = gauge(
            to,
            "requests_parked",
            "Requests that wait on a parked route",
        )?;
        for (app, totals) in self.routed() {
            let unparked = totals.of(Count::Unparked);
            let ended = unparked.saturating_sub(totals.of(Count::ParkedAgain));
            let open = totals.open(Count::Parked, ended);
            parked.value(&[("app", app)], open)?;
        }
        let help = "Requests that have waited on a parked route";
        self.count_of_apps(counter(to, "parked_requests", help)?, Count::Parked)
    }

    fn durations(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From a request's head to the end of its answer, without streams";
        let name = "request_duration_seconds";
        let mut durations = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (app, totals) in &self.apps {
            let buckets: Vec<_> = (0..=BOUNDS.len())
                .map(|bucket| {
                    let bound = BOUNDS
                        .get(bucket)
                        .map_or(f64::INFINITY, |&bound| seconds(bound));
                    (bound, totals.of(Count::Duration(bucket)))
                })
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = seconds(totals.of(Count::Microseconds));
            durations
                .encode_family(&[("app", &**app)])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn streams(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Tunnels, such as WebSockets, and event streams that have begun";
        let mut begun = counter(to, "streams", help)?;
        for (app, totals) in self.routed() {
            for (stream, kind) in Stream::ALL {
                let labels = [("app", app), ("kind", kind)];
                begun.total(&labels, totals.of(Count::StreamBegun(stream)))?;
            }
        }
        let mut open = gauge(to, "streams_in_flight", "Tunnels and event streams open")?;
        for (app, totals) in self.routed() {
            for (stream, kind) in Stream::ALL {
                let labels = [("app", app), ("kind", kind)];
                let ended = totals.of(Count::StreamEnded(stream));
                open.value(&labels, totals.open(Count::StreamBegun(stream), ended))?;
            }
        }
        Ok(())
    }

    fn upstreams(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Failures of upstreams: one request may meet several, and still succeed";
        let mut errors = counter(to, "upstream_errors", help)?;
        for (app, totals) in self.routed() {
            for (fault, kind) in Fault::ALL {
                let labels = [("app", app), ("kind", kind)];
                errors.total(&labels, totals.of(Count::Fault(fault)))?;
            }
        }
        let help = "Upstreams that requests may go to, those that are ejected included";
        self.count_upstreams(gauge(to, "upstreams", help)?, |_| true)?;
        let help = "Upstreams that get no requests while others can, until they accept \
                    connections again";
        self.count_upstreams(gauge(to, "upstreams_ejected", help)?, |one| one.is_ejected)?;
        let help = "Requests sent once more, because that was safe";
        self.count_of_apps(counter(to, "retries", help)?, Count::Retried)
    }

    fn bodies(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Bytes of bodies that clients sent, counted when their request ends";
        let bytes = counter(to, "request_body_bytes", help)?;
        self.count_of_apps(bytes, Count::BytesIn)?;
        let help = "Bytes of bodies that clients were sent, counted when their request ends";
        let bytes = counter(to, "response_body_bytes", help)?;
        self.count_of_apps(bytes, Count::BytesOut)
    }

    fn connections(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Connections of clients that are open, tunnels included";
        gauge(to, "connections", help)?.value(&[], self.connections)?;
        let help = "Connections of clients that were served";
        counter(to, "connections_accepted", help)?.total(&[], self.connections_total)?;
        let help = "Connections of clients that may be open at one time";
        let limit = u64::try_from(self.connections_limit).unwrap_or(u64::MAX);
        gauge(to, "connections_limit", help)?.value(&[], limit)?;
        let help = "Connections of clients that had to wait because as many were open";
        counter(to, "connections_delayed", help)?.total(&[], self.over_limit)?;
        let help = "Idle connections of clients that were closed to make room for others";
        counter(to, "connections_reclaimed", help)?.total(&[], self.reclaimed)?;
        let help = "Connections to upstreams that could not be made for want of file \
                    descriptors or memory";
        counter(to, "upstream_connections_exhausted", help)?.total(&[], self.exhausted)?;
        let help = "Connections of clients that were closed at once";
        let reason = [("reason", "address_limit")];
        counter(to, "connections_refused", help)?.total(&reason, self.over_address_limit)?;
        let help = "Failures to accept a connection, for want of file descriptors say: it waits";
        counter(to, "accept_errors", help)?.total(&[], self.accept_errors)
    }

    /// For each route in the table, how many of its upstreams are so.
    fn count_upstreams(
        &self,
        mut family: Family<'_>,
        are_so: impl Fn(&UpstreamStatus) -> bool,
    ) -> fmt::Result {
        for (app, _) in self.routed() {
            let its = self
                .upstreams
                .iter()
                .filter(|one| one.route.as_str() == app);
            let count = its.filter(|one| are_so(one)).count();
            family.value(&[("app", app)], count as u64)?;
        }
        Ok(())
    }

    /// Without those of no route.
    fn routed(&self) -> impl Iterator<Item = (&str, &Totals)> {
        let routed = self.apps.iter().filter(|(app, _)| !app.is_empty());
        routed.map(|(app, totals)| (&**app, totals))
    }

    fn count_of_apps(&self, family: Family<'_>, what: Count) -> fmt::Result {
        self.of_apps(family, |totals| totals.of(what))
    }

    fn of_apps(&self, mut family: Family<'_>, value: impl Fn(&Totals) -> u64) -> fmt::Result {
        for (app, totals) in &self.apps {
            family.total(&[("app", app)], value(totals))?;
        }
        Ok(())
    }
}

impl Family<'_> {
    pub(crate) fn total(&mut self, labels: &Labels<'_>, value: u64) -> fmt::Result {
        match labels {
            [] => self.0.encode_counter::<NoLabelSet, _, f64>(&value, None),
            labels => self
                .0
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, f64>(&value, None),
        }
    }

    pub(crate) fn value(&mut self, labels: &Labels<'_>, value: u64) -> fmt::Result {
        match labels {
            [] => self.0.encode_gauge(&value),
            labels => self.0.encode_family(&labels)?.encode_gauge(&value),
        }
    }
}

/// A total; its samples have the name with `_total` behind it.
pub(crate) fn counter<'a>(
    to: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<Family<'a>, Error> {
    let metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    Ok(Family(metric))
}

/// A number of now.
pub(crate) fn gauge<'a>(
    to: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<Family<'a>, Error> {
    let metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    Ok(Family(metric))
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
