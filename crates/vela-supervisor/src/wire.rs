//! What a shim and its supervisor say to each other, and what both read from the run directory:
//! one JSON object a line (or file), each with the version of this protocol. A daemon may be newer
//! than the shims it finds: change only by adding optional fields, or raise [`VERSION`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::process::Process;
use crate::spares::Spares;
use crate::tree::Tree;
use crate::users::User;
use crate::{Exit, Instance, InstanceId, InstanceSpec, LogSpec, Signal, Stop};

pub(crate) const VERSION: u32 = 1;

/// The longest line either side accepts after the spec.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// Supervisor to shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    Stop(Stop),
    Signal(Signal),
}

/// Shim to supervisor: `Started` or `Failed` first, `Exited` last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    Started(Box<State>),
    Failed(StartFailure),
    Exited(Exit),
}

/// An instance as written to `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: InstanceId,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) boot_id: String,
    /// Missing for an instance without a shim.
    pub(crate) shim: Option<Process>,
    pub(crate) main: Process,
    pub(crate) started_at: Timestamp,
    pub(crate) port: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spares: Vec<String>,
}

impl State {
    /// What belongs to the instance.
    pub(crate) fn tree(&self) -> Tree {
        let spares = Spares::new(&self.spares);
        match self.shim {
            Some(shim) => Tree::of_shim(shim, self.main, spares),
            None => Tree::loose(self.id.clone(), Some(self.main), spares),
        }
    }

    pub(crate) fn into_instance(self) -> Instance {
        let tree = self.tree();
        let mut instance = Instance::new(self.id, self.main.pid.unsigned_abs(), self.started_at);
        instance.labels = self.labels;
        instance.port = self.port;
        instance.tree = tree;
        instance
    }
}

/// Why an instance could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartFailure {
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

impl StartFailure {
    pub(crate) fn new(step: Step, error: &std::io::Error) -> Self {
        // An error that the system did not give a number has none better.
        Self {
            step,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// The steps of a start inside the shim; the discriminant is what the new process writes to its
/// parent when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub(crate) enum Step {
    Setup,
    OpenLog,
    Fork,
    Session,
    WriteState,
    SwitchUser,
    DeathSignal,
    WorkingDirectory,
    Execute,
}

impl Step {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let inside = [
            Self::Session,
            Self::WriteState,
            Self::SwitchUser,
            Self::DeathSignal,
            Self::WorkingDirectory,
            Self::Execute,
        ];
        inside.into_iter().find(|step| *step as u8 == byte)
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Setup => "setting up the shim",
            Self::OpenLog => "opening the log",
            Self::Fork => "forking",
            Self::Session => "making a session",
            Self::WriteState => "writing its state",
            Self::SwitchUser => "switching the user",
            Self::DeathSignal => "tying it to its parent",
            Self::WorkingDirectory => "entering the working directory",
            Self::Execute => "executing the program",
        }
    }
}

/// The first line on a shim's standard input.
#[derive(Serialize, Deserialize)]
pub(crate) struct StartRequest {
    pub(crate) run_dir: PathBuf,
    id: InstanceId,
    labels: BTreeMap<String, String>,
    program: PathBuf,
    args: Vec<String>,
    cwd: PathBuf,
    env: BTreeMap<String, Exposed>,
    user: Option<User>,
    port: Option<u16>,
    log: LogSpec,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spares: Vec<String>,
}

impl StartRequest {
    pub(crate) fn new(run_dir: PathBuf, spec: &InstanceSpec) -> Self {
        let expose =
            |(name, value): (&String, &SecretString)| (name.clone(), Exposed(value.clone()));
        Self {
            run_dir,
            id: spec.id.clone(),
            labels: spec.labels.clone(),
            program: spec.program.clone(),
            args: spec.args.clone(),
            cwd: spec.cwd.clone(),
            env: spec.env.iter().map(expose).collect(),
            user: spec.user.clone(),
            port: spec.port,
            log: spec.log.clone(),
            spares: spec.spares.clone(),
        }
    }

    pub(crate) fn into_spec(self) -> InstanceSpec {
        InstanceSpec {
            id: self.id,
            labels: self.labels,
            program: self.program,
            args: self.args,
            cwd: self.cwd,
            env: self
                .env
                .into_iter()
                .map(|(name, value)| (name, value.0))
                .collect(),
            user: self.user,
            port: self.port,
            log: self.log,
            spares: self.spares,
        }
    }
}

/// A secret on its way through the pipe.
struct Exposed(SecretString);

impl Serialize for Exposed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose_secret().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exposed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(String::deserialize(deserializer)?.into()))
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    body: T,
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

/// Why a line or file is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("version {0} of the shim protocol is not supported")]
    Version(u32),
    #[error("malformed")]
    Malformed(#[source] serde_json::Error),
}

/// One line, with its newline.
pub(crate) fn encode<T: Serialize>(body: &T) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(serde_json::to_vec(&Envelope { v: VERSION, body })?);
    line.push(b'\n');
    Ok(line)
}

pub(crate) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, WireError> {
    let VersionOnly { v } = serde_json::from_slice(line).map_err(WireError::Malformed)?;
    if v != VERSION {
        return Err(WireError::Version(v));
    }
    let envelope: Envelope<T> = serde_json::from_slice(line).map_err(WireError::Malformed)?;
    Ok(envelope.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_pinned() {
        let line = encode(&Command::Stop(Stop::default())).unwrap();
        let expected = r#"{"v":1,"body":{"stop":{"signal":"TERM","grace":{"secs":10,"nanos":0}}}}"#;
        assert_eq!(std::str::from_utf8(&line).unwrap().trim_end(), expected);
        assert_eq!(
            decode::<Command>(&line).unwrap(),
            Command::Stop(Stop::default())
        );
    }

    #[test]
    fn garbage_and_other_versions_are_told_apart() {
        let newer = br#"{"v":2,"body":{"dance":{}}}"#;
        assert!(matches!(
            decode::<Command>(newer),
            Err(WireError::Version(2))
        ));
        for garbage in [
            &b""[..],
            b"{}",
            b"\xff",
            br#"{"v":1}"#,
            br#"{"v":1,"body":{"dance":1}}"#,
        ] {
            assert!(matches!(
                decode::<Command>(garbage),
                Err(WireError::Malformed(_))
            ));
        }
    }

    #[test]
    fn step_bytes_round_trip() {
        for byte in 0..=u8::MAX {
            assert!(Step::from_byte(byte).is_none_or(|step| step as u8 == byte));
        }
        assert_eq!(Step::from_byte(Step::Execute as u8), Some(Step::Execute));
    }
}
