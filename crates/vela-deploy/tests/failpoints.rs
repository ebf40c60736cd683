//! Every step fails before, inside and after its effect, for both strategies: whatever fails, the app serves, its
//! files are whole, nothing is left over, and the next deploy works.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use support::World;
use vela_deploy::Stack;
use vela_deploy::failpoint::{Failpoints, Injected, Moment, Serves, serves_after};
use vela_protocol::{DeployRequest, Event, Operation, Outcome, Serving, Step};
use vela_services::test_util::MemoryProvisioner;

/// Fails at one point, when armed, and counts.
#[derive(Debug, Default)]
struct FailAt {
    point: Mutex<Option<(Step, Moment)>>,
    hits: AtomicUsize,
}

impl Failpoints for FailAt {
    fn hit(&self, step: Step, moment: Moment) -> Result<(), Injected> {
        if *self.point.lock().unwrap() != Some((step, moment)) {
            return Ok(());
        }
        self.hits.fetch_add(1, Ordering::SeqCst);
        Err(Injected)
    }
}

fn manifest(strategy: &str) -> String {
    format!(
        r#"
[app]
name = "tiny"
domain = "tiny.localhost"
[deploy]
strategy = "{strategy}"
health = "/health"
drain = 1
stop_timeout = 2
keep_releases = 2
pre_start = "echo pre_start on $PORT"
pre_switch = "true"
post_deploy = "true"
[services.x-memory]
[build]
command = "echo building"
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_point_blue_green() {
    every_point("blue-green").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_point_sequential() {
    every_point("sequential").await;
}

async fn every_point(strategy: &'static str) {
    let points = Step::ALL
        .into_iter()
        .flat_map(|step| Moment::ALL.map(|moment| (step, moment)));
    let taken = points
        .filter(|(step, moment)| serves_after(*step, *moment, strategy == "sequential").is_some());
    futures::stream::iter(taken)
        .for_each_concurrent(4, |(step, moment)| async move {
            tokio::spawn(one_point(strategy, step, moment))
                .await
                .unwrap();
        })
        .await;
}

async fn one_point(strategy: &'static str, step: Step, moment: Moment) {
    let context = format!("{strategy} {step}:{}", moment.as_str());
    let fail = Arc::new(FailAt::default());
    let armed: Arc<dyn Failpoints> = fail.clone();
    let world = World::new(|stack| Stack {
        failpoints: Some(armed),
        provisioners: vec![Arc::new(MemoryProvisioner::new())],
        ..stack
    })
    .await;
    let manifest = manifest(strategy);

    let first = world.deploy(&manifest, &[]).await;
    assert!(
        matches!(first.last(), Some(Event::Succeeded { .. })),
        "{context}: {first:#?}"
    );
    let old = world.current().unwrap();

    *fail.point.lock().unwrap() = Some((step, moment));
    // What a build makes of this source is the source.
    let request = DeployRequest {
        build: step == Step::Build,
        ..world.upload(&manifest, &[]).await
    };
    let second = world.run(request).await.unwrap();
    *fail.point.lock().unwrap() = None;
    assert_eq!(
        fail.hits.load(Ordering::SeqCst),
        1,
        "{context}: the point was not hit once"
    );

    let served = match serves_after(step, moment, strategy == "sequential") {
        Some(Serves::Old) => {
            let Some(Event::Failed {
                step: failed,
                serving,
                ..
            }) = second.last()
            else {
                panic!("{context}: {second:#?}")
            };
            assert_eq!(*failed, Some(step), "{context}");
            assert_eq!(
                *serving,
                Serving::Previous {
                    release: old.clone()
                },
                "{context}"
            );
            assert_eq!(world.current().as_ref(), Some(&old), "{context}");
            assert_eq!(
                world.releases(),
                std::slice::from_ref(&old),
                "{context}: releases"
            );
            assert_eq!(world.metas(), std::slice::from_ref(&old), "{context}: meta");
            old
        }
        _ => {
            assert!(
                matches!(second.last(), Some(Event::Succeeded { .. })),
                "{context}: {second:#?}"
            );
            let new = world.current().unwrap();
            assert_ne!(new, old, "{context}");
            new
        }
    };
    assert_eq!(
        world.get("tiny.localhost").await,
        (200, served.clone()),
        "{context}"
    );
    let history = world.engine.history("tiny").await.unwrap();
    let outcome = if matches!(second.last(), Some(Event::Failed { .. })) {
        Outcome::Failed
    } else {
        Outcome::Succeeded
    };
    assert_eq!(
        (history[0].operation, history[0].outcome),
        (Operation::Deploy, outcome),
        "{context}"
    );

    let instances = world.instances().await;
    assert_eq!(instances.len(), 1, "{context}: {instances:?}");
    assert_eq!(instances[0]["release"], served, "{context}");

    let third = world.deploy(&manifest, &[]).await;
    assert!(
        matches!(third.last(), Some(Event::Succeeded { .. })),
        "{context}: {third:#?}"
    );
    assert_eq!(
        world.get("tiny.localhost").await,
        (200, world.current().unwrap()),
        "{context}"
    );
    world.engine.shutdown(true).await;
    assert_eq!(world.instances().await, [], "{context}");
}
