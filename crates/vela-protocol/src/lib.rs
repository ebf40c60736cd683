//! The words that a Vela client and its daemon exchange.
//!
//! Everything here is plain data with `serde` derives: no I/O, no policy. A tool that wants to read the output of
//! `vela deploy --json`, a history file, or the control API needs this crate and nothing else.
//!
//! A long operation answers with newline-delimited [`Envelope`]s, one JSON object a line. The last one is *terminal*
//! ([`Event::is_terminal`]); a stream that ends without one was cut, and the reader attaches again from the last `seq`.
//!
//! ```
//! use vela_protocol::{Envelope, Event, Step};
//!
//! let line = r#"{"v":1,"seq":4,"time":"2026-03-05T14:30:22Z","deploy":"6f1c2d9e-8f0b-4f43-9d8a-0d5a4c1f2b3c","kind":"step_finished","step":"switch","ms":2}"#;
//! let envelope: Envelope = serde_json::from_str(line)?;
//! assert_eq!(envelope.event, Event::StepFinished { step: Step::Switch, ms: 2 });
//! assert!(!envelope.event.is_terminal());
//!
//! // A newer daemon may say what this reader has never heard of: it is kept, not refused.
//! let newer = line.replace("step_finished", "moon_phase_changed");
//! assert!(matches!(serde_json::from_str::<Envelope>(&newer)?.event, Event::Unknown(_)));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Versions
//!
//! [`VERSION`] is the version of the envelope and of the requests. Fields and event kinds are added without raising
//! it, since readers ignore fields and keep kinds they do not know; anything else raises it.
#![forbid(unsafe_code)]

mod api;
mod certificate;
mod error;
mod event;
mod status;
mod step;

pub use api::{
    DeployRequest, MaintenanceRequest, RemoveRequest, RestartRequest, RollbackRequest,
    SecretChange, ServerVersion, StartRequest, Upload,
};
pub use certificate::{
    AppTls, CertificateDetails, CertificateOrigin, CertificateState, CertificateStatus,
};
pub use error::{ApiError, ErrorCode, Report};
pub use event::{Attempt, Envelope, Event, Operation, Serving, Stream, Who};
pub use status::{
    AppState, AppStatus, HistoryEntry, InProgress, InstanceStatus, LogLine, MaintenanceStatus,
    Outcome, ReleaseStatus, ReleaseSummary, RouterStats, SecretNames, ServiceApp,
    ServiceCredentials, ServiceStatus,
};
pub use step::{Hook, Step};

/// The version of the words in this crate, sent in every envelope and by `GET /v1/version`.
pub const VERSION: u32 = 1;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
