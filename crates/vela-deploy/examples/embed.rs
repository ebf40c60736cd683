//! A deployer in eighty lines: an engine inside this process deploys an app, a second version of it, and goes back.
//!
//! `cargo run -p vela-deploy --example embed` (it uses the example `tiny_app`, so `cargo build --examples` first)

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use uuid::Uuid;
use vela_deploy::{Dirs, Engine, Events, Stack};
use vela_protocol::{DeployRequest, Event, RollbackRequest, Who};
use vela_proxy::{Proxy, ProxyConfig};
use vela_supervisor::{InProcess, Ports};

const MANIFEST: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"

[deploy]
health = "/health"
"#;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example prints")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::new(ProxyConfig::default());
    let supervisor = Arc::new(InProcess::new());
    // Any field of the stack can be another implementation: `Stack { router: Arc::new(MyNginx), ..stack }`.
    let stack = Stack::local(
        Dirs::new(dir.path().join("vela")),
        supervisor,
        Ports::new(10000..=20000),
        proxy.clone(),
    );
    let engine = Engine::open(stack).await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("routes tiny.localhost on http://{}", listener.local_addr()?);
    let serving = proxy.serve(vec![listener])?;

    let release = dir.path().join("release");
    std::fs::create_dir(&release)?;
    let app = release.join("tiny");
    std::fs::copy(std::env::current_exe()?.with_file_name("tiny_app"), &app)?;
    std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o755))?;

    let me = Who {
        uid: None,
        user: "example".into(),
        client: None,
    };
    for message in ["first", "second"] {
        let request = upload(&engine, &release, message).await?;
        report(engine.deploy("tiny", request, me.clone()).await?).await;
    }
    let back = RollbackRequest {
        deploy: Uuid::new_v4(),
        to: None,
        hooks: false,
        client: None,
    };
    report(engine.rollback("tiny", back, me).await?).await;
    println!("{:#?}", engine.status("tiny")?.state);

    engine.shutdown(true).await;
    serving.shutdown(std::time::Duration::from_secs(1)).await;
    Ok(())
}

/// Packs a directory and hands it to the engine.
async fn upload(
    engine: &Engine,
    release: &Path,
    message: &str,
) -> Result<DeployRequest, Box<dyn std::error::Error>> {
    let archive = tempfile::NamedTempFile::new()?;
    let packed = vela_release::pack(release, File::create(archive.path())?, &mut |_| {})?;
    let upload = Uuid::new_v4();
    let body = futures::stream::iter([std::fs::read(archive.path())]);
    engine.uploads().receive(upload, body).await?;
    Ok(DeployRequest {
        deploy: Uuid::new_v4(),
        upload,
        build: false,
        size: packed.size,
        sha256: packed.sha256.to_string(),
        manifest: MANIFEST.to_owned(),
        git: None,
        message: Some(message.to_owned()),
        client: None,
    })
}

/// Prints each step with its duration, and how it ended.
#[expect(clippy::print_stdout, reason = "an example prints")]
async fn report(mut events: Events) {
    while let Some(envelope) = events.next().await {
        match envelope.event {
            Event::Started {
                operation, release, ..
            } => println!("{} of {release}", operation.as_str()),
            Event::StepFinished { step, ms } => println!("  {step:<12} {ms:>5} ms"),
            Event::Succeeded { release, ms, .. } => println!("  {release} serves after {ms} ms"),
            Event::Failed { error, .. } => println!("  failed: {error}"),
            _ => {}
        }
    }
}
