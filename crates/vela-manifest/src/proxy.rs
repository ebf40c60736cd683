use std::time::Duration;

use crate::app::App;
use crate::entry_path::EntryPath;
use crate::route_path::RoutePath;
use crate::section::Section;
use crate::value::Value;

/// `[proxy]` of an app: which requests of its hosts it gets, and how they are treated on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppProxy {
    /// `path`: the app gets the requests for this path and all below it; another app of the same host may
    /// have the rest.
    pub path: RoutePath,
    /// `strip_path`: whether the app sees the path without that prefix.
    pub strip_path: bool,
    /// `redirect_aliases`: whether the aliases redirect to the domain, which is no wildcard then.
    pub redirect_aliases: bool,
    /// `max_body`: the longest body of a request, in bytes; as long as the server takes if unset.
    pub max_body: Option<u64>,
    /// `response_timeout`: how long the app may take to begin a response; as long as the server lets every
    /// app if unset.
    pub response_timeout: Option<Duration>,
    /// `response_body_timeout`: how long the app may take to send the next piece of a response that is no
    /// event stream; as long as the server lets every app if unset.
    pub response_body_timeout: Option<Duration>,
    /// `stream_drain`: how long WebSockets and event streams may go on when a new release takes over, until
    /// the proxy ends them. If unset, those that are left after `deploy.drain` end with their instance.
    pub stream_drain: Option<Duration>,
    /// `error_pages`: a directory in the release with pages such as `502.html` and `5xx.html`.
    pub error_pages: Option<EntryPath>,
}

impl AppProxy {
    /// `app` is none where something in it was reported.
    pub(crate) fn read(mut section: Section<'_>, app: Option<&App>) -> Self {
        let proxy = Self {
            path: section.read("path", Value::parse).unwrap_or_default(),
            strip_path: section.read("strip_path", Value::boolean).unwrap_or(false),
            redirect_aliases: section
                .read("redirect_aliases", Value::boolean)
                .unwrap_or(false),
            max_body: section.read("max_body", Value::size_limit),
            response_timeout: section.read("response_timeout", Value::positive_duration),
            response_body_timeout: section.read("response_body_timeout", Value::positive_duration),
            stream_drain: section.read("stream_drain", Value::duration),
            error_pages: section.read("error_pages", directory),
        };
        if proxy.strip_path && !section.has("path") {
            section.report_key(
                "strip_path",
                "`strip_path` without `path`",
                Some(r#"say what to strip, as in path = "/api""#),
            );
        }
        if let (true, Some(app)) = (proxy.redirect_aliases, app) {
            proxy.check_redirect(&section, app);
        }
        proxy
    }

    fn check_redirect(&self, section: &Section<'_>, app: &App) {
        let (message, hint) = if app.aliases.is_empty() {
            (
                "`redirect_aliases` without `aliases`",
                "list the hosts that redirect to `domain` as `aliases` in [app]",
            )
        } else if app.domain.as_ref().is_some_and(|d| d.is_wildcard()) {
            (
                "`redirect_aliases` beside a `domain` that is a wildcard",
                "make the host to redirect to the `domain`, and the wildcard one of the `aliases`",
            )
        } else {
            return;
        };
        section.report_key("redirect_aliases", message, Some(hint));
    }
}

/// A directory inside the release, with or without a `/` at its end.
fn directory(value: &Value<'_>) -> Option<EntryPath> {
    value.parse_with(|path| {
        let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty());
        EntryPath::parse(bare.unwrap_or(path))
    })
}
