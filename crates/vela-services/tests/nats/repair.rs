//! What a crash, or somebody, left behind.

use std::fs;
use std::future::poll_fn;
use std::net::TcpListener;
use std::task::Poll;

use vela_services::{Provisioner, Runner, ServiceError};

use super::world::{Wire, World, plain, server, with_jetstream};

#[tokio::test]
async fn whatever_a_crash_left_is_made_good() {
    let world = World::new();
    let one = world.ensure("one", &with_jetstream()).await;
    let good = world.read("nats.conf");

    // Killed between the owner's file and everything after it.
    fs::copy(world.path("owners/one.toml"), world.path("owners/two.toml")).unwrap();
    fs::write(world.path("owners/.two.toml.new"), "half a fi").unwrap();
    fs::write(world.path("nats.conf.next"), "half a conf").unwrap();
    fs::write(world.path(".nats.conf.next.new"), "half").unwrap();
    let two = world.ensure("two", &with_jetstream()).await;
    assert_eq!(two.password, one.password);
    Wire::login(&two).unwrap();

    // Killed between the configuration and the reload: what is on disk is right, and not in force.
    world.remove("two", true).await;
    assert_eq!(world.read("nats.conf"), good);
    let world = world.restarted(false);
    fs::copy(world.path("owners/one.toml"), world.path("owners/two.toml")).unwrap();
    world.nats.resume().await.unwrap();
    Wire::login(&two).unwrap();
    let with_two = world.read("nats.conf");
    fs::remove_file(world.path("owners/two.toml")).unwrap();
    world.nats.resume().await.unwrap();
    fs::copy(world.path("owners/one.toml"), world.path("owners/two.toml")).unwrap();
    fs::write(world.path("nats.conf"), with_two).unwrap();
    assert!(Wire::login(&two).is_err());
    world.ensure("two", &with_jetstream()).await;
    Wire::login(&two).unwrap();

    // Killed in the middle of a purge.
    let file = world
        .read("owners/two.toml")
        .replace("active = true", "active = false");
    fs::write(
        world.path("owners/two.toml"),
        file.replace("purging = false", "purging = true"),
    )
    .unwrap();
    let again = world.ensure("two", &with_jetstream()).await;
    assert_ne!(again.password, two.password);
    Wire::login(&again).unwrap();
    Wire::login(&one).unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_is_waited_for() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    for steps in 1.. {
        let spec = plain();
        let mut ensure = Box::pin(world.try_ensure("one", &spec));
        let mut left = steps;
        let done = poll_fn(|context| {
            if ensure.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            left -= 1;
            if left == 0 {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        });
        if done.await {
            assert!(steps > 3, "{steps}");
            return;
        }
        world.kill().await;
        assert!(one == ensure.await.unwrap(), "after {steps} steps");
    }
}

#[tokio::test]
async fn a_configuration_that_somebody_changed_is_put_right() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    let good = world.read("nats.conf");
    for bad in [
        "",
        "}{",
        "listen: \"127.0.0.1:1\"",
        &good.replace("one.>", ">"),
    ] {
        fs::write(world.path("nats.conf"), bad).unwrap();
        assert!(one == world.ensure("one", &plain()).await);
        assert_eq!(world.read("nats.conf"), good);
    }
    fs::remove_file(world.path("nats.conf")).unwrap();
    world.kill().await;
    assert!(one == world.ensure("one", &plain()).await);
}

#[tokio::test]
async fn a_change_that_needs_another_start_gets_one() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    let pid = world.pid().await;
    // The machine has grown.
    let settings = world.read("server.toml");
    let line = settings
        .lines()
        .find(|line| line.starts_with("max_storage"))
        .unwrap();
    fs::write(
        world.path("server.toml"),
        settings.replace(line, "max_storage = 99000000"),
    )
    .unwrap();
    assert!(one == world.ensure("one", &plain()).await);
    assert_ne!(world.pid().await, pid);
    assert!(world.read("nats.conf").contains("max_file_store: 99000000"));
}

#[tokio::test]
async fn a_port_that_somebody_took_is_said_with_the_servers_own_words() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    world.runner.stop(&server()).await.unwrap();
    let taken = TcpListener::bind(("127.0.0.1", one.port())).unwrap();
    // It accepts, and says nothing that a server says.
    let error = world.try_ensure("one", &plain()).await.err().unwrap();
    assert!(matches!(error, ServiceError::NotReady { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the server nats does not get ready");
    let output = error.output().join("\n");
    assert!(output.contains("address already in use"), "{output}");
    assert!(!format!("{error:?}").contains(&one.password));

    drop(taken);
    assert!(one == world.ensure("one", &plain()).await);
}

#[tokio::test]
async fn a_port_that_nobody_was_told_of_is_exchanged() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    world.runner.stop(&server()).await.unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", one.port())).unwrap();
    // As it is when the first call was killed before it was done.
    let settings = world.read("server.toml");
    assert!(settings.contains("is_given = true"));
    let settings = settings.replace("is_given = true", "is_given = false");
    fs::write(world.path("server.toml"), settings).unwrap();
    let moved = world.ensure("one", &plain()).await;
    assert_ne!(moved.port(), one.port());
    Wire::login(&moved).unwrap();
    assert!(world.read("server.toml").contains("is_given = true"));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_as_it_is() {
    let world = World::new();
    let one = world.ensure("one", &plain()).await;
    let file = world.path("owners/one.toml");
    let good = fs::read_to_string(&file).unwrap();
    let bad = good.replace("password = ", "pass word = ");
    fs::write(&file, &bad).unwrap();
    let error = world.try_ensure("one", &plain()).await.err().unwrap();
    let ServiceError::Damaged { path, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(path, &file);
    assert!(!format!("{error:?}").contains(&one.password), "{error:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), bad);
    // The others' server goes on.
    Wire::login(&one).unwrap();
    fs::write(&file, good).unwrap();
    assert!(one == world.ensure("one", &plain()).await);
}
