use std::fmt;
use std::time::Duration;

use crate::app::App;
use crate::app_name::AppName;
use crate::entry_path::EntryPath;
use crate::env::check_socket;
use crate::health::Health;
use crate::section::Section;
use crate::stop_signal::StopSignal;
use crate::strategy::Strategy;
use crate::template::{Template, Variable};
use crate::value::Value;

/// `[deploy]`: where to, what to run, and how a new release takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deploy {
    /// `server`: `user@host[:port]`, an alias of `~/.ssh/config`, `ssh://..`, `local` or `unix:///..`.
    pub server: Option<String>,
    /// `type`: how the entrypoint is started.
    pub kind: Kind,
    /// `binary`: the entrypoint inside the release. If unset the app's name, or for `type = "beam"` what
    /// `mix release` calls it: `bin/` and the app's name with `_` for `-`.
    pub binary: EntryPath,
    /// `args`: its arguments; for `type = "beam"` they come after `start`.
    pub args: Vec<Template>,
    /// `health`: when an instance is ready; a TCP probe of its port if unset.
    pub health: Health,
    /// `drain`: how long requests of the old instance may take to end, 5 s.
    pub drain: Duration,
    /// `stop_timeout`: from the stop signal to the kill, 10 s.
    pub stop_timeout: Duration,
    /// `stop_signal`: TERM.
    pub stop_signal: StopSignal,
    /// `strategy`: blue-green.
    pub strategy: Strategy,
    /// `instances`: how many run at a time, 1.
    pub instances: u32,
    /// `keep_releases`: how many releases stay on the server, 5.
    pub keep_releases: usize,
    /// `pre_start`: a shell command before the new release starts; its failure ends the deploy.
    pub pre_start: Option<String>,
    /// `pre_switch`: a shell command when the new release is healthy and has no traffic yet; its failure
    /// ends the deploy.
    pub pre_switch: Option<String>,
    /// `post_deploy`: a shell command when all is done; its failure is only logged.
    pub post_deploy: Option<String>,
    /// `hook_timeout`: of each of the three, 10 minutes.
    pub hook_timeout: Duration,
}

impl Deploy {
    pub(crate) fn read(mut section: Section<'_>, app: Option<&App>) -> Option<Self> {
        let server = section.read("server", server);
        let kind = section
            .read("type", |value| value.choice(&Kind::ALL))
            .unwrap_or_default();
        let binary = match section.value("binary") {
            Some(value) => value.parse(),
            None => app.map(|app| kind.default_binary(&app.name)),
        };
        Some(Self {
            server,
            kind,
            args: section
                .read("args", |value| arguments(value, app))
                .unwrap_or_default(),
            health: section.read("health", Health::read).unwrap_or_default(),
            drain: section
                .read("drain", Value::duration)
                .unwrap_or(Duration::from_secs(5)),
            stop_timeout: section
                .read("stop_timeout", Value::duration)
                .unwrap_or(Duration::from_secs(10)),
            stop_signal: section
                .read("stop_signal", StopSignal::read)
                .unwrap_or_default(),
            strategy: section
                .read("strategy", |value| value.choice(&Strategy::ALL))
                .unwrap_or_default(),
            instances: section
                .read("instances", |value| value.integer(1..=1000))
                .unwrap_or(1),
            keep_releases: section
                .read("keep_releases", |value| value.integer(1..=1000))
                .unwrap_or(5),
            pre_start: section.read("pre_start", Value::command),
            pre_switch: section.read("pre_switch", Value::command),
            post_deploy: section.read("post_deploy", Value::command),
            hook_timeout: section
                .read("hook_timeout", Value::positive_duration)
                .unwrap_or(Duration::from_secs(600)),
            binary: binary?,
        })
    }
}

/// `deploy.type`: what the release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// A program that is run as it is.
    #[default]
    Binary,
    /// An Erlang or Elixir release: `<binary> start`.
    Beam,
}

impl Kind {
    const ALL: [(&str, Self); 2] = [("binary", Self::Binary), ("beam", Self::Beam)];

    /// As the manifest spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Beam => "beam",
        }
    }

    fn default_binary(self, app: &AppName) -> EntryPath {
        match self {
            Self::Binary => EntryPath::from(app),
            // Names of applications have no `-`.
            Self::Beam => EntryPath::parse(&format!("bin/{}", app.as_str().replace('-', "_")))
                .expect("an app's name has nothing but letters, digits and `-`"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn arguments(value: &Value<'_>, app: Option<&App>) -> Option<Vec<Template>> {
    let mut arguments = Vec::new();
    for item in value.items()? {
        let Some(template) = item.parse::<Template>() else {
            continue;
        };
        if template
            .variables()
            .any(|variable| matches!(variable, Variable::Secret(_)))
        {
            item.report(
                "a secret in `args` could be read by every user of the server",
                Some("give it to the app in [env]"),
            );
        }
        check_socket(&item, &template, app);
        arguments.push(template);
    }
    Some(arguments)
}

/// Only what can't be told apart from an option or several words is refused here: whoever connects reads the rest.
fn server(value: &Value<'_>) -> Option<String> {
    let server = value.string()?;
    if server.is_empty()
        || server.starts_with('-')
        || server.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        value.report(
            "not the address of a server",
            Some("`user@host`, an alias of ~/.ssh/config, `ssh://user@host:port` or `local`"),
        );
        return None;
    }
    Some(server.to_owned())
}
