use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;

use vela_tests::{Options, Release, World, get};

use super::{HOST, begin, end, eventually, expect_in_order, expect_undone, manifest};

/// Beyond the kernel's own range for connections: nothing else on the machine takes a port here by chance.
const BEYOND: RangeInclusive<u16> = 61_000..=64_999;

/// Ports in a row that nobody listens on.
fn free_ports(count: u16) -> RangeInclusive<u16> {
    let is_free = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let starts = (BEYOND.end() - BEYOND.start()) / count;
    let offset = (uuid::Uuid::new_v4().as_u128() % u128::from(starts)) as u16;
    let mut rows = (0..starts).map(|row| {
        let first = BEYOND.start() + (row + offset) % starts * count;
        first..=first + count - 1
    });
    rows.find(|row| row.clone().all(is_free)).unwrap()
}

async fn world_of(ports: &RangeInclusive<u16>) -> World {
    let (first, last) = (ports.start(), ports.end());
    World::with(Options {
        config: format!("first_port = {first}\nlast_port = {last}"),
        ..Options::default()
    })
    .await
}

fn good() -> Release {
    Release::demo_app(&manifest("health = \"/health\""), "")
}

#[tokio::test]
async fn ports_that_strangers_have_are_passed_over_and_none_left_is_said() {
    let ports = free_ports(4);
    let (first, last) = (*ports.start(), *ports.end());
    let world = world_of(&ports).await;
    // Each in its own way; the last port stays free.
    let mut strangers = vec![
        TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap(),
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, first + 1)).unwrap(),
    ];
    strangers.push(
        TcpListener::bind((Ipv6Addr::LOCALHOST, first + 2))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, first + 2)))
            .unwrap(),
    );
    world.deploy(&good()).await.expect(0);
    assert_eq!(world.status("shop").await.port, Some(last));
    let v1 = world.current("shop").unwrap();

    // A second instance beside the first has nowhere to go.
    let output = world.deploy(&good()).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` failed at start\n",
            "  caused by: no port could be reserved\n",
            &format!("  caused by: no port is free from {first} to {last}\n"),
            &format!("`shop` still serves {v1}\n"),
        ],
    );
    expect_undone(&world, Some(&v1)).await;

    // Until a stranger goes.
    drop(strangers.pop());
    world.deploy(&good()).await.expect(0);
    assert_eq!(world.status("shop").await.port, Some(first + 2));
}

/// A hook that tells its port, and gives the test the time to take it before the app does.
const TELLS_ITS_PORT: &str = r#"pre_start = "echo $PORT > $VELA_DATA_DIR/.port; mv $VELA_DATA_DIR/.port $VELA_DATA_DIR/port; until [ -e $VELA_DATA_DIR/taken ]; do sleep 0.01; done"
health = "/health""#;

/// Takes the port that the deploy was given, and answers everything on it with 200.
async fn take_port(world: &World, ip: IpAddr) -> u16 {
    let data = world.app_dir("shop").join("data");
    let port = eventually("the port", async || {
        std::fs::read_to_string(data.join("port")).ok()
    })
    .await;
    let port: u16 = port.trim().parse().unwrap();
    let stranger = TcpListener::bind(SocketAddr::from((ip, port))).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let stranger = tokio::net::TcpListener::from_std(stranger).unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut client, _)) = stranger.accept().await {
            let mut request = [0; 1024];
            // Whoever probes it may go away meanwhile.
            if client.read(&mut request).await.is_ok() {
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nstranger";
                drop(client.write_all(answer).await);
            }
        }
    });
    std::fs::write(data.join("taken"), "").unwrap();
    port
}

async fn is_on_another_port(release: &Release, ip: IpAddr) {
    let world = World::new().await;
    let deploy = begin(&world, release);
    let taken = take_port(&world, ip).await;
    let output = end(deploy).await.expect(0);
    assert!(
        output.stderr.contains(&format!(
            "warning: another process listens on port {taken}: trying another port\n"
        )),
        "{output:?}"
    );
    let status = world.status("shop").await;
    assert_ne!(status.port, Some(taken));
    let (code, body) = get(world.http(), HOST, "/").await;
    assert_eq!(code, 200);
    assert!(body.starts_with(&world.current("shop").unwrap()), "{body}");
    assert_eq!(
        vela_tests::processes_of(world.data_dir()),
        [status.pid.unwrap()]
    );
}

#[tokio::test]
async fn an_app_whose_port_was_taken_meanwhile_gets_another() {
    let release = Release::demo_app(&manifest(TELLS_ITS_PORT), "");
    is_on_another_port(&release, Ipv4Addr::LOCALHOST.into()).await;
}

#[tokio::test]
async fn so_does_an_app_on_ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // no IPv6 here
    }
    let manifest = manifest(TELLS_ITS_PORT).replace("[app]\n", "[app]\nlisten = \"::1\"\n");
    let release = Release::demo_app(&manifest, "--listen ::1");
    is_on_another_port(&release, Ipv6Addr::LOCALHOST.into()).await;
}

#[tokio::test]
async fn a_stranger_that_answers_in_the_place_of_the_app_gets_no_traffic() {
    let program = env!("CARGO_BIN_EXE_vela-under-test");
    // One that does not end when it can't have its port: the stranger answers its health check.
    let script = format!("'{program}' demo-app || exec sleep 1000");
    let script = format!(
        "if [ $PORT = $(cat $VELA_DATA_DIR/port) ]; then {script}; else exec '{program}' demo-app; fi"
    );
    let release = Release::script(&manifest(TELLS_ITS_PORT), &script);
    is_on_another_port(&release, Ipv4Addr::LOCALHOST.into()).await;
}

#[tokio::test]
async fn an_app_whose_only_port_was_taken_is_refused() {
    let ports = free_ports(1);
    let world = world_of(&ports).await;
    let release = Release::demo_app(&manifest(TELLS_ITS_PORT), "");
    let deploy = begin(&world, &release);
    let taken = take_port(&world, Ipv4Addr::LOCALHOST.into()).await;
    let output = end(deploy).await.expect(1);
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` failed at health\n",
            &format!("no port is free from {taken} to {taken}\n"),
            "`shop` serves nothing, as before\n",
        ],
    );
    std::fs::remove_dir_all(world.app_dir("shop").join("data")).unwrap();
    expect_undone(&world, None).await;
}
