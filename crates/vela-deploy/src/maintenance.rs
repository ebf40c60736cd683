use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vela_manifest::{Cidr, CidrError};
use vela_protocol::{AppStatus, MaintenanceRequest, MaintenanceStatus, Operation as Kind, Who};

use crate::accept::tell;
use crate::actor::Command;
use crate::app::App;
use crate::desired::Desired;
use crate::engine::Engine;
use crate::error::EngineError;

/// The longest message in bytes.
const LONGEST_MESSAGE: usize = 1024;
/// The most ranges of addresses: each request is compared with all of them.
const MOST_RANGES: usize = 64;

/// An app that is kept from its users for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MaintenanceStatus", into = "MaintenanceStatus")]
pub(crate) struct Maintenance {
    /// Since when.
    since: Timestamp,
    /// What its users are told.
    message: Option<String>,
    /// Who is served nonetheless.
    allow: Vec<Cidr>,
}

/// Why an app can't be maintained like that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMaintenance {
    /// The message is longer than 1 KiB.
    #[error("the message has {bytes} bytes, and may have {LONGEST_MESSAGE}")]
    LongMessage {
        /// How long it is.
        bytes: usize,
    },
    /// The message has a line break or another control character.
    #[error("the message has control characters")]
    Unprintable,
    /// A range of addresses is none.
    #[error(transparent)]
    Range(CidrError),
    /// There are too many ranges of addresses.
    #[error("{ranges} ranges of addresses are allowed to go on, and may be {MOST_RANGES}")]
    ManyRanges {
        /// How many.
        ranges: usize,
    },
}

impl InvalidMaintenance {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            InvalidMaintenance::Range(error) => return error.hint(),
            InvalidMaintenance::LongMessage { .. } => {
                "a page of the app's own, `maintenance.html` in its `error_pages`, can say more"
            }
            InvalidMaintenance::Unprintable => "write it on one line",
            InvalidMaintenance::ManyRanges { .. } => "name larger ranges",
        };
        Some(hint.to_owned())
    }
}

impl Maintenance {
    fn parse(request: MaintenanceRequest, since: Timestamp) -> Result<Self, InvalidMaintenance> {
        let MaintenanceRequest { message, allow } = request;
        if let Some(message) = &message {
            let bytes = message.len();
            if bytes > LONGEST_MESSAGE {
                return Err(InvalidMaintenance::LongMessage { bytes });
            }
            if message.chars().any(char::is_control) {
                return Err(InvalidMaintenance::Unprintable);
            }
        }
        let ranges = allow.len();
        if ranges > MOST_RANGES {
            return Err(InvalidMaintenance::ManyRanges { ranges });
        }
        let allow = allow.iter().map(|range| range.parse());
        Ok(Maintenance {
            since,
            message: message.filter(|message| !message.trim().is_empty()),
            allow: allow
                .collect::<Result<_, _>>()
                .map_err(InvalidMaintenance::Range)?,
        })
    }

    /// The same in the router's words.
    pub(crate) fn of_route(&self) -> vela_proxy::Maintenance {
        let network = |range: &Cidr| {
            let network = range.to_string().parse();
            network.expect("a range of addresses is a network")
        };
        vela_proxy::Maintenance {
            message: self.message.clone(),
            allow: self.allow.iter().map(network).collect(),
        }
    }
}

impl TryFrom<MaintenanceStatus> for Maintenance {
    type Error = InvalidMaintenance;

    fn try_from(status: MaintenanceStatus) -> Result<Self, InvalidMaintenance> {
        let MaintenanceStatus {
            since,
            message,
            allow,
        } = status;
        Maintenance::parse(MaintenanceRequest { message, allow }, since)
    }
}

impl From<Maintenance> for MaintenanceStatus {
    fn from(maintenance: Maintenance) -> MaintenanceStatus {
        MaintenanceStatus {
            since: maintenance.since,
            message: maintenance.message,
            allow: maintenance.allow.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Engine {
    /// Keeps an app from its users, or with `None` ends that: its requests are answered 503, but for those of the
    /// ranges that the request allows. What is in flight goes on, and the app itself too.
    ///
    /// It lasts, over deploys, stops, restarts and crashes, until it is ended or the app is removed. Idempotent: asking
    /// again changes message and ranges.
    ///
    /// # Errors
    /// When the app is unknown or busy, the request is invalid, or the wish can't be written down: then nothing has
    /// changed. When the router fails, the wish is written already, and holds from the route's next change.
    pub async fn maintain(
        &self,
        app: &str,
        request: Option<MaintenanceRequest>,
        who: Who,
    ) -> Result<AppStatus, EngineError> {
        let (name, handle) = self.existing(app)?;
        let now = self.inner.stack.clock.now();
        let maintenance = request.map(|request| Maintenance::parse(request, now));
        let maintenance = maintenance.transpose().map_err(EngineError::Maintenance)?;
        let claim = self.hold(&name, &handle, Kind::Maintenance, &who)?;
        tell(&handle, |reply| Command::Maintain {
            claim,
            maintenance,
            who,
            reply,
        })
        .await?;
        self.status(app)
    }
}

impl App {
    /// Writes the wish, then acts on it.
    pub(crate) async fn maintain(
        &mut self,
        maintenance: Option<Maintenance>,
        who: &Who,
    ) -> Result<(), EngineError> {
        let is_on = maintenance.is_some();
        tracing::info!(app = %self.name, by = %who, is_on, "maintaining the app");
        let since = self.desired.maintenance.as_ref().map(|one| one.since);
        let maintenance = maintenance.map(|one| Maintenance {
            since: since.unwrap_or(one.since),
            ..one
        });
        if maintenance != self.desired.maintenance {
            self.set_desired(Desired {
                maintenance,
                ..self.desired.clone()
            })?;
        }
        // Also when nothing has changed: the router may have failed the last time.
        self.apply_maintenance().await.map_err(EngineError::Route)
    }

    /// Has the route and the status as `desired.toml` wants them.
    pub(crate) async fn apply_maintenance(&self) -> Result<(), vela_proxy::RouteError> {
        let maintenance = self.desired.maintenance.as_ref();
        self.shared
            .set_maintenance(maintenance.cloned().map(Into::into));
        self.route
            .maintain(maintenance.map(Maintenance::of_route))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: Option<&str>, allow: &[&str]) -> Result<Maintenance, InvalidMaintenance> {
        let request = MaintenanceRequest {
            message: message.map(Into::into),
            allow: allow.iter().map(ToString::to_string).collect(),
        };
        Maintenance::parse(request, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_hint() {
        let long = "x".repeat(1025);
        let many = ["10.0.0.1"; 65];
        for (refused, text) in [
            (parse(Some(&long), &[]), "1025 bytes"),
            (parse(Some("a\nb"), &[]), "control"),
            (parse(Some("\u{1b}[2J"), &[]), "control"),
            (parse(None, &["10.0.0.1/8"]), "10.0.0.1/8"),
            (parse(None, &many), "65 ranges"),
        ] {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
        assert!(parse(Some(&long[1..]), &many[1..]).is_ok());
        assert!(parse(None, &["office"]).is_err());
    }

    #[test]
    fn a_file_has_what_was_asked_for() {
        let maintenance = parse(Some("zurück um 5"), &["10.0.0.0/8", "::1"]).unwrap();
        let desired = Desired {
            maintenance: Some(maintenance.clone()),
            ..Desired::default()
        };
        let text = toml::to_string(&desired).unwrap();
        assert_eq!(toml::from_str::<Desired>(&text).unwrap(), desired);
        let damaged = text.replace("10.0.0.0/8", "10.0.0.0/33");
        assert!(toml::from_str::<Desired>(&damaged).is_err());
        let of_route = maintenance.of_route();
        assert_eq!(of_route.message.as_deref(), Some("zurück um 5"));
        assert!(of_route.allow[0].contains([10, 1, 2, 3].into()));
        assert!(!of_route.allow[0].contains([11, 1, 2, 3].into()));
        assert_eq!(parse(Some("  "), &[]).unwrap().of_route().message, None);
    }
}
