use std::net::SocketAddr;

use vela_proxy::Router;
use vela_tests::Output;

use crate::front::Front;
use crate::{LONG, app, run};

async fn app() -> SocketAddr {
    app::start().await.0
}

/// All requests succeeded.
fn assert_all(output: &Output, requests: &str) {
    let said = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    let text = &output.stdout;
    assert!(text.contains(&said), "{text}");
    assert!(
        text.contains(&format!("status codes: {requests} 2xx, 0 3xx")),
        "{text}"
    );
    assert!(text.contains("Application protocol: h2"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_gets_an_answer_to_each_request() {
    let front = Front::start(app().await).await;
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), vec![b'y'; 20_000]).unwrap();
    let body = body.path().to_str().unwrap();
    for (requests, options, path) in [
        ("20000", &["-c", "16", "-m", "32"][..], "/"),
        ("2000", &["-c", "100", "-m", "1"], "/other"),
        ("2000", &["-c", "4", "-m", "100", "-d", body], "/echo"),
        ("60", &["-c", "2", "-m", "10"], "/large"),
        // As little as may be at one time.
        ("200", &["-c", "2", "-m", "10", "-w", "10", "-W", "12"], "/"),
    ] {
        let url = front.url(path);
        let args = [&["-t", "2", "-n", requests], options, &[&url]].concat();
        let output = run("h2load", &args).await.expect(0);
        assert_all(&output, requests);
    }
    let stats = front.proxy.stats();
    assert_eq!((stats.upstream_errors, stats.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_does_not_notice_deploys() {
    let front = Front::start(app().await).await;
    let url = front.url("/other");
    let args = ["-t", "1", "-c", "8", "-m", "16", "-n", "30000", &url];
    let load = run("h2load", &args);
    let mut deploys = 0;
    let deploying = async {
        loop {
            let replaced = front.route("/", app().await).await.unwrap();
            let drained = front.proxy.drain(replaced, LONG.into()).await;
            assert!(drained.is_complete());
            deploys += 1;
            // The load's end ends this.
            tokio::task::yield_now().await;
        }
    };
    let output = tokio::select! {
        output = load => output.expect(0),
        () = deploying => unreachable!(),
    };
    assert_all(&output, "30000");
    assert!(deploys > 10, "{deploys}");
    assert_eq!(front.proxy.stats().upstream_errors, 0);
}
