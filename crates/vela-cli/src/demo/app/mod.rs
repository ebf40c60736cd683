//! The program that the demo and the tests deploy: a small HTTP server that stops as a server should, and
//! misbehaves in any way that a deployer must survive when its arguments say so.

mod listener;
mod routes;
#[cfg(test)]
mod running;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use self::listener::{Listener, Stream};
use self::routes::Routes;

pub use self::routes::BODY_LENGTH;
#[cfg(test)]
pub(in crate::demo) use self::running::RunningApp;

/// How the app behaves: well, unless told otherwise.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AppArgs {
    /// Exit with this code before anything else.
    #[arg(long, value_name = "CODE")]
    pub exit_at_once: Option<u8>,
    /// Listen on this address instead of 127.0.0.1.
    #[arg(long, value_name = "IP")]
    pub listen: Option<IpAddr>,
    /// Listen on the Unix socket in VELA_SOCKET instead of PORT.
    #[arg(long, conflicts_with = "listen")]
    pub unix: bool,
    /// Never listen on PORT.
    #[arg(long)]
    pub never_listen: bool,
    /// Answer the health check with this status.
    #[arg(long, value_name = "STATUS", conflicts_with = "health_hang")]
    pub health_status: Option<u16>,
    /// Never answer the health check.
    #[arg(long)]
    pub health_hang: bool,
    /// Wait before listening.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub start_delay: u64,
    /// Do nothing on SIGTERM.
    #[arg(long)]
    pub ignore_term: bool,
    /// Exit with code 1 after this time.
    #[arg(long, value_name = "MS")]
    pub crash_after: Option<u64>,
    /// Start a child in a process group of its own, which outlives its parent unless the whole tree is stopped.
    #[arg(long)]
    pub spawn_child: bool,
    /// Write this many numbered lines to the log before listening.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub log_lines: u64,
}

/// Why the app could not serve.
#[derive(Debug, thiserror::Error)]
pub(in crate::demo) enum AppError {
    /// `PORT` is not set, or no port.
    #[error("the environment variable PORT must hold the port to listen on, not {value:?}")]
    Port {
        /// What it held.
        value: Option<String>,
    },
    /// The port could not be listened on.
    #[error("could not listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket in `VELA_SOCKET` could not be listened on.
    #[error("could not listen on the Unix socket {path:?}")]
    ListenUnix {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child of `--spawn-child` did not start, the log could not be written, or signals not be awaited.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Serves on `PORT` until SIGTERM; then finishes what is in flight, closes WebSockets with 1001, and returns. An
/// error is written to standard error, which is the app's log.
pub fn run(args: AppArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|source| AppError::System {
            what: "start",
            source,
        })
        .and_then(|runtime| runtime.block_on(live(args)));
    ended.unwrap_or_else(|error| {
        let cause = error.source().map(|cause| format!(": {cause}"));
        let line = format!("error: {error}{}", cause.unwrap_or_default());
        // There is nowhere left to complain to.
        drop(writeln!(io::stderr(), "{line}"));
        ExitCode::FAILURE
    })
}

async fn live(args: AppArgs) -> Result<ExitCode, AppError> {
    if let Some(code) = args.exit_at_once {
        log(&format!("exiting at once with code {code}"))?;
        return Ok(ExitCode::from(code));
    }
    // Before anything slow: a signal that arrives during the start delay must not kill the process unhandled.
    let term = signal(SignalKind::terminate()).map_err(|source| AppError::System {
        what: "wait for SIGTERM",
        source,
    })?;
    for line in 1..=args.log_lines {
        log(&format!("line {line} of {}", args.log_lines))?;
    }
    if args.spawn_child {
        spawn_child()?;
    }
    let crash = async {
        match args.crash_after {
            Some(ms) => sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    };
    let environment = std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into(),
                value.to_string_lossy().into(),
            )
        })
        .collect();
    let served = serve(&args, environment, stop_request(term, args.ignore_term));
    tokio::select! {
        served = served => served.map(|()| ExitCode::SUCCESS),
        () = crash => {
            log("crashing")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Serves until `stop`, then finishes what is in flight.
pub(in crate::demo) async fn serve(
    args: &AppArgs,
    environment: BTreeMap<String, String>,
    stop: impl Future<Output = ()>,
) -> Result<(), AppError> {
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        () = sleep(Duration::from_millis(args.start_delay)) => {}
    }
    if args.never_listen {
        stop.await;
        return Ok(());
    }
    let listener = Listener::bind(args, |name| environment.get(name).cloned()).await?;
    let (stopping, watch_stopping) = watch::channel(false);
    // Every connection and WebSocket holds a sender; the receiver ends when the last is gone.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let routes = Routes::new(args, environment, watch_stopping.clone(), alive.clone());
    log(&format!("{} is listening", routes.release()))?;
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let (routes, stopping) = (routes.clone(), watch_stopping.clone());
                    tokio::spawn(connection(stream, routes, stopping, alive.clone()));
                }
                // Out of file descriptors, most likely: accepting again at once would spin.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
        }
    }
    log("stopping")?;
    drop(listener);
    stopping.send_replace(true);
    drop((alive, routes));
    all_gone.recv().await;
    Ok(())
}

async fn connection(
    stream: Box<dyn Stream>,
    routes: Routes,
    mut stopping: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
) {
    let service = service_fn(move |request| {
        let routes = routes.clone();
        async move { Ok::<_, std::convert::Infallible>(routes.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A peer that breaks its connection is no concern of the app's: its result is not looked at.
    tokio::select! {
        _ = &mut connection => return,
        () = stopped(&mut stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}

async fn stop_request(mut term: Signal, ignored: bool) {
    loop {
        term.recv().await;
        if !ignored {
            return;
        }
    }
}

/// Returns when the app was told to stop, or is gone. Cancel safe.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// `sleep`, out of reach of a signal to the app's process group.
fn spawn_child() -> Result<(), AppError> {
    use std::os::unix::process::CommandExt as _;
    let child = std::process::Command::new("sleep")
        .arg("3600")
        .process_group(0)
        .spawn()
        .map_err(|source| AppError::System {
            what: "start a child",
            source,
        })?;
    log(&format!("child {}", child.id()))
}

fn log(line: &str) -> Result<(), AppError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| AppError::System {
            what: "write to standard output",
            source,
        })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Asks once, on a connection of its own, and reads to its end.
    async fn ask(app: &RunningApp, path: &str) -> String {
        let mut stream = TcpStream::connect(app.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_in_flight_is_finished_before_the_end() {
        let app = RunningApp::start("one", AppArgs::default()).await;
        let mut streams = Vec::new();
        for path in ["/slow?ms=300", "/sse?ms=60000"] {
            let mut stream = TcpStream::connect(app.addr).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            streams.push(stream);
        }
        // The first event has been sent, so both requests are known to be in flight.
        let mut events = [0; 512];
        let read = streams[1].read(&mut events).await.unwrap();
        assert!(read > 0);
        tokio::join!(app.stop(), async {
            let mut slow = String::new();
            streams[0].read_to_string(&mut slow).await.unwrap();
            assert!(slow.starts_with("HTTP/1.1 200 OK"), "{slow}");
            let mut rest = Vec::new();
            streams[1].read_to_end(&mut rest).await.unwrap();
            let text = String::from_utf8(rest).unwrap();
            assert!(
                text.ends_with("0\r\n\r\n"),
                "a stream that ends well: {text}"
            );
        });
    }

    #[tokio::test]
    async fn every_answer_names_its_release_and_has_its_length() {
        let app = RunningApp::start("20260305-143022", AppArgs::default()).await;
        for path in ["/", "/slow?ms=1"] {
            let answer = ask(&app, path).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("x-release: 20260305-143022"), "{head}");
            assert_eq!(body.len(), BODY_LENGTH);
            assert!(body.starts_with("20260305-143022\n"));
        }
        assert!(ask(&app, "/health").await.starts_with("HTTP/1.1 200 OK"));
        assert!(ask(&app, "/nothing").await.starts_with("HTTP/1.1 404"));
        assert!(ask(&app, "/ws").await.starts_with("HTTP/1.1 426"));
        let environment = ask(&app, "/env").await;
        assert!(environment.contains(r#""VELA_RELEASE":"20260305-143022""#));
        app.stop().await;
    }

    #[tokio::test]
    async fn a_health_status_is_given_as_told() {
        let args = AppArgs {
            health_status: Some(503),
            ..AppArgs::default()
        };
        let app = RunningApp::start("one", args).await;
        assert!(ask(&app, "/health").await.starts_with("HTTP/1.1 503"));
        assert!(ask(&app, "/").await.starts_with("HTTP/1.1 200"));
        app.stop().await;
    }

    #[tokio::test]
    async fn a_port_that_is_none_is_an_error() {
        for environment in [
            BTreeMap::new(),
            BTreeMap::from([("PORT".to_owned(), "65536".to_owned())]),
        ] {
            let served = serve(&AppArgs::default(), environment, std::future::pending()).await;
            assert!(matches!(served, Err(AppError::Port { .. })));
        }
    }
}
