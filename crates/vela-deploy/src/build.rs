//! The step that makes the artifact from source: the upload is synced into the app's build directory, built there, and
//! what the build made is packed for the step that unpacks. Whatever fails changes nothing but that directory, which is
//! a cache.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vela_manifest::{Output, OutputPattern};
use vela_protocol::Step;
use vela_release::{
    Artifact, Owner as FileOwner, PackError, Pick, ReleaseError, Selection, SourceTree,
    StoreOptions,
};

use crate::build_run::BuildRun;
use crate::failpoint::Moment;
use crate::journal::recording;
use crate::operation::{Operation, What};
use crate::step_error::StepError;

/// How many names an error lists of what a build left.
const LISTED: usize = 20;

impl Operation<'_> {
    pub(crate) async fn build(&mut self) -> Result<(), StepError> {
        let What::Deploy {
            artifact: source, ..
        } = &self.request.what
        else {
            return Ok(());
        };
        let (source, id) = (source.clone(), self.id);
        let manifest = Arc::clone(&self.request.manifest);
        let user = self.app.prepare(&manifest).await?;
        let options = StoreOptions {
            owner: user.as_ref().map(|user| FileOwner {
                uid: user.uid,
                gid: user.gid,
            }),
            ..StoreOptions::default()
        };
        let dir = self.app.dirs.build();
        let work = move |cancelled: &AtomicBool| {
            let tree = SourceTree::open(dir, options)?;
            let synced = tree.sync(id, &source, cancelled)?;
            Ok((tree, synced))
        };
        let brought = blocking(self.claim.cancellation(), work).await;
        let (tree, synced) = brought.map_err(|error| match error {
            ReleaseError::Cancelled { .. } => StepError::Cancelled,
            error => StepError::Source(error),
        })?;
        tracing::debug!(app = %self.app.name, ?synced, "synced the source");
        let plan = manifest
            .build_plan(|file| synced.root_files.contains(Path::new(file).as_os_str()))
            .map_err(StepError::NoBuildCommand)?;

        let secrets = self.app.secrets().read(self.request.secrets)?;
        let run = BuildRun {
            stack: &self.app.stack,
            app: &self.app.name,
            dirs: &self.app.dirs,
            manifest: &manifest,
            plan: &plan,
            release: id,
            secrets: &secrets,
            user: user.as_ref(),
            tree: &tree.root(),
            home: &tree.home(),
        };
        let run = run.run(&self.background, self.claim.cancellation());
        recording(&mut self.journal, &mut self.from_background, run).await?;
        self.app.stack.hit(Step::Build, Moment::Inside)?;

        let staging = self.app.stack.dirs.staging();
        let path = staging.join(format!(".{}.built", self.request.deploy));
        let work = move |cancelled: &AtomicBool| pack(&tree, &plan.output, path, cancelled);
        self.built = Some(blocking(self.claim.cancellation(), work).await?);
        Ok(())
    }

    /// What is unpacked: the artifact that was uploaded, or that was built.
    pub(crate) fn artifact(&self) -> Option<&Artifact> {
        match (&self.built, &self.request.what) {
            (Some(built), _) => Some(&built.artifact),
            (None, What::Deploy { artifact, .. }) => Some(artifact),
            _ => None,
        }
    }
}

/// An artifact that was built here, removed with this value.
#[derive(Debug)]
pub(crate) struct Built {
    artifact: Artifact,
}

impl Built {
    /// Removes the file: it was unpacked. What it was is still known.
    pub(crate) fn forget_file(&self) {
        match std::fs::remove_file(&self.artifact.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = self.artifact.path.display();
                tracing::warn!(%path, %error, "could not remove a built artifact");
            }
            _ => {}
        }
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        self.forget_file();
    }
}

/// Packs what of the tree is the release into the file `path`.
fn pack(
    tree: &SourceTree,
    output: &Output,
    path: PathBuf,
    cancelled: &AtomicBool,
) -> Result<Built, StepError> {
    let mut built = Built {
        artifact: Artifact {
            path,
            size: 0,
            sha256: vela_release::Sha256Digest::from_bytes([0; 32]),
        },
    };
    let mut patterns: &[OutputPattern] = &[];
    let at = match output {
        Output::Tree => PathBuf::new(),
        Output::Path(path) => path.as_path().to_owned(),
        Output::Named { within, name } => named(tree, within.as_path(), name),
        Output::Matching(wanted) => {
            patterns = wanted;
            PathBuf::new()
        }
        // The manifest may learn of more, and then this must too.
        _ => return Err(missing(tree, output, Path::new(""))),
    };
    let pick = |path: &Path| match patterns.iter().any(|one| one.matches(path)) {
        true => Pick::Take,
        false if patterns.iter().any(|one| one.may_match_below(path)) => Pick::Descend,
        false => Pick::Skip,
    };
    let selection = match patterns.is_empty() {
        true => Selection::At(&at),
        false => Selection::Picked(&pick),
    };
    let unwritten = |source| StepError::Pack(PackError::Write { source });
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&built.artifact.path)
        .map_err(unwritten)?;
    let packed = tree.pack(selection, std::io::BufWriter::new(file), cancelled);
    let packed = packed.map_err(|error| match error {
        PackError::Cancelled => StepError::Cancelled,
        PackError::NotFound { .. } | PackError::Empty { .. } => missing(tree, output, &at),
        error => StepError::Pack(error),
    })?;
    (built.artifact.size, built.artifact.sha256) = (packed.size, packed.sha256);
    Ok(built)
}

/// The directory `name` in `within`, or else the only one.
fn named(tree: &SourceTree, within: &Path, name: &str) -> PathBuf {
    let names = tree.names(within).unwrap_or_default();
    let mut directories = names.iter().filter_map(|name| name.strip_suffix('/'));
    let is_there = directories.clone().any(|directory| directory == name);
    match (directories.next(), directories.next()) {
        (Some(only), None) if !is_there => within.join(only),
        _ => within.join(name),
    }
}

/// Says what there is instead, in the nearest directory that exists.
fn missing(tree: &SourceTree, output: &Output, at: &Path) -> StepError {
    let at = match output {
        Output::Matching(patterns) => patterns.first().map(|one| Path::new(one.as_str())),
        _ => None,
    }
    .unwrap_or(at);
    let near = at.ancestors();
    let found = near
        .into_iter()
        .find_map(|near| Some((near, tree.names(near)?)));
    let (near, mut found) = found.unwrap_or((Path::new(""), Vec::new()));
    let more = found.len().saturating_sub(LISTED);
    found.truncate(LISTED);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    StepError::NoOutput {
        output: output.to_string(),
        near: match near.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => near.to_owned(),
        },
        found,
    }
}

/// Does blocking work to its end. When it is `cancelled` the work is told, and still waited for: it works on files that
/// the next operation works on as well.
async fn blocking<T, E>(
    cancelled: impl Future<Output = ()>,
    work: impl FnOnce(&AtomicBool) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let flag = Arc::new(AtomicBool::new(false));
    let mut working = tokio::task::spawn_blocking({
        let flag = Arc::clone(&flag);
        move || work(&flag)
    });
    let done = tokio::select! {
        done = &mut working => done,
        () = cancelled => {
            flag.store(true, Ordering::Relaxed);
            working.await
        }
    };
    match done.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends, and with it whoever would hear of it.
        Err(Err(_)) => std::future::pending().await,
    }
}
