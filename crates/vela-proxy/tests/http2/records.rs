//! What is counted and logged of each stream.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use serde_json::Value;
use vela_proxy::{AccessLog, ProxyConfig, Rotation};

use crate::backend::Backend;
use crate::client::{get, request};
use crate::world::{World, until};

#[tokio::test]
async fn a_stream_is_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = Arc::new(AccessLog::open(&path, Rotation::default()).unwrap());
    let world = World::with(ProxyConfig {
        access_log: Some(Arc::clone(&log)),
        ..ProxyConfig::default()
    });
    let backend = Backend::start("ok").await;
    drop(world.route(backend.addr).await);
    let logged = async |count: usize| {
        let wanted = format!("\nvela_proxy_access_log_lines_total {count}\n");
        until("a line", || world.proxy.metrics().text.contains(&wanted)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.lines().nth(count - 1).unwrap();
        serde_json::from_str::<Value>(last).unwrap()
    };

    let mut client = world.client().await;
    assert_eq!(client.get("/x").await.body, "ok");
    let line = logged(1).await;
    let expected: [(&str, Value); 7] = [
        ("protocol", "HTTP/2.0".into()),
        ("scheme", "https".into()),
        ("path", "/x".into()),
        ("host", "a.test".into()),
        ("status", 200.into()),
        ("outcome", "complete".into()),
        ("bytes_out", 2.into()),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field}: {line}");
    }

    // One that is taken back, before its answer and in the middle of its body.
    let (_response, mut sending) = client.send(get("/slow"), true).await;
    backend.until_requests(2).await;
    sending.send_reset(Reason::CANCEL);
    let line = logged(2).await;
    assert_eq!(line["status"], 499, "{line}");
    assert_eq!(line["path"], "/slow", "{line}");
    let (_response, mut sending) = client.send(request("POST", "/echo"), false).await;
    sending
        .send_data(Bytes::from_static(b"abc"), false)
        .unwrap();
    backend.until_requests(3).await;
    sending.send_reset(Reason::CANCEL);
    let line = logged(3).await;
    assert_eq!(line["status"], 499, "{line}");
    assert_eq!(line["outcome"], "client_left", "{line}");

    // One connection for all.
    let text = world.proxy.metrics().text;
    for sample in [
        r#"requests_total{app="app",method="GET",class="2xx"} 1"#,
        r#"clients_left_total{app="app"} 2"#,
        r#"requests_in_flight{app="app"} 0"#,
        "connections_accepted_total 1",
    ] {
        assert!(
            text.contains(&format!("\nvela_proxy_{sample}\n")),
            "{sample}: {text}"
        );
    }
}
