//! The generator against the demo's own app, and against servers that break every rule: each must be noticed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::demo::app::{AppArgs, RunningApp};

fn few() -> LoadOptions {
    LoadOptions {
        workers: 4,
        rate: 400,
        slow: 1,
        slow_for: Duration::from_millis(200),
        websockets: 1,
        timeout: Duration::from_secs(5),
        ..LoadOptions::default()
    }
}

fn only_short() -> LoadOptions {
    LoadOptions {
        slow: 0,
        websockets: 0,
        ..few()
    }
}

async fn until(what: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(tokio::time::Instant::now() < limit, "it never happened");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn kinds(report: &LoadReport) -> Vec<FailureKind> {
    let mut kinds: Vec<_> = report.failures.iter().map(|failure| failure.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_server_that_behaves_gets_a_clean_report() {
    let app = RunningApp::start("one", AppArgs::default()).await;
    let mut load = Load::start(app.addr, "a.example", few()).unwrap();
    load.mark(Mark::Serves(vec!["one".into()]));
    until(|| load.requests() > 250).await;
    let report = load.stop().await.unwrap();
    assert!(report.is_clean(), "{:#?}", report.failures);
    assert_eq!(report.answers["one"], report.requests);
    assert!(report.new_connections * 4 >= report.requests);
    assert!(
        report.new_connections * 2 < report.requests,
        "some are kept"
    );
    assert!(
        report.slow > 0 && report.websockets.messages > 3,
        "{report:?}"
    );
    assert!(report.completions.len() >= 4);
    app.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_is_noticed_in_every_way() {
    let app = RunningApp::start("one", AppArgs::default()).await;
    let load = Load::start(app.addr, "a.example", few()).unwrap();
    until(|| load.requests() > 50).await;
    app.stop().await;
    let stopped_at = load.requests();
    until(|| load.requests() > stopped_at + 200).await;
    let report = load.stop().await.unwrap();
    assert!(report.failed > 200, "{report:?}");
    assert!(report.websockets.failed > 0, "{report:?}");
    assert!(report.longest_silence_ms > 100, "{report:?}");
    assert!(kinds(&report).contains(&FailureKind::Connect), "{report:?}");
    assert_eq!(report.failures.len(), 20);
}

#[tokio::test]
async fn a_websocket_may_end_once_its_release_is_told_to_stop() {
    let app = RunningApp::start("one", AppArgs::default()).await;
    let options = LoadOptions {
        workers: 0,
        slow: 0,
        ..few()
    };
    for told in [true, false] {
        let app = RunningApp::start("one", AppArgs::default()).await;
        let mut load = Load::start(app.addr, "a.example", options.clone()).unwrap();
        until(|| recording::lock(&load.recording).messages > 1).await;
        if told {
            load.mark(Mark::Stops("one".into()));
        }
        app.stop().await;
        until(|| !recording::lock(&load.recording).sockets.is_empty()).await;
        let report = load.stop().await.unwrap();
        assert_eq!(report.websockets.ended, u64::from(told), "{report:?}");
        let early = |failure: &Failure| failure.detail.contains("had not been told to stop");
        assert_eq!(report.failures.iter().any(early), !told, "{report:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_answer_of_another_release_is_a_failure() {
    let app = RunningApp::start("one", AppArgs::default()).await;
    let mut load = Load::start(app.addr, "a.example", only_short()).unwrap();
    load.mark(Mark::Serves(vec!["one".into()]));
    until(|| load.requests() > 20).await;
    load.mark(Mark::Serves(vec!["two".into()]));
    let marked_at = load.requests();
    until(|| load.requests() > marked_at + 20).await;
    let report = load.stop().await.unwrap();
    assert_eq!(kinds(&report), [FailureKind::Release]);
    assert!(report.failed >= 20 && report.failed < report.requests);
    app.stop().await;
}

/// A server that answers each request with `answer`, and then closes the connection if `close`.
fn rude(answer: &'static str, close: bool) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let serve = move |mut stream: TcpStream| {
        let mut request = [0; 1024];
        while stream.read(&mut request).is_ok_and(|read| read > 0) {
            count.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(answer.as_bytes()).is_err() || close {
                return;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    (addr, asked)
}

async fn put_on(addr: SocketAddr, fresh_every: usize) -> LoadReport {
    let options = LoadOptions {
        length: Some(2),
        fresh_every,
        timeout: Duration::from_millis(300),
        ..only_short()
    };
    let load = Load::start(addr, "a.example", options).unwrap();
    until(|| load.requests() >= 20).await;
    load.stop().await.unwrap()
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_named_and_never_asked_again() {
    let cases = [
        (
            "HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\nok",
            FailureKind::Status,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok!",
            FailureKind::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no",
            FailureKind::Lost,
        ),
        (
            "HTTP/1.1 200 OK\r\nx-release: b\r\ncontent-length: 2\r\n\r\nok",
            FailureKind::Body,
        ),
        ("", FailureKind::Lost),
    ];
    for (answer, kind) in cases {
        let (addr, asked) = rude(answer, true);
        let report = put_on(addr, 1).await;
        assert_eq!(
            kinds(&report),
            [kind, FailureKind::Silence][..1],
            "{answer:?}: {report:?}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), report.requests, "{answer:?}");
        assert_eq!(report.failed, report.requests, "{answer:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_may_end_only_when_that_was_announced() {
    let (addr, _) = rude("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true);
    let report = put_on(addr, 0).await;
    assert!(
        report.failed > 0 && kinds(&report) == [FailureKind::Lost],
        "{report:?}"
    );
    let announced = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let (addr, _) = rude(announced, true);
    let report = put_on(addr, 0).await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn silence_is_a_failure_outside_a_gap() {
    let (addr, _) = rude("", false);
    let options = LoadOptions {
        timeout: Duration::from_millis(700),
        ..only_short()
    };
    for gap in [false, true] {
        let mut load = Load::start(addr, "a.example", options.clone()).unwrap();
        if gap {
            load.mark(Mark::GapBegins);
        }
        until(|| load.requests() > 0).await;
        let report = load.stop().await.unwrap();
        let silence = kinds(&report).contains(&FailureKind::Silence);
        assert_eq!(silence, !gap, "{report:?}");
        assert!(kinds(&report).contains(&FailureKind::Timeout), "{report:?}");
    }
}
