use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use vela_proxy::{ProxyConfig, Timeouts};
use vela_tests::Front;

use crate::oracles::Oracles;
use crate::recorder::Recorder;
use crate::seen::{Entry, Next, next};

/// The three proxies, each in front of a backend of its own: one case at a time.
pub(crate) struct Lane {
    number: usize,
    front: Front,
    vela: Recorder,
    nginx: Recorder,
    haproxy: Recorder,
}

/// The backends of a lane, before there is a proxy.
pub(crate) struct Backends {
    vela: Recorder,
    pub(crate) nginx: Recorder,
    pub(crate) haproxy: Recorder,
}

/// What came of a case with one proxy.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What its backend saw.
    pub(crate) seen: Vec<Entry>,
    /// What the client got.
    pub(crate) answer: Vec<u8>,
    /// How long it took, from before there was a connection.
    took: Duration,
}

/// What came of a case.
pub(crate) struct Outcomes {
    pub(crate) vela: Outcome,
    pub(crate) nginx: Outcome,
    pub(crate) haproxy: Outcome,
}

const TIMED_OUT: u16 = 408;

/// What a client sends is waited for for so long, as the oracles are configured.
const WAIT: Duration = Duration::from_secs(1);
/// Longer than anything takes, so that a hanging test fails instead.
const LONG: Duration = Duration::from_secs(40);

impl Backends {
    pub(crate) async fn start() -> Backends {
        Backends {
            vela: Recorder::start().await,
            nginx: Recorder::start().await,
            haproxy: Recorder::start().await,
        }
    }
}

impl Lane {
    pub(crate) async fn new(number: usize, backends: Backends) -> Lane {
        let config = ProxyConfig {
            timeouts: Timeouts {
                header_read: WAIT,
                keep_alive: WAIT,
                body_read: WAIT,
                ..Timeouts::default()
            },
            ..ProxyConfig::default()
        };
        // Every host that a case sends and that is one.
        let hosts = ["a.test", "b.test", "[::1]", "127.0.0.1"];
        Lane {
            number,
            front: Front::start(config, &hosts, backends.vela.addr).await,
            vela: backends.vela,
            nginx: backends.nginx,
            haproxy: backends.haproxy,
        }
    }

    pub(crate) async fn run(&self, oracles: &Oracles, case: &[u8]) -> Outcomes {
        // A proxy's patience begins with the connection, of which it may know before this does.
        let begun = Instant::now();
        let vela = async {
            let socket = TcpStream::connect(self.front.addr()).await.unwrap();
            outcome(socket, &self.vela, case, begun).await
        };
        let nginx = async {
            let socket = UnixStream::connect(oracles.nginx(self.number)).await;
            outcome(socket.unwrap(), &self.nginx, case, begun).await
        };
        let haproxy = async {
            let socket = UnixStream::connect(oracles.haproxy(self.number)).await;
            outcome(socket.unwrap(), &self.haproxy, case, begun).await
        };
        let (vela, nginx, haproxy) = tokio::join!(vela, nginx, haproxy);
        Outcomes {
            vela,
            nginx,
            haproxy,
        }
    }
}

/// Sends all, and reads until the proxy closes.
async fn outcome(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    backend: &Recorder,
    case: &[u8],
    begun: Instant,
) -> Outcome {
    let (mut from, mut to) = tokio::io::split(socket);
    let mut answer = Vec::new();
    let reading = async {
        // It may reset the connection.
        from.read_to_end(&mut answer).await.ok();
    };
    let sending = async {
        // It may have refused the request already.
        to.write_all(case).await.ok();
    };
    let both = async { tokio::join!(reading, sending) };
    if timeout(LONG, both).await.is_err() {
        panic!(
            "the connection does not end: {:?}",
            case.escape_ascii().to_string()
        );
    }
    let took = begun.elapsed();
    Outcome {
        seen: backend.take().await,
        answer,
        took,
    }
}

impl Outcome {
    /// What comes of requests that nobody waits for, with the last answer.
    pub(crate) fn at_once(seen: &[&[u8]], answer: &str) -> Outcome {
        let seen = seen.iter().map(|bytes| match next(bytes) {
            Next::Whole(seen, _) => Ok(seen),
            other => panic!("{other:?}"),
        });
        Outcome {
            seen: seen.collect(),
            answer: format!("HTTP/1.1 {answer}\r\n\r\n").into_bytes(),
            took: Duration::ZERO,
        }
    }

    /// The same, but it took as long as a proxy's patience.
    pub(crate) fn late(self) -> Outcome {
        Outcome { took: WAIT, ..self }
    }

    /// The statuses of all final answers.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        const VERSION: &[u8] = b"HTTP/1.";
        let windows = self.answer.windows(VERSION.len() + 5).enumerate();
        let heads = windows.filter(|(at, some)| {
            let begins_line = *at == 0 || self.answer[at - 1] == b'\n';
            begins_line && some.starts_with(VERSION)
        });
        let statuses =
            heads.filter_map(|(_, some)| std::str::from_utf8(&some[9..12]).ok()?.parse().ok());
        statuses.filter(|&status: &u16| status >= 200).collect()
    }

    /// It may have lost its patience: no limit of the three is shorter. A proxy's clock may be a little behind.
    pub(crate) fn may_have_timed_out(&self) -> bool {
        self.took > WAIT * 3 / 4
    }

    /// It told the client that it has lost its patience.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.statuses().last() == Some(&TIMED_OUT)
    }

    /// The proxy has said that it does not serve what came last.
    pub(crate) fn is_refused(&self) -> bool {
        self.statuses().last().is_some_and(|&status| status >= 400)
    }

    /// The proxy has said that it serves nothing more, and not since it still waits for the rest of what came.
    pub(crate) fn has_ended(&self) -> bool {
        const CLOSE: &[u8] = b"connection: close";
        let closes = |some: &[u8]| some.eq_ignore_ascii_case(CLOSE);
        !self.has_timed_out() && (self.is_refused() || self.answer.windows(CLOSE.len()).any(closes))
    }
}
