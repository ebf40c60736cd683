use crate::{app, front, run};

/// How many connections load comes over.
const CONNECTIONS: &str = "50";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrk_gets_an_answer_to_each_request() {
    let front = front(app::start().await).await;
    let url = format!("http://{}/", front.addr());
    let args = [
        "-t",
        "2",
        "-c",
        CONNECTIONS,
        "-d",
        "3s",
        "--timeout",
        "20s",
        &url,
    ];
    let output = run("wrk", &args).await.expect(0);
    // It has lines for both only when there are some.
    for failures in ["Non-2xx", "Socket errors"] {
        assert!(!output.stdout.contains(failures), "{}", output.stdout);
    }
    let requests = output
        .stdout
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "));
    let (count, _) = requests.unwrap_or_else(|| panic!("{}", output.stdout));
    assert!(count.parse::<u64>().unwrap() > 100, "{}", output.stdout);
    assert_eq!(front.stats().upstream_errors, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hey_gets_an_answer_to_each_request() {
    let front = front(app::start().await).await;
    for (path, options) in [
        ("/", &[][..]),
        ("/", &["-disable-keepalive"]),
        ("/echo", &["-m", "POST", "-d", "a body"]),
    ] {
        let url = format!("http://{}{path}", front.addr());
        let args = [
            &["-n", "2000", "-c", CONNECTIONS, "-t", "20"],
            options,
            &[&url],
        ]
        .concat();
        let output = run("hey", &args).await.expect(0);
        assert!(
            output.stdout.contains("[200]\t2000 responses"),
            "{}",
            output.stdout
        );
        assert!(
            !output.stdout.contains("Error distribution"),
            "{}",
            output.stdout
        );
    }
    assert_eq!(front.stats().upstream_errors, 0);
}
