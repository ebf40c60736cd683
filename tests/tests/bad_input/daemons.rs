use std::path::Path;

use vela_tests::{Options, Output, World};

use super::{expect_in_order, is_root, serving};

/// What a daemon with this configuration says before it gives up.
async fn refused(world: &World, config: &str) -> String {
    let path = world.dir().join("other.toml");
    std::fs::write(&path, config).unwrap();
    let output: Output = world
        .vela(&["serve", "--config", path.to_str().unwrap()])
        .await
        .expect(1);
    assert_eq!(output.stdout, "");
    output.stderr
}

fn config(data_dir: &Path, socket: &Path, port: u16) -> String {
    format!(
        "data_dir = {data_dir:?}\nsocket = {socket:?}\n[proxy]\nbind = \"127.0.0.1\"\nhttp_port = {port}\n[apps]\nisolate = false\n"
    )
}

#[tokio::test]
async fn a_second_daemon_is_refused_clearly() {
    let (world, release) = serving().await;
    let pid = world.daemon_pid();
    let (dir, socket, port) = (world.dir(), world.socket(), world.http().port());

    let said = refused(&world, &config(world.data_dir(), &dir.join("b.sock"), 0)).await;
    let data_dir = world.data_dir().display();
    expect_in_order(
        &said,
        &[
            &format!("error: {data_dir} is in use by another daemon, process {pid}\n"),
            "hint: stop that daemon first",
        ],
    );
    let said = refused(&world, &config(&dir.join("b"), &dir.join("b.sock"), port)).await;
    expect_in_order(
        &said,
        &[
            &format!("error: cannot listen on 127.0.0.1:{port}: "),
            &format!("(pid {pid}) holds port {port}\n"),
            "hint: ",
            "`http_port`",
        ],
    );
    let said = refused(&world, &config(&dir.join("c"), &socket, 0)).await;
    expect_in_order(
        &said,
        &[
            "error: cannot open the control socket\n",
            &format!("another daemon listens on {}\n", socket.display()),
            "hint: ",
        ],
    );
    // The first one did not notice.
    super::expect_undone(&world, Some(&release)).await;
    assert_eq!(world.client().version().await.unwrap().pid, pid);
}

#[tokio::test]
async fn a_socket_that_a_killed_daemon_left_is_no_obstacle() {
    let (mut world, _) = serving().await;
    world.kill_daemon().await;
    assert!(world.socket().exists());
    world.start(&[]).await;
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_shown_with_its_line() {
    let world = World::stopped(Options::default());
    let said = refused(
        &world,
        "data_dir = \"var\"\n[proxy]\nhttp_prot = 80\nbind = \"here\"\n",
    )
    .await;
    expect_in_order(
        &said,
        &[
            "other.toml:1:12: ",
            " 1 | data_dir = \"var\"\n",
            "^^^^^",
            "other.toml:3:1: unknown key `http_prot` in [proxy]\n",
            "hint: did you mean `http_port`?\n",
            "other.toml:4:8: not an IP address\n",
        ],
    );
}

#[tokio::test]
async fn places_that_cannot_be_used_are_named() {
    let world = World::stopped(Options::default());
    let dir = world.dir();
    let file = dir.join("file");
    std::fs::write(&file, "").unwrap();
    let said = refused(&world, &config(&file.join("data"), &dir.join("sock"), 0)).await;
    expect_in_order(
        &said,
        &[
            "error: could not prepare the data directory\n",
            file.to_str().unwrap(),
            "Not a directory",
        ],
    );
    // Whatever it is, it is not ours to replace.
    let said = refused(&world, &config(&dir.join("data"), &file, 0)).await;
    expect_in_order(
        &said,
        &[&format!("{} exists and is not a socket\n", file.display())],
    );
    assert!(file.is_file());
    let long = dir.join("s".repeat(120));
    let said = refused(&world, &config(&dir.join("data"), &long, 0)).await;
    expect_in_order(
        &said,
        &[
            "other.toml:2:10: the path of a socket has at most 107 bytes",
            " 2 | socket = ",
            "^",
        ],
    );
    if !is_root() {
        let said = refused(&world, &config(&dir.join("data"), &dir.join("sock"), 80)).await;
        expect_in_order(&said, &["error: cannot listen on 127.0.0.1:80\n", "hint: "]);
    }
}
