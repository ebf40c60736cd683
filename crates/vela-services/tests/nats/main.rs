//! The NATS provisioner against the machine's nats-server.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod download;
mod isolation;
mod life;
mod mirror;
mod programs;
mod repair;
mod world;

use vela_services::test_util::conformance;

use self::world::{World, plain, with_jetstream, with_subjects};

#[tokio::test]
async fn it_passes_the_suite_of_every_provisioner() {
    let world = World::new();
    conformance(&world.nats, &plain()).await;
    conformance(&world.nats, &with_jetstream()).await;
    conformance(&world.nats, &with_subjects(&["orders.>"])).await;
}
