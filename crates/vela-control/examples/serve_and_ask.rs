//! Serves a daemon's API on a socket in a temporary directory, and asks it what it is and what it runs.
#![expect(clippy::print_stdout, reason = "an example is a program, and prints")]

use std::sync::Arc;

use vela_control::{Client, ClientError, UnixTransport, bind, serve};
use vela_deploy::{Dirs, Engine, Stack};
use vela_proxy::{Proxy, ProxyConfig};
use vela_supervisor::{InProcess, Ports};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("vela.sock");
    let stack = Stack::local(
        Dirs::new(dir.path().join("data")),
        Arc::new(InProcess::new()),
        Ports::new(20_000..=29_999),
        Proxy::new(ProxyConfig::default()),
    );
    let engine = Engine::open(stack).await?;
    let listener = bind(&socket, None).await?;

    let client = Client::new(Arc::new(UnixTransport::new(&socket))).with_name("example@here");
    // Serves until the questions are answered.
    let (asked, served) = {
        let (done, answered) = tokio::sync::oneshot::channel::<()>();
        let serving = serve(engine, listener, async {
            // A dropped sender means the same.
            answered.await.unwrap_or_default();
        });
        let asking = async {
            let asked = ask(client).await;
            drop(done);
            asked
        };
        tokio::join!(asking, serving)
    };
    asked?;
    Ok(served?)
}

async fn ask(client: Client) -> Result<(), ClientError> {
    let version = client.version().await?;
    println!(
        "{}: vela {}, process {}",
        client.address(),
        version.version,
        version.pid
    );
    println!("{} apps", client.apps().await?.len());
    match client.status("ghost").await {
        Ok(status) => println!("{}: {}", status.name, status.state.as_str()),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
