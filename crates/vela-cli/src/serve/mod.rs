//! `vela serve`: puts the daemon together from its parts, and takes it apart again.

mod holder;
mod listeners;
mod metrics;
mod notify;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{info, warn};
use vela_deploy::{Engine, OpenError};
use vela_proxy::{AccessLog, Proxy, ProxyConfig, Rotation};

use crate::args::Serve;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::log;
use listeners::Listeners;
use metrics::MetricsPort;
use settings::Settings;

/// How long requests in flight may take to end when the daemon stops.
const FINISH: Duration = Duration::from_secs(10);
/// How long answers of the control API may take to end after the engine has stopped, and then the
/// access log.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(crate) fn run(context: &Context, args: Serve) -> Result<(), Failure> {
    log::of_daemon(context);
    let settings = Settings::load(args.config.as_deref())?;
    raise_file_limit();
    for key in &settings.ignored {
        warn!("{key}");
    }
    // While there is one thread: taking them changes the environment.
    let listeners = Listeners::take_or_bind(&settings.addresses)?;
    // The proxy has threads of its own: these are for the engine and the control API.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("vela-control")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start", &error))?;
    let result = runtime.block_on(serve(settings, listeners, args.stop_apps));
    // What a second signal left undone ends with the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, listeners: Listeners, stop_apps: bool) -> Result<(), Failure> {
    let mut signals = Interrupts::listen()?;
    let metrics = MetricsPort::bind(settings.metrics)?;
    let access_log = access_log(settings.access_log.clone())?;
    let proxy = Proxy::new(ProxyConfig {
        access_log: access_log.clone(),
        ..ProxyConfig::default()
    });
    let engine = open(&settings, proxy.clone()).await?;
    let control = match vela_control::bind(&settings.socket, settings.group.as_deref()).await {
        Ok(control) => control,
        Err(error) => {
            engine.shutdown(false).await;
            let hint = error.hint();
            let failure = Failure::because("cannot open the control socket", &error);
            return Err(failure.with_hint(hint.unwrap_or_else(|| {
                "`socket` in server.toml names another place for it".to_owned()
            })));
        }
    };
    // Every route is in the table: what was queued so far is answered, or parked until its app is healthy.
    let (addresses, sockets) = listeners.into_parts();
    let serving = proxy
        .serve(sockets)
        .map_err(|error| Failure::because("cannot serve HTTP", &error))?;
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(proxy.clone()));
    }
    let (stop_control, stopped) = oneshot::channel::<()>();
    let control = tokio::spawn(vela_control::serve(engine.clone(), control, async {
        // Either way it is time to stop.
        drop(stopped.await);
    }));
    notify::ready();
    for address in addresses {
        info!(%address, "serving HTTP");
    }
    info!(
        data_dir = %settings.data_dir.display(),
        socket = %settings.socket.display(),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );

    signals.next().await;
    notify::stopping();
    info!(stop_apps, "stopping; a second signal stops at once");
    let stop = async {
        let finish = serving.shutdown(FINISH);
        let drained = match stop_apps {
            true => {
                let drained = finish.await;
                engine.shutdown(true).await;
                drained
            }
            false => tokio::join!(finish, engine.shutdown(false)).0,
        };
        if drained.left > 0 {
            warn!(left = drained.left, "requests had not ended");
        }
        // Fails when the control API has ended by itself, which its result tells below.
        stop_control.send(()).unwrap_or(());
        match tokio::time::timeout(LAST_WORDS, control).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the control API had failed"),
            Ok(Err(error)) => warn!(%error, "the control API ended unexpectedly"),
            Err(_) => info!("a client of the control API was cut off"),
        }
        if let Some(log) = access_log {
            let flushing = tokio::task::spawn_blocking(move || log.flush(LAST_WORDS));
            if !flushing.await.unwrap_or(false) {
                warn!("the last lines of the access log are lost");
            }
        }
    };
    tokio::select! {
        () = stop => info!("stopped"),
        () = signals.next() => warn!("stopped at once"),
    }
    Ok(())
}

/// The log of requests, if one is wanted.
fn access_log(wanted: Option<(PathBuf, Rotation)>) -> Result<Option<Arc<AccessLog>>, Failure> {
    let Some((path, rotation)) = wanted else {
        return Ok(None);
    };
    match AccessLog::open(path, rotation) {
        Ok(log) => Ok(Some(Arc::new(log))),
        Err(error) => {
            let hint = error.hint();
            let failure = Failure::of(&error);
            Err(match hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            })
        }
    }
}

/// Two descriptors a request go quickly: uses what the machine allows instead of what shells are given.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

async fn open(settings: &Settings, proxy: Proxy) -> Result<Engine, Failure> {
    let opened = match settings.stack(proxy).await {
        Ok(stack) => Engine::open(stack).await,
        Err(error) => Err(error),
    };
    opened.map_err(|error: OpenError| {
        let hint = error.hint();
        let failure = Failure::of(&error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}
