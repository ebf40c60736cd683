//! Packs an application into an archive, unpacks it safely into release directories, and switches
//! between them atomically.
//!
//! - [`pack`] makes a reproducible tar.gz of a file or a directory, on Linux and macOS.
//! - [`ReleaseStore`] is the seam: the releases of one app, one of which is current. [`DirStore`]
//!   keeps them in a directory. A release is verified, unpacked under another name, synced and
//!   renamed, so that one which exists is complete; `current` is replaced by a rename.
//! - [`ReleaseId`] names releases so that they sort by age and never recur.
//! - [`entrypoint`] finds the program in a release, or says what is there instead.
//! - [`retain`] tells which releases are old enough to go.
//! - [`delete_tree`] deletes what an application may have filled as it liked.
//! - [`SourceTree`] is a directory that source is built in, again and again: what changed is
//!   brought in, and what a build has left stays.
//!
//! ```
//! use std::fs::File;
//! use std::path::Path;
//!
//! use vela_release::{
//!     Artifact, DirStore, ReleaseId, ReleaseStore, StoreOptions, entrypoint, pack, retain,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path();
//! # std::fs::create_dir_all(root.join("build/bin"))?;
//! # std::fs::copy("/bin/sh", root.join("build/bin/app"))?;
//! // Where it was built:
//! let path = root.join("artifact.tar.gz");
//! let packed = pack(&root.join("build"), File::create(&path)?, &mut |_| {})?;
//! let artifact = Artifact { path, size: packed.size, sha256: packed.sha256 };
//!
//! // Where it runs:
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let store = DirStore::open(root.join("apps/my-app"), StoreOptions::default())?;
//! let releases = store.list().await?;
//! let id = ReleaseId::next_after(jiff::Timestamp::now(), releases.newest());
//! let release = store.stage(id, &artifact).await?;
//! let program = entrypoint(&release.path, Path::new("bin/app"))?;
//! store.seal(id).await?;
//! // .. start the program, wait until it is healthy, route traffic to it; then:
//! let previous = store.activate(id).await?;
//!
//! let ids: Vec<ReleaseId> = store.list().await?.all.iter().map(|release| release.id).collect();
//! let protected: Vec<ReleaseId> = previous.into_iter().chain([id]).collect();
//! for old in retain(&ids, 5, &protected) {
//!     store.remove(old).await?;
//! }
//! # assert!(program.ends_with("bin/app"));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What is refused
//!
//! An archive comes from another machine, and may be hostile or broken. It is refused whole, with
//! an [`ArchiveError`] and with nothing left behind, if it has: a name that is absolute or holds
//! `..`; a symbolic link that leads out of the release or may (one that leads to nothing inside is
//! fine); a name that leads through a link; a hard link to anything but an earlier file; the same
//! name twice; a setuid or setgid bit; a device, a pipe or a sparse file; more files or bytes than
//! the [`Limits`]; an end that is missing, or something after it.
//!
//! Long names of GNU tar and pax are understood. Owners, times and extended attributes are
//! ignored: files belong to [`StoreOptions::owner`] and are as old as the release, so that a web
//! server's `Last-Modified` tells one release from the next.
//!
//! # Features
//!
//! `test-util` adds `test_util`: the `FailAt` wrapper, and the
//! conformance suite for other implementations of [`ReleaseStore`].
#![forbid(unsafe_code)]

mod archive_error;
mod beneath;
mod confine;
mod current;
mod delete;
mod digest;
mod dir_store;
mod durable;
mod entrypoint;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod members;
mod options;
mod pack;
mod pack_error;
mod pack_tar;
mod pack_tree;
mod printable;
mod retain;
mod seal;
mod source_tree;
mod store;
mod sync;
#[cfg(feature = "test-util")]
pub mod test_util;
mod tree;
mod unpack;

pub use archive_error::ArchiveError;
pub use delete::delete_tree;
pub use digest::{InvalidDigest, Sha256Digest};
pub use dir_store::DirStore;
pub use entrypoint::{EntrypointError, entrypoint};
pub use error::ReleaseError;
pub use id::{InvalidReleaseId, ReleaseId};
pub use options::{Limits, Owner, StoreOptions};
pub use pack::{Packed, Pick, Progress, pack};
pub use pack_error::PackError;
pub use pack_tar::{TarFile, pack_tar};
pub use pack_tree::Selection;
pub use retain::retain;
pub use source_tree::SourceTree;
pub use store::{Artifact, Release, ReleaseStore, Releases};
pub use sync::Synced;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
