//! Reads `Vela.toml`, the manifest of an app, and `server.toml`, the configuration of a server, into
//! validated types.
//!
//! A value that was parsed is valid: names are safe path components, paths stay inside the release,
//! durations don't overflow a clock, templates refer only to variables that exist. What is not valid is an
//! error with its line, its column and, where something similar exists, a suggestion; and one error holds
//! all problems of a file, not only the first. Unknown keys are errors too, but for the user's own that
//! start with `x-`.
//!
//! ```
//! use vela_manifest::{Health, Manifest};
//!
//! let manifest = Manifest::parse("Vela.toml", r#"
//! [app]
//! name = "my-app"
//! domain = "my-app.com"
//!
//! [deploy]
//! health = "/health"
//! drain = "1m30s"
//!
//! [env]
//! DATABASE_PATH = "${data_dir}/my-app.db"
//! "#)?;
//! assert!(matches!(manifest.deploy.health, Health::Http { expect: 200, .. }));
//! assert_eq!(manifest.deploy.drain.as_secs(), 90);
//!
//! let error = Manifest::parse("Vela.toml", "[app]\nname = \"my-app\"\n[deploy]\ndrian = 5\n")
//!     .expect_err("a typo");
//! assert_eq!(error.report(), "\
//! Vela.toml:4:1: unknown key `drian` in [deploy]
//!    |
//!  4 | drian = 5
//!    | ^^^^^
//!    = hint: did you mean `drain`?
//! ");
//! # Ok::<(), vela_manifest::ManifestError>(())
//! ```
//!
//! Some keys are understood, but nothing acts on them yet: [`Manifest::not_yet_deployable`] names them, so
//! that a deployer can refuse them instead of ignoring them.
//!
//! [`ManifestError`] can be shown in three ways: as one line by `Display`, as plain text with carets by
//! [`ManifestError::report`], and in colour as a [`miette::Diagnostic`].
//!
//! Everything here is pure, but for one `load` of each kind of file.

#![forbid(unsafe_code)]

mod app;
mod app_name;
mod build;
mod build_plan;
mod build_tool;
mod cidr;
mod deploy;
mod document;
mod domain;
mod duration;
mod entry_path;
mod env;
mod env_name;
mod error;
mod header_name;
mod health;
mod init;
mod invalid_file;
mod listen;
mod manifest;
mod output;
mod problem;
mod proxy;
mod quote;
mod reason;
mod resources;
mod route_path;
mod section;
mod server;
mod services;
mod size;
mod snippet;
mod source;
mod stop_signal;
mod strategy;
mod suggest;
mod syntax;
mod template;
mod unsupported;
mod value;

pub use app::App;
pub use app_name::{AppName, AppNameError, AppNameReason};
pub use build::Build;
pub use build_plan::{BuildPlan, NoBuildCommand};
pub use build_tool::BuildTool;
pub use cidr::{Cidr, CidrError, CidrReason};
pub use deploy::{Deploy, Kind};
pub use domain::{Domain, DomainError, DomainReason};
pub use entry_path::{EntryPath, EntryPathError, EntryPathReason};
pub use error::ManifestError;
pub use header_name::{HeaderName, HeaderNameError};
pub use health::{Health, Method, Timing};
pub use init::template_for_init;
pub use invalid_file::InvalidFile;
pub use listen::Listen;
pub use manifest::Manifest;
pub use output::{Output, OutputError, OutputPattern};
pub use problem::Problem;
pub use proxy::AppProxy;
pub use resources::Resources;
pub use route_path::{RoutePath, RoutePathError, RoutePathReason};
pub use server::{
    AccessLogSection, AppsSection, BackupInclude, BackupSection, CertificatePair, Destination,
    NatsSection, PostgresSection, ProxyLimits, ProxySection, ProxyTimeouts, Schedule, ServerConfig,
    ServicesSection, Sha256, TlsSection,
};
pub use services::{JetStream, Nats, Postgres, Services};
pub use stop_signal::StopSignal;
pub use strategy::Strategy;
pub use template::{Template, TemplateError, Variable};
pub use unsupported::Unsupported;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
