use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::tree::Tree;
use crate::users::User;

/// The environment variable by which the processes of an instance are recognised.
///
/// The caller puts it into [`InstanceSpec::env`] (nothing is ever added to that environment); a
/// program that daemonises a child out of the instance's process tree is then still found and
/// killed after its shim was.
pub const INSTANCE_VARIABLE: &str = "VELA_INSTANCE";

/// The name of one instance: 1 to 40 bytes of `[a-z0-9-]`, starting with a letter or digit, and so
/// safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// Checks a name.
    ///
    /// # Errors
    /// When the name is not 1 to 40 bytes of `[a-z0-9-]` that start with a letter or digit.
    pub fn parse(name: &str) -> Result<Self, InvalidInstanceId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let valid =
            (1..=40).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidInstanceId(name.to_owned()))
        }
    }

    /// A new name of 16 hexadecimal digits that nothing else has.
    ///
    /// # Panics
    /// When the kernel has no randomness to give, which Linux never reports after boot.
    #[must_use]
    pub fn random() -> Self {
        let number = getrandom::u64().expect("getrandom(2) works once the system has booted");
        Self(format!("{number:016x}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidInstanceId;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(&name)
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

/// A name that is no [`InstanceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an instance id (1 to 40 of a-z, 0-9 and '-', not starting with '-')")]
pub struct InvalidInstanceId(pub String);

/// Everything needed to start an instance. Build it with [`InstanceSpec::new`] and struct update.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// Its name. One that lives already is refused.
    pub id: InstanceId,
    /// Whatever the host program wants to find again in [`Instance::labels`]. Persisted in clear:
    /// no place for secrets.
    pub labels: BTreeMap<String, String>,
    /// The program file; a relative path is taken from `cwd`. `PATH` is not searched.
    pub program: PathBuf,
    /// The arguments after the program's own name.
    pub args: Vec<String>,
    /// The working directory, entered as `user`.
    pub cwd: PathBuf,
    /// The whole environment: nothing is inherited and nothing is added. Put
    /// [`INSTANCE_VARIABLE`] into it.
    pub env: BTreeMap<String, SecretString>,
    /// Who runs it; `None` for the user of the host program. Another user needs root.
    pub user: Option<User>,
    /// The port it was told to listen on, for the record.
    pub port: Option<u16>,
    /// Where its standard output and error go.
    pub log: LogSpec,
    /// Programs that outlive it, by the names of their files: servers that whoever needs them first
    /// starts for all, such as Erlang's `epmd`.
    ///
    /// A process that runs such a file is no part of the instance once it has left the session of the
    /// main process, as daemons do: it is not signalled, killed or waited for. Such a name gains a
    /// program nothing else: it stays the user that it is, and what it has started by then ends with
    /// the instance.
    pub spares: Vec<String>,
}

impl InstanceSpec {
    /// A program without arguments, labels or environment, in `/`, with its log discarded.
    #[must_use]
    pub fn new(id: InstanceId, program: impl Into<PathBuf>) -> Self {
        Self {
            id,
            labels: BTreeMap::new(),
            program: program.into(),
            args: Vec::new(),
            cwd: PathBuf::from("/"),
            env: BTreeMap::new(),
            user: None,
            port: None,
            log: LogSpec::new("/dev/null"),
            spares: Vec::new(),
        }
    }
}

/// A log file and its rotation: `path`, `path.1`, .. `path.<keep>`.
///
/// Several instances may write to the same path at a time: lines are never mixed and each is kept
/// until its file is rotated out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The absolute path of the current file. Its directory is made when missing.
    pub path: PathBuf,
    /// A file that reached this size is rotated. Default 10 MiB.
    pub max_bytes: u64,
    /// How many rotated files to keep beside the current one. Default 5.
    pub keep: u32,
    /// Tells the lines of one instance from another's in a shared file: 1 to 64 of
    /// `[A-Za-z0-9._-]`.
    pub tag: Option<String>,
}

impl LogSpec {
    /// A log with the default rotation and no tag.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 10 << 20,
            keep: 5,
            tag: None,
        }
    }
}

/// An instance that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// The labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Its main process.
    pub pid: u32,
    /// When its main process was started.
    pub started_at: Timestamp,
    /// The port it was told to listen on.
    pub port: Option<u16>,
    pub(crate) tree: Tree,
}

impl Instance {
    /// For other implementers of [`Supervisor`](crate::Supervisor): a process that was just started
    /// and its descendants.
    #[must_use]
    pub fn new(id: InstanceId, pid: u32, started_at: Timestamp) -> Self {
        let tree = Tree::of_process(id.clone(), pid);
        Self {
            id,
            labels: BTreeMap::new(),
            pid,
            started_at,
            port: None,
            tree,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_file_names() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "a b",
            "-a",
            "a\0",
            &"x".repeat(41),
        ] {
            assert_eq!(InstanceId::parse(name), Err(InvalidInstanceId(name.into())));
        }
        for name in ["a", "0", "my-app-1", &"x".repeat(40)] {
            assert_eq!(InstanceId::parse(name).unwrap().as_str(), name);
        }
        assert_ne!(InstanceId::random(), InstanceId::random());
        assert!(InstanceId::parse(InstanceId::random().as_str()).is_ok());
    }

    #[test]
    fn debug_hides_the_environment() {
        let mut spec = InstanceSpec::new(InstanceId::random(), "/bin/true");
        spec.env.insert("KEY".into(), "s3cr3t".into());
        assert!(!format!("{spec:?}").contains("s3cr3t"));
    }
}
