use std::fmt;
use std::time::Duration;

use crate::section::Section;
use crate::value::{Found, Value};

/// `deploy.health`: how to tell that an instance is ready for traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// `tcp = true`, and what happens with no `health` at all: the instance's port accepts a connection.
    Tcp(Timing),
    /// `path = "/health"`, or `health = "/health"`: a request is answered as expected.
    Http {
        /// `path`: starts with `/`; may have a query.
        path: String,
        /// `port`: another port than the instance's own.
        port: Option<u16>,
        /// `method`: of the request.
        method: Method,
        /// `host`: the `Host` header; the address that is probed if unset.
        host: Option<String>,
        /// `expect`: the status that means ready.
        expect: u16,
        /// `follow_redirects`: whether the status is that of where redirects lead.
        follow_redirects: bool,
        /// How often and how long.
        timing: Timing,
    },
    /// `exec = "cmd"`: a shell command, run like a hook, exits with 0.
    Exec {
        /// The command line.
        command: String,
        /// How often and how long.
        timing: Timing,
    },
}

impl Health {
    /// How often and how long to probe.
    pub fn timing(&self) -> &Timing {
        match self {
            Self::Tcp(timing) | Self::Http { timing, .. } | Self::Exec { timing, .. } => timing,
        }
    }

    /// A GET of `path` that expects 200.
    fn http(path: String, timing: Timing) -> Self {
        Self::Http {
            path,
            port: None,
            method: Method::Get,
            host: None,
            expect: 200,
            follow_redirects: false,
            timing,
        }
    }

    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        match value.found() {
            Found::String => path(value).map(|path| Self::http(path, Timing::default())),
            Found::Table => value.section().and_then(read_table),
            _ => {
                value.mismatch(r#"a path such as "/health", or a table"#);
                None
            }
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::Tcp(Timing::default())
    }
}

/// How often a probe is repeated, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// `interval`: from one attempt to the next.
    pub interval: Duration,
    /// `timeout`: of a single attempt.
    pub timeout: Duration,
    /// `retries`: attempts before giving up; at least 1.
    pub retries: u32,
    /// `grace`: how long after the start failures don't count.
    pub grace: Duration,
}

impl Timing {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            interval: section
                .read("interval", Value::positive_duration)
                .unwrap_or(default.interval),
            timeout: section
                .read("timeout", Value::positive_duration)
                .unwrap_or(default.timeout),
            retries: section
                .read("retries", |value| value.integer(1..=100_000))
                .unwrap_or(default.retries),
            grace: section
                .read("grace", Value::duration)
                .unwrap_or(default.grace),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            retries: 30,
            grace: Duration::ZERO,
        }
    }
}

/// The method of an HTTP probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// OPTIONS.
    Options,
    /// POST, with an empty body.
    Post,
}

impl Method {
    const ALL: [(&str, Self); 4] = [
        ("GET", Self::Get),
        ("HEAD", Self::Head),
        ("OPTIONS", Self::Options),
        ("POST", Self::Post),
    ];

    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn read_table(mut section: Section<'_>) -> Option<Health> {
    let timing = Timing::read(&mut section);
    let tcp = section.read("tcp", Value::boolean).unwrap_or(false);
    let exec = section.read("exec", Value::command);
    let http_path = section.read("path", path);
    let port = section.read("port", |value| value.integer(1..=u16::MAX));
    let method = section
        .read("method", |value| value.choice(&Method::ALL))
        .unwrap_or_default();
    let host = section.read("host", host_header);
    let expect = section
        .read("expect", |value| value.integer(100..=599))
        .unwrap_or(200);
    let follow_redirects = section
        .read("follow_redirects", Value::boolean)
        .unwrap_or(false);

    let kinds = [
        ("path", section.has("path")),
        ("tcp", tcp),
        ("exec", section.has("exec")),
    ];
    let mut chosen = kinds
        .into_iter()
        .filter_map(|(key, present)| present.then_some(key));
    let (first, second) = (chosen.next(), chosen.next());
    if let (Some(first), Some(second)) = (first, second) {
        section.report_key(
            second,
            format!("`{second}` beside `{first}`"),
            Some("a health check is one of `path`, `tcp` and `exec`"),
        );
    }
    if first != Some("path") {
        for key in ["port", "method", "host", "expect", "follow_redirects"] {
            if section.has(key) {
                let message = format!("`{key}` is for HTTP checks");
                section.report_key(
                    key,
                    message,
                    Some(r#"give the `path` to request, as in path = "/health""#),
                );
            }
        }
    }
    match first {
        Some("path") => Some(Health::Http {
            path: http_path?,
            port,
            method,
            host,
            expect,
            follow_redirects,
            timing,
        }),
        Some("exec") => Some(Health::Exec {
            command: exec?,
            timing,
        }),
        _ => Some(Health::Tcp(timing)),
    }
}

fn path(value: &Value<'_>) -> Option<String> {
    let path = value.string()?;
    if !path.starts_with('/') {
        let hint = path.split_once("://").map_or_else(
            || format!("did you mean `/{path}`?"),
            |_| "give the path only; the instance's own port is probed".to_owned(),
        );
        value.report("a health path starts with `/`", Some(&hint));
        return None;
    }
    if path.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        value.report(
            "a path has no spaces, `#` or non-ASCII characters",
            Some("percent-encode them, as in `%20`"),
        );
        return None;
    }
    Some(path.to_owned())
}

fn host_header(value: &Value<'_>) -> Option<String> {
    let host = value.string()?;
    if host.is_empty()
        || host.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '/' | '@' | ','))
    {
        value.report("not a host", Some(r#"as in host = "my-app.com""#));
        return None;
    }
    Some(host.to_owned())
}
