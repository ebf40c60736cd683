use std::fs::File;

use uuid::Uuid;
use vela_protocol::DeployRequest;
use vela_release::{Packed, pack};

use crate::{Deploy, Release, World};

/// A packed release of one app, to be deployed through the API as often and as fast as a test likes.
#[derive(Debug)]
pub struct Artifact {
    app: String,
    manifest: String,
    packed: Packed,
    archive: tempfile::NamedTempFile,
}

impl Artifact {
    /// The demo's app, at `<app>.localhost`. `deploy` holds more lines for `[deploy]`, `args` the app's arguments.
    pub fn demo_app(app: &str, deploy: &str, args: &str) -> Artifact {
        let manifest = manifest(app, deploy);
        Artifact::of(app, &manifest, &Release::demo_app(&manifest, args))
    }

    /// A shell script as the app.
    pub fn script(app: &str, deploy: &str, script: &str) -> Artifact {
        let manifest = manifest(app, deploy);
        Artifact::of(app, &manifest, &Release::script(&manifest, script))
    }

    /// A release with its manifest.
    pub fn of(app: &str, manifest: &str, release: &Release) -> Artifact {
        let archive = tempfile::NamedTempFile::new().unwrap();
        let out = File::create(archive.path()).unwrap();
        let packed = pack(&release.files(), out, &mut |_| {}).unwrap();
        Artifact {
            app: app.to_owned(),
            manifest: manifest.to_owned(),
            packed,
            archive,
        }
    }

    /// Begins to deploy it.
    pub async fn begin(&self, world: &World) -> Deploy {
        let (client, upload) = (world.client(), Uuid::new_v4());
        let uploaded = client.upload_file(upload, self.archive.path(), |_| {});
        uploaded.await.unwrap();
        let request = DeployRequest {
            deploy: Uuid::new_v4(),
            upload,
            build: false,
            size: self.packed.size,
            sha256: self.packed.sha256.to_string(),
            manifest: self.manifest.clone(),
            git: None,
            message: None,
            client: None,
        };
        Deploy::new(client.deploy(&self.app, &request).await.unwrap())
    }

    /// Deploys it.
    pub async fn deploy(&self, world: &World) -> Deploy {
        let mut deploy = self.begin(world).await;
        deploy.succeed().await;
        deploy
    }
}

fn manifest(app: &str, deploy: &str) -> String {
    format!(
        "[app]\nname = \"{app}\"\ndomain = \"{app}.localhost\"\n\n[deploy]\nbinary = \"run\"\n{deploy}\n"
    )
}
