use std::path::PathBuf;

use uuid::Uuid;
use vela_control::{Client, ServerAddress};
use vela_protocol::{DeployRequest, Operation};

use super::check::refuse_not_yet_deployable;
use super::follow::{Following, follow};
use super::upload::{Archive, Packing};
use super::{artifact, identity};
use crate::args::Deploy;
use crate::connection;
use crate::context::{Context, Source};
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::Narrator;

/// The state of the system after what fails before the deploy itself.
const UNCHANGED: &str = "nothing was changed";

pub(crate) async fn run(context: &Context, args: Deploy) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (source, artifact, server) =
        local(context, args.artifact).map_err(|failure| failure.with_state(UNCHANGED))?;
    let client = connection::client(&server);

    let app = source.manifest.app.name.clone();
    let deploy = Uuid::new_v4();
    let following = Following {
        client: &client,
        app: &app,
        operation: Operation::Deploy,
        deploy,
        own: true,
    };
    let mut narrator = context.screen.narrator();
    let dir = source.dir().to_owned();
    let git = tokio::task::spawn_blocking(move || identity::git_revision(&dir));
    let packing = Packing::begin(artifact);
    let upload = Uuid::new_v4();
    let archive = {
        let prepare = prepare(&following, packing, upload, &mut narrator);
        tokio::select! {
            prepared = prepare => prepared,
            // The connection ends with the process, and a cut upload leaves nothing behind.
            () = interrupts.next() => Err(Failure::interrupted("interrupted", UNCHANGED)),
        }
    };
    let archive = match archive {
        Ok(archive) => archive,
        Err(failure) => {
            narrator.close();
            return Err(failure.with_state(UNCHANGED));
        }
    };

    let request = DeployRequest {
        deploy,
        upload,
        size: archive.packed.size,
        sha256: archive.packed.sha256.to_string(),
        manifest: source.text,
        // Not to know the revision is no reason not to deploy.
        git: git.await.unwrap_or(None),
        message: args.message,
        client: identity::client(),
    };
    let events = client.deploy(app.as_str(), &request);
    follow(context, &following, events, narrator, &mut interrupts).await
}

/// What can be found out without the server.
fn local(
    context: &Context,
    artifact: Option<PathBuf>,
) -> Result<(Source, PathBuf, ServerAddress), Failure> {
    let source = context.manifest()?;
    refuse_not_yet_deployable(&source.manifest)?;
    let artifact = artifact::find(&source, artifact)?;
    let server = context.server(Some(&source))?;
    Ok((source, artifact, server))
}

/// Everything before the deploy itself: connect, pack, upload.
async fn prepare(
    following: &Following<'_>,
    packing: Packing,
    upload: Uuid,
    narrator: &mut Narrator,
) -> Result<Archive, Failure> {
    let client: &Client = following.client;
    // Before anything is drawn: the connection may have to ask.
    client.version().await?;
    let archive = packing.show(narrator).await?;
    match archive.upload(client, upload, narrator).await {
        Ok(()) => Ok(archive),
        Err(error) => {
            narrator.close();
            Err(following.refused(error).await)
        }
    }
}
