//! The client against a daemon's socket on this machine.
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use uuid::Uuid;
use vela_control::{Client, ClientError, TransportError, UnixTransport};
use vela_protocol::{DeployRequest, ErrorCode, Event};

use crate::support::StubDaemon;

fn client(daemon: &StubDaemon) -> Client {
    Client::new(Arc::new(UnixTransport::new(daemon.socket())))
}

pub(crate) fn request() -> DeployRequest {
    DeployRequest {
        deploy: Uuid::new_v4(),
        upload: Uuid::new_v4(),
        build: false,
        size: 1,
        sha256: String::new(),
        manifest: String::new(),
        git: None,
        message: None,
        client: None,
    }
}

#[tokio::test]
async fn a_deploy_gives_each_event_once_and_ends_with_the_terminal_one() {
    let daemon = StubDaemon::start();
    let events = client(&daemon).deploy("app", &request()).await.unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    assert_eq!(
        events.iter().map(|e| e.seq).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert!(matches!(events[5].event, Event::Succeeded { .. }));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_attached_to_again() {
    let daemon = StubDaemon::start();
    *daemon.state.cut_stream_after.lock().unwrap() = Some(3);
    let request = request();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reports);
    let events = client(&daemon).deploy("app", &request).await.unwrap();
    let events = events.on_reconnect(move |report| heard.lock().unwrap().push(report.attempt));
    let seqs: Vec<_> = events.map(|e| e.unwrap().seq).collect().await;
    assert_eq!(seqs, [0, 1, 2, 3, 4, 5]);
    assert_eq!(*reports.lock().unwrap(), [1]);
    let attached = format!("GET /v1/deploys/{}/events?from=3", request.deploy);
    assert_eq!(daemon.requests().last(), Some(&attached));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_stays_away_is_given_up_after_a_while() {
    let daemon = StubDaemon::start();
    *daemon.state.cut_stream_after.lock().unwrap() = Some(1);
    let mut events = client(&daemon).deploy("app", &request()).await.unwrap();
    events.next().await.unwrap().unwrap();
    drop(daemon);
    let error = events.next().await.unwrap().unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn what_the_daemon_refuses_comes_back_whole() {
    let daemon = StubDaemon::start();
    let error = client(&daemon)
        .deploy("busy", &request())
        .await
        .unwrap_err();
    let ClientError::Api(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.code, ErrorCode::Busy);
    assert_eq!(error.report.hint.as_deref(), Some("wait"));
    assert_eq!(error.state.as_deref(), Some("`busy` still serves 1"));
}

#[tokio::test]
async fn names_cannot_leave_their_place_in_the_path() {
    let daemon = StubDaemon::start();
    client(&daemon).status("../version?x#y").await.unwrap_err();
    assert_eq!(daemon.requests(), ["GET /v1/apps/..%2Fversion%3Fx%23y"]);
}

#[tokio::test]
async fn an_answer_that_is_not_ours_is_named_as_such() {
    let daemon = StubDaemon::start();
    let error = client(&daemon).status("strange").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("500 Internal Server Error, <html>nginx"),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_reports_its_progress_and_arrives_whole() {
    let daemon = StubDaemon::start();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut seen = Vec::new();
    let id = Uuid::new_v4();
    let size = bytes.len() as u64;
    client(&daemon)
        .upload(id, &bytes[..], size, |sent| seen.push(sent))
        .await
        .unwrap();
    assert!(
        seen.is_sorted() && seen.last() == Some(&size) && seen.len() > 5,
        "{seen:?}"
    );
    assert_eq!(daemon.upload(id), Some(bytes));
}

#[tokio::test]
async fn a_source_of_another_length_is_an_error_and_leaves_nothing() {
    let daemon = StubDaemon::start();
    let client = client(&daemon);
    for announced in [10, 4] {
        let id = Uuid::new_v4();
        let error = client
            .upload(id, &b"seven!!"[..], announced, |_| ())
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Source(_)), "{error:?}");
        assert_eq!(daemon.upload(id), None);
    }
}

#[tokio::test]
async fn no_daemon_and_a_socket_left_behind_are_both_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vela.sock");
    let client = Client::new(Arc::new(UnixTransport::new(&socket)));
    let absent = client.version().await.unwrap_err();
    drop(tokio::net::UnixListener::bind(&socket).unwrap());
    let stale = client.version().await.unwrap_err();
    for error in [absent, stale] {
        let ClientError::Unreachable(TransportError::NoDaemon { .. }) = &error else {
            panic!("{error:?}")
        };
        assert!(error.hint().unwrap().contains("vela"));
    }
}
