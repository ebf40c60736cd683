use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{UnixListener, UnixStream};
use vela_deploy::Engine;
use vela_protocol::Who;

use api::Api;

mod answer;
mod api;
mod bind;
mod names;
pub(crate) mod request;

pub use bind::{BindError, bind};

/// How long answers that are being given may take once the daemon stops. A client that follows an operation attaches
/// to it again.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when there are no file descriptors for another connection.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Serves the API of `engine` to whoever connects to `listener`, until `shutdown`; then finishes the answers that are
/// being given, within five seconds.
///
/// Peers are told apart by the credentials that the kernel gives, which end up in the history. What a client asked for
/// is done to its end whether the client stays or not; only [`cancel`](Engine::cancel) ends it.
///
/// # Errors
/// When the listener itself is broken. No failure of a connection ends the loop.
pub async fn serve(
    engine: Engine,
    listener: UnixListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let connections = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => spawn(stream, engine.clone(), &connections),
            Err(error) if is_of_listener(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the control API");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GRACE, connections.shutdown())
        .await
        .is_err()
    {
        tracing::info!("some answers were cut off; their clients can ask again");
    }
    Ok(())
}

fn spawn(stream: UnixStream, engine: Engine, connections: &GracefulShutdown) {
    let peer = match stream.peer_cred() {
        Ok(credentials) => Who {
            uid: Some(credentials.uid()),
            user: names::user_name(credentials.uid()),
            client: None,
        },
        Err(error) => {
            tracing::warn!(%error, "refused a connection of nobody");
            return;
        }
    };
    let api = Api { engine, peer };
    let service = service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    // Whoever may connect may do anything: there is no point in timing them out, and a client may think for long
    // between two requests.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the control API broke");
        }
    });
}

fn is_of_listener(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let fatal = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK];
    fatal
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
