use std::collections::BTreeMap;

use vela_supervisor::Instance;

/// Whose process an instance is. It is stored in the instance's labels, so that a restarted daemon knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A process of a release.
    Release {
        app: String,
        release: String,
        /// The operation that started it: its history id.
        operation: String,
    },
    /// A hook or probe of an operation.
    Task { app: String, operation: String },
    /// A server that apps share: no app's, and no operation's.
    Service { server: String },
}

impl Owner {
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let pairs = match self {
            Owner::Release {
                app,
                release,
                operation,
            } => {
                vec![
                    ("owner", "release"),
                    ("app", app),
                    ("release", release),
                    ("process", "web"),
                    ("operation", operation),
                ]
            }
            Owner::Task { app, operation } => {
                vec![("owner", "task"), ("app", app), ("operation", operation)]
            }
            Owner::Service { server } => vec![("owner", "service"), ("server", server)],
        };
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// The owner of an instance, unless it is one that this version does not know: those are left alone.
    pub(crate) fn of(instance: &Instance) -> Option<Owner> {
        let label = |key: &str| instance.labels.get(key).cloned();
        match instance.labels.get("owner")?.as_str() {
            "release" => Some(Owner::Release {
                app: label("app")?,
                release: label("release")?,
                operation: label("operation")?,
            }),
            "task" => Some(Owner::Task {
                app: label("app")?,
                operation: label("operation")?,
            }),
            "service" => Some(Owner::Service {
                server: label("server")?,
            }),
            _ => None,
        }
    }

    /// The app that it belongs to, if to one.
    pub(crate) fn app(&self) -> Option<&str> {
        match self {
            Owner::Release { app, .. } | Owner::Task { app, .. } => Some(app),
            Owner::Service { .. } => None,
        }
    }
}
