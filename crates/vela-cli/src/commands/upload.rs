use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;
use vela_control::{Client, ClientError};
use vela_release::{PackError, Packed, Progress, pack};

use super::git_source::GitSource;
use crate::failure::Failure;
use crate::render::{Narrator, Phase, bytes, plural, printable};

/// What is deployed.
pub(crate) enum Payload {
    /// A file or directory, as it is.
    Artifact(PathBuf),
    /// What git has committed, to be built on the server.
    Source(GitSource),
}

/// An artifact or a source that is being packed, on a thread of its own, while the connection is made.
pub(crate) struct Packing {
    work: JoinHandle<Result<Archive, Failure>>,
    progress: watch::Receiver<Progress>,
}

/// A packed artifact or source in a private file that goes away with it.
pub(crate) struct Archive {
    file: NamedTempFile,
    took: Duration,
    pub(crate) packed: Packed,
    /// What the user should know of what was packed.
    warnings: Vec<String>,
}

impl Packing {
    /// Begins to pack.
    pub(crate) fn begin(payload: Payload) -> Packing {
        let (report, progress) = watch::channel(Progress::default());
        let work = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let unwritable = |error| Failure::because("cannot write the packed artifact", &error);
            let mut file = NamedTempFile::with_prefix("vela-").map_err(unwritable)?;
            let mut out = BufWriter::new(file.as_file_mut());
            let mut progress = |at| {
                report.send_replace(at);
            };
            let (packed, warnings) = match payload {
                Payload::Artifact(artifact) => {
                    let packed = pack(&artifact, &mut out, &mut progress);
                    (packed.map_err(|error| packing_failed(&error))?, Vec::new())
                }
                Payload::Source(source) => source.pack(&mut out, progress)?,
            };
            out.flush().map_err(unwritable)?;
            drop(out);
            Ok(Archive {
                file,
                took: began.elapsed(),
                packed,
                warnings,
            })
        });
        Packing { work, progress }
    }

    /// Shows the rest of it.
    pub(crate) async fn show(mut self, narrator: &mut Narrator) -> Result<Archive, Failure> {
        narrator.started(Phase::Pack);
        loop {
            tokio::select! {
                biased;
                done = &mut self.work => {
                    let archive = done
                        .map_err(|error| Failure::because("packing ended unexpectedly", &error))??;
                    let Packed { files, size, .. } = &archive.packed;
                    let detail = format!("{}, {}", plural(*files, "file"), bytes(*size));
                    narrator.finished(Phase::Pack, archive.took, &detail);
                    for warning in &archive.warnings {
                        narrator.line(&format!("warning: {}", printable(warning)));
                    }
                    return Ok(archive);
                }
                Ok(()) = self.progress.changed() => {
                    let at = *self.progress.borrow_and_update();
                    let files = plural(at.files, "file");
                    narrator.progressed(&format!("{files}, {}", bytes(at.bytes)));
                }
            }
        }
    }
}

impl Archive {
    /// Sends it, and shows how far it is.
    pub(crate) async fn upload(
        &self,
        client: &Client,
        id: Uuid,
        narrator: &mut Narrator,
    ) -> Result<(), ClientError> {
        narrator.started(Phase::Upload);
        let began = Instant::now();
        let size = self.packed.size;
        let (report, mut progress) = watch::channel(0);
        let sending = client.upload_file(id, self.file.path(), move |sent| {
            report.send_replace(sent);
        });
        tokio::pin!(sending);
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    sent?;
                    narrator.finished(Phase::Upload, began.elapsed(), &rate(size, began.elapsed()));
                    return Ok(());
                }
                Ok(()) = progress.changed() => {
                    let sent: u64 = *progress.borrow_and_update();
                    let percent = sent * 100 / size.max(1);
                    narrator.progressed(&format!("{percent} %  {} of {}", bytes(sent), bytes(size)));
                }
            }
        }
    }
}

fn packing_failed(error: &PackError) -> Failure {
    let failure = Failure::because("cannot pack the artifact", error);
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn rate(size: u64, took: Duration) -> String {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    format!("{}/s", bytes(size.saturating_mul(1_000) / millis))
}
