//! Puts the load generator on the demo's app, replaces the app without care, and shows what that cost.
//!
//! `cargo run -p vela-cli --example honest_load`

use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use vela_cli::demo::app::{self, AppArgs};
use vela_cli::demo::load::{Load, LoadOptions};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Started again by itself, with a port, this is the app.
    if std::env::var_os("PORT").is_some() {
        return Ok(app::run(AppArgs::default()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(replace_without_care())?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "an example prints")]
async fn replace_without_care() -> Result<(), Box<dyn Error>> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut old = start(address, "one").await?;
    let options = LoadOptions {
        rate: 500,
        slow_for: Duration::from_millis(200),
        ..LoadOptions::default()
    };
    let load = Load::start(address, "my-app.example", options)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    old.kill()?;
    old.wait()?;
    let mut new = start(address, "two").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let report = load.stop().await?;
    new.kill()?;
    new.wait()?;
    println!("{} of {} requests failed", report.failed, report.requests);
    for failure in report.failures.iter().take(3) {
        println!("  {failure}");
    }
    Ok(())
}

async fn start(address: SocketAddr, release: &str) -> Result<Child, Box<dyn Error>> {
    let mut app = Command::new(std::env::current_exe()?)
        .env("PORT", address.port().to_string())
        .env("VELA_RELEASE", release)
        .spawn()?;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = app.try_wait()? {
            return Err(format!("the app ended: {status}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(app)
}
