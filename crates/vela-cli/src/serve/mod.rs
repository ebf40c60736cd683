//! `vela serve`: puts the daemon together from its parts, and takes it apart again.

mod holder;
mod https;
mod listeners;
mod metrics;
mod notify;
mod proxy_config;
mod settings;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{info, warn};
use vela_deploy::{Engine, OpenError};
use vela_proxy::{Listener, Proxy};

use crate::args::Serve;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::log;
use https::Https;
use listeners::{Listeners, PortKey};
use metrics::MetricsPort;
use settings::Settings;

/// How long answers of the control API may take to end after the engine has stopped, and then the
/// access log.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub(crate) fn run(context: &Context, args: Serve) -> Result<(), Failure> {
    log::of_daemon(context);
    let settings = Settings::load(args.config.as_deref())?;
    raise_file_limit(settings.proxy.limits.descriptors());
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
    let access_log = settings.proxy.access_log.clone();
    let proxy = Proxy::new(settings.proxy.clone());
    settings.make_data_dir().map_err(cannot_open)?;
    let https = settings
        .tls
        .as_ref()
        .map(|tls| Https::open(tls, &settings.data_dir))
        .transpose()?;
    let engine = open(&settings, proxy.clone(), https.as_ref()).await?;
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
    let bound = listeners.into_bound();
    let addresses: Vec<_> = bound.iter().map(|one| (one.address, one.key)).collect();
    let secure_port = addresses
        .iter()
        .find(|(_, key)| *key == PortKey::Https)
        .map(|(address, _)| address.port());
    let serving = proxy
        .serve(bound.into_iter().map(|bound| match &https {
            Some(https) => https.listener(bound, secure_port),
            None => Listener::http(bound.socket),
        }))
        .map_err(|error| Failure::because("cannot serve HTTP", &error))?;
    if let Some(metrics) = metrics {
        let (engine, proxy) = (engine.clone(), proxy.clone());
        let all = move || engine.router_metrics().unwrap_or_else(|| proxy.metrics());
        tokio::spawn(metrics.serve(all));
    }
    if let Some(https) = &https {
        https.watch();
    }
    let (stop_control, stopped) = oneshot::channel::<()>();
    let control = tokio::spawn(vela_control::serve(engine.clone(), control, async {
        // Either way it is time to stop.
        drop(stopped.await);
    }));
    notify::ready();
    for (address, key) in addresses {
        match key {
            PortKey::Http => info!(%address, "serving HTTP"),
            PortKey::Https => info!(%address, "serving HTTPS"),
        }
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
        let finish = serving.shutdown(settings.stop);
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

/// Two descriptors a request go quickly: uses what the machine allows instead of what shells are given,
/// and asks for more where that is not enough.
fn raise_file_limit(needed: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raise = |most: Option<u64>| {
        let raised = Rlimit {
            current: most,
            maximum: most,
        };
        setrlimit(Resource::Nofile, raised)
    };
    // Who may not have more, has what there is.
    let is_enough = maximum.is_none_or(|maximum| maximum >= needed);
    if !is_enough && raise(Some(needed)).is_ok() {
        return;
    }
    if let Err(error) = raise(maximum) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

async fn open(settings: &Settings, proxy: Proxy, https: Option<&Https>) -> Result<Engine, Failure> {
    let opened = match settings.stack(proxy, https).await {
        Ok(stack) => Engine::open(stack).await,
        Err(error) => Err(error),
    };
    opened.map_err(cannot_open)
}

fn cannot_open(error: OpenError) -> Failure {
    let hint = error.hint();
    let failure = Failure::of(&error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}
