use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::request_head::Manner as Setup;
use super::strict;
use crate::Upstream;
use crate::client::Client;
use crate::crew::Crew;
use crate::in_flight::{InFlight, Pinned};
use crate::pool::Pool;
use crate::room::Room;
use crate::route_table::RouteTable;
use crate::stop::Stop;
use crate::turnstile::Turnstile;
use crate::worker::Worker;

thread_local! {
    /// Where connections to upstreams come out, while a target runs.
    static DIALLED: RefCell<Option<mpsc::UnboundedSender<DuplexStream>>> = const { RefCell::new(None) };
}

/// How much a connection holds of what was sent and not read.
const CAPACITY: usize = 4096;
/// What separates the upstream's answers.
const SEPARATOR: u8 = 0xfe;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Longer than anything takes, by a clock that nobody waits for.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an upstream goes on without a word.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// A connection to an upstream that is a target's, if one runs on this thread.
pub(crate) fn dialled() -> Option<DuplexStream> {
    DIALLED.with_borrow(|dialled| {
        let (ours, theirs) = duplex(CAPACITY);
        let is_taken = dialled.as_ref()?.send(theirs).is_ok();
        is_taken.then_some(ours)
    })
}

/// How the two ends behave, by the lower bits of the first byte. The higher ones are for how the
/// proxy is set up.
#[derive(Clone, Copy, Debug)]
struct Manner {
    setup: Setup,
    /// The upstream answers each request well, and keeps its connections.
    is_sound: bool,
    /// The upstream answers before it has the whole request.
    is_hasty: bool,
    /// The client ends what it sends, instead of waiting.
    is_brief: bool,
    /// The client sends byte by byte.
    is_slow: bool,
}

/// The bytes are all that a client sends over a connection and all that the upstreams do, behind
/// three that say how they do it and where the one ends.
pub(super) fn connection(bytes: &[u8]) {
    let Some((&[flags, low, high], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let manner = Manner {
        setup: Setup::of(flags >> 4),
        is_sound: flags & 1 != 0,
        is_hasty: flags & 2 != 0,
        is_brief: flags & 4 != 0,
        is_slow: flags & 8 != 0,
    };
    let end = usize::from(u16::from_le_bytes([low, high])).min(bytes.len());
    let (asked, answers) = bytes.split_at(end);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without descriptors");
    runtime.block_on(run(manner, asked, answers));
    DIALLED.set(None);
}

async fn run(manner: Manner, asked: &[u8], answers: &[u8]) {
    let worker = worker(manner.setup);
    let (dialled, upstreams) = mpsc::unbounded_channel();
    DIALLED.set(Some(dialled));
    let (mut client, inside) = duplex(CAPACITY);
    let live = Pinned::new(&worker.live);
    let peer: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
    let ticket = worker
        .turnstile
        .enter(peer.ip())
        .expect("there is no limit");
    let serving =
        tokio::spawn(Client::new(&worker, &Arc::default(), peer, live, inside).serve(ticket));
    let answers = answers.split(|&byte| byte == SEPARATOR);
    let upstream = tokio::spawn(serve(
        upstreams,
        Upstreams {
            manner,
            answers: Mutex::new(answers.map(<[u8]>::to_vec).collect()),
            seen: Mutex::default(),
        },
    ));

    let mut got = Vec::new();
    let (mut from, mut to) = tokio::io::split(&mut client);
    let sending = async {
        let step = if manner.is_slow {
            1
        } else {
            asked.len().max(1)
        };
        for piece in asked.chunks(step) {
            // It may have closed.
            if to.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if manner.is_brief {
            to.shutdown().await.ok();
        }
    };
    let both = async { tokio::join!(from.read_to_end(&mut got), sending) };
    let (read, ()) = timeout(LONG, both).await.expect("a connection ends");
    read.expect("a pipe does not fail");
    let ended = timeout(LONG, serving).await;
    if let Err(error) = ended.expect("the client's task ends")
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
    DIALLED.set(None);
    worker.pool.clear();
    let seen = timeout(LONG, upstream).await;
    let seen = match seen.expect("the upstreams end") {
        Ok(seen) => seen,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };

    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &worker.counters;
    assert_eq!(
        (count(&counters.in_flight), count(&counters.connections)),
        (0, 0)
    );
    let requests = count(&counters.requests);
    assert!(seen.requests <= requests + count(&counters.retries));
    // A byte may become a chunk of its own. A page has less than a KiB.
    let most = 8 * seen.answered + 1024 * (requests as usize + 1);
    assert!(
        got.len() <= most || seen.is_tunnel,
        "{} of {most}",
        got.len()
    );
    if manner.is_sound {
        expect_asked(asked, &seen.lines);
    }
    if manner.is_sound && !manner.is_brief {
        let good = got.windows(ANSWER.len()).filter(|some| *some == ANSWER);
        let closing = b"HTTP/1.1 204 No Content\r\nconnection: ";
        let last = got.windows(closing.len()).filter(|some| some == closing);
        assert_eq!((good.count() + last.count()) as u64, seen.requests);
    }
}

/// The upstreams saw nothing but what the client has asked, in its order, where that has one meaning
/// only.
fn expect_asked(mut asked: &[u8], seen: &[(Vec<u8>, Vec<u8>)]) {
    let mut seen = seen.iter().peekable();
    loop {
        while let Some(rest) = asked.strip_prefix(b"\r\n") {
            asked = rest;
        }
        let request = match strict::asked(asked) {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(_) => return,
        };
        // In absolute form, and without a path, it ends otherwise.
        seen.next_if(|(method, target)| {
            let begin: &[u8] = if target == b"*" { b"*" } else { b"/" };
            let path = target.strip_prefix(begin).unwrap_or(target);
            method == request.method && request.target.ends_with(path)
        });
        asked = &asked[request.length..];
    }
    assert_eq!(seen.next(), None, "nobody has asked for it");
}

fn worker(setup: Setup) -> Arc<Worker> {
    let routes = RouteTable::default();
    // Nobody connects there.
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let mut spec = setup.route();
    spec.upstreams = vec![Upstream::new(nowhere)];
    assert!(routes.apply(spec).is_ok_and(|replaced| replaced.is_none()));
    let config = setup.config();
    Arc::new(Worker {
        routes: Arc::new(routes),
        pool: Arc::new(Pool::new(1, config.timeouts.upstream_idle)),
        config: Arc::new(config),
        counters: Arc::default(),
        live: Arc::new(InFlight::new()),
        crew: Arc::new(Crew::of(0).0),
        turnstile: Arc::new(Turnstile::new(usize::MAX, &[])),
        room: Arc::new(Room::new(1)),
        stop: Arc::new(Stop::default()),
    })
}

/// What the upstreams saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Whole ones.
    requests: u64,
    /// Their methods and targets.
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many bytes they sent.
    answered: usize,
    /// One of them agreed to another protocol.
    is_tunnel: bool,
}

/// The upstreams, and what they have left to answer.
#[derive(Debug)]
struct Upstreams {
    manner: Manner,
    answers: Mutex<VecDeque<Vec<u8>>>,
    seen: Mutex<Seen>,
}

/// Serves all connections, to the end of each.
async fn serve(
    mut connections: mpsc::UnboundedReceiver<DuplexStream>,
    upstreams: Upstreams,
) -> Seen {
    let upstreams = Arc::new(upstreams);
    let mut all = JoinSet::new();
    while let Some(connection) = connections.recv().await {
        let upstreams = Arc::clone(&upstreams);
        // The proxy may close it at any time.
        all.spawn(async move { upstreams.serve(connection).await.ok() });
    }
    while let Some(ended) = all.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    upstreams.seen.lock().expect("no panic").clone()
}

impl Upstreams {
    async fn serve(&self, mut connection: DuplexStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let (mut is_answered, mut is_tunnel) = (false, false);
        let (mut closes, mut is_last) = (false, false);
        // Without an end, some responses have none.
        while let Ok(read) = timeout(SILENCE, connection.read_buf(&mut bytes)).await {
            if read? == 0 {
                break;
            }
            while !bytes.is_empty() && !is_tunnel {
                let whole = strict::message(&bytes)
                    .unwrap_or_else(|what| panic!("{what}: {}", bytes.escape_ascii()));
                let is_hasty = self.manner.is_hasty && !self.manner.is_sound;
                assert!(!is_last, "a request on a connection that was to be closed");
                if let Some((head, _)) = &whole {
                    let mut seen = self.seen.lock().expect("no panic");
                    seen.requests += 1;
                    let line = (head.method.to_vec(), head.target.to_vec());
                    seen.lines.push(line);
                } else if !is_hasty || is_answered {
                    break;
                }
                if !is_answered {
                    let Some(answer) = self.next_answer() else {
                        return Ok(());
                    };
                    connection.write_all(&answer).await?;
                    is_tunnel = answer.windows(5).any(|some| some == b" 101 ");
                    closes = strict::closes(&answer);
                }
                let length = whole.map_or(0, |(_, length)| length);
                is_answered = length == 0;
                bytes.drain(..length);
                if is_answered {
                    break;
                }
                is_last = closes;
            }
            if is_tunnel {
                bytes.clear();
            }
        }
        Ok(())
    }

    fn next_answer(&self) -> Option<Vec<u8>> {
        let answer = match self.manner.is_sound {
            true => ANSWER.to_vec(),
            false => self.answers.lock().expect("no panic").pop_front()?,
        };
        let mut seen = self.seen.lock().expect("no panic");
        seen.is_tunnel |= answer.windows(5).any(|some| some == b" 101 ");
        seen.answered += answer.len();
        Some(answer)
    }
}
