use uuid::Uuid;
use vela_control::{Client, ServerAddress};
use vela_protocol::{DeployRequest, Operation};

use super::check::refuse_not_yet_deployable;
use super::follow::{Following, follow};
use super::git_source::GitSource;
use super::upload::{Archive, Packing, Payload};
use super::{artifact, identity};
use crate::args::Deploy;
use crate::connection;
use crate::context::{Context, Source};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::{Narrator, printable};

/// The state of the system after what fails before the deploy itself.
const UNCHANGED: &str = "nothing was changed";

pub(crate) async fn run(context: &Context, args: Deploy) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (source, payload, server) =
        local(context, &args).map_err(|failure| failure.with_state(UNCHANGED))?;
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
    let commit = match &payload {
        Payload::Source(source) => Some(source.commit.clone()),
        Payload::Artifact(_) => None,
    };
    let build = commit.is_some();
    let git = tokio::task::spawn_blocking(move || commit.or_else(|| identity::git_revision(&dir)));
    let packing = Packing::begin(payload);
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
        build,
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
fn local(context: &Context, args: &Deploy) -> Result<(Source, Payload, ServerAddress), Failure> {
    let source = context.manifest()?;
    refuse_not_yet_deployable(&source.manifest)?;
    let payload = match &args.artifact {
        None if source.manifest.builds_remotely() => {
            Payload::Source(committed(context, &source, args.reference.as_deref())?)
        }
        _ if args.reference.is_some() => {
            let message =
                "`--ref` is the commit that a remote build builds, and this deploys an artifact";
            let hint = "leave `--ref` out; or set `remote = true` in [build], and name no artifact";
            return Err(Failure::new(message).with_exit(Exit::Usage).with_hint(hint));
        }
        artifact => Payload::Artifact(artifact::find(&source, artifact.clone())?),
    };
    let server = context.server(Some(&source))?;
    Ok((source, payload, server))
}

/// The source that the server is to build, with what should be known of it said.
fn committed(
    context: &Context,
    source: &Source,
    reference: Option<&str>,
) -> Result<GitSource, Failure> {
    let found = GitSource::find(source, reference)?;
    for warning in &found.warnings {
        context.screen.warning(&printable(warning));
    }
    // The server asks the same of the same files, after they were uploaded.
    let plan = source.manifest.build_plan(|file| found.has(file));
    let plan = plan.map_err(|error| Failure::of(&error).with_hint(error.hint()))?;
    let commit = found.commit.get(..12).unwrap_or(&found.commit);
    context.screen.message(&printable(&format!(
        "building commit {commit} on the server: `{}` makes {}",
        plan.command, plan.output
    )));
    Ok(found)
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
