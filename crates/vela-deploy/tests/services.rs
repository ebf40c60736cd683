//! Services in the life of an app: provisioned before it starts, kept over deploys and restarts of the daemon, taken
//! away with the app. What the servers do is simulated; `tests/tests/services.rs` has the real ones.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use support::{World, all, who};
use uuid::Uuid;
use vela_deploy::{EngineError, Stack};
use vela_protocol::{AppState, ErrorCode, Event, RollbackRequest, Serving, Step};
use vela_services::test_util::{Call, MemoryProvisioner};
use vela_services::{
    Bindings, OwnerName, OwnerStatus, Provisioner, ServerName, ServiceError, ServiceSpec,
    ServiceStatus,
};
use vela_supervisor::Supervisor;

const PLAIN: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"
[deploy]
health = "/health"
drain = 1
stop_timeout = 2
pre_start = "echo \"$MEMORY_URL $SLOW_URL\" >> $VELA_DATA_DIR/hook"
"#;

fn with(services: &str) -> String {
    format!("{PLAIN}{services}\n")
}

fn owner() -> OwnerName {
    "tiny".parse().unwrap()
}

#[track_caller]
fn succeeded(events: &[Event]) {
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
}

#[track_caller]
fn failure(events: &[Event]) -> (Step, &vela_protocol::Report, &Serving) {
    match events.last() {
        Some(Event::Failed {
            step: Some(step),
            error,
            serving,
            ..
        }) => (*step, error, serving),
        other => panic!("{other:?}"),
    }
}

/// Steps of an operation that were begun.
fn steps(events: &[Event]) -> Vec<Step> {
    let of = |event: &Event| match event {
        Event::StepStarted { step } => Some(*step),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

async fn world(memory: &Arc<MemoryProvisioner>) -> World {
    World::new(|stack| served_by(stack, vec![memory.clone()])).await
}

fn served_by(stack: Stack, provisioners: Vec<Arc<dyn Provisioner>>) -> Stack {
    Stack {
        provisioners,
        ..stack
    }
}

fn hook(world: &World) -> String {
    let data = world.dirs().app(&"tiny".parse().unwrap()).data();
    std::fs::read_to_string(data.join("hook")).unwrap_or_default()
}

async fn until(what: &str, done: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A service that takes until it is let go, of a kind of its own.
#[derive(Debug, Default)]
struct Slow {
    /// Whether it may be had.
    open: AtomicBool,
    /// Whether somebody waits for it.
    asked: AtomicBool,
}

#[async_trait]
impl Provisioner for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    async fn ensure(&self, _: &OwnerName, _: &ServiceSpec) -> Result<Bindings, ServiceError> {
        self.asked.store(true, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok([("SLOW_URL".to_owned(), "slow://".into())].into())
    }

    async fn bindings(
        &self,
        _: &OwnerName,
        _: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        Ok(None)
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        self.ensure(&owner(), &ServiceSpec::default())
            .await
            .map(drop)
    }

    async fn remove(&self, _: &OwnerName, _: bool) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        let server = |name: &str| ServiceStatus {
            server: ServerName::parse(name).unwrap(),
            version: Some("1".into()),
            pid: Some(7),
            restarts: 3,
            address: "127.0.0.1:1".into(),
            owners: vec![OwnerStatus {
                owner: owner(),
                holds: vec!["one".into()],
                active: true,
            }],
        };
        Ok(vec![server("slow-1"), server("slow-2")])
    }
}

/// A service whose server does not start, and says why.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Provisioner for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    async fn ensure(&self, _: &OwnerName, _: &ServiceSpec) -> Result<Bindings, ServiceError> {
        Err(ServiceError::NotReady {
            server: ServerName::parse("broken-1").unwrap(),
            log: vec!["FATAL: no space left".into()],
            source: "it exited with code 1".into(),
        })
    }

    async fn bindings(
        &self,
        _: &OwnerName,
        _: &ServiceSpec,
    ) -> Result<Option<Bindings>, ServiceError> {
        Ok(None)
    }

    async fn resume(&self) -> Result<(), ServiceError> {
        self.ensure(&owner(), &ServiceSpec::default())
            .await
            .map(drop)
    }

    async fn remove(&self, _: &OwnerName, _: bool) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn status(&self) -> Result<Vec<ServiceStatus>, ServiceError> {
        Ok(Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_there_before_pre_start_and_the_same_at_each_deploy() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    let manifest = with("[services.x-memory]");
    for _ in 0..2 {
        let events = world.deploy(&manifest, &[]).await;
        succeeded(&events);
        let steps = steps(&events);
        let at = |wanted| steps.iter().position(|step| *step == wanted);
        assert!(at(Step::Provision).unwrap() < at(Step::PreStart).unwrap());
    }
    assert_eq!(hook(&world), "memory://tiny \nmemory://tiny \n");
    // Once for each deploy: the hook, the probe and the instance get what was given then.
    let expected = [Call::Resume, Call::Ensure(owner()), Call::Ensure(owner())];
    assert_eq!(memory.calls(), expected);

    let credentials = world.engine.credentials("tiny").await.unwrap();
    assert_eq!(credentials.kinds["memory"]["MEMORY_URL"], "memory://tiny");

    // A deploy that asks for nothing leaves it alone; a rollback asks again.
    succeeded(&world.deploy(PLAIN, &[]).await);
    assert!(
        world
            .engine
            .credentials("tiny")
            .await
            .unwrap()
            .kinds
            .is_empty()
    );
    assert!(memory.owners().contains(&owner()));
    let calls = memory.calls().len();
    let request = RollbackRequest {
        deploy: Uuid::new_v4(),
        to: None,
        hooks: false,
        client: None,
    };
    let events = world.engine.rollback("tiny", request, who()).await.unwrap();
    let events = all(events).await;
    succeeded(&events);
    assert!(steps(&events).contains(&Step::Provision));
    assert_eq!(memory.calls()[calls..], [Call::Ensure(owner())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_look_at_credentials_gives_nothing_back_to_an_app_that_is_removed() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    succeeded(&world.deploy(&with("[services.x-memory]"), &[]).await);
    let calls = memory.calls().len();
    world.engine.credentials("tiny").await.unwrap();
    assert_eq!(memory.calls()[calls..], []);

    // The removal has come so far: the files of the app are still there.
    memory.remove(&owner(), false).await.unwrap();
    let credentials = world.engine.credentials("tiny").await;
    let error = credentials.map(|given| given.kinds).unwrap_err();
    assert!(
        matches!(error, EngineError::NotProvisioned { .. }),
        "{error:?}"
    );
    assert!(memory.owners().is_empty());
    assert_eq!(error.code(), ErrorCode::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_can_t_be_had_aborts_before_pre_start_with_its_server_s_lines() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = World::new(|stack| served_by(stack, vec![memory.clone(), Arc::new(Broken)])).await;
    succeeded(&world.deploy(&with("[services.x-memory]"), &[]).await);
    let old = world.current().unwrap();
    let before = hook(&world);

    let events = world
        .deploy(&with("[services.x-memory]\n[services.x-broken]"), &[])
        .await;
    let (step, report, serving) = failure(&events);
    assert_eq!(step, Step::Provision);
    assert_eq!(
        report.message,
        "the service `broken` could not be provisioned"
    );
    assert_eq!(
        report.causes,
        [
            "the server broken-1 does not get ready",
            "it exited with code 1"
        ]
    );
    assert_eq!(report.output, ["FATAL: no space left"]);
    let release = old.clone();
    assert_eq!(*serving, Serving::Previous { release });
    assert!(!steps(&events).contains(&Step::PreStart));
    assert_eq!(hook(&world), before);
    assert_eq!(world.get("tiny.localhost").await, (200, old));
    // What another kind has given stays for the next try.
    assert!(memory.owners().contains(&owner()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_nobody_provisions_is_refused_before_the_others_begin() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    let events = world
        .deploy(&with("[services.x-memory]\n[services.x-other]"), &[])
        .await;
    let (step, report, serving) = failure(&events);
    assert_eq!((step, serving), (Step::Provision, &Serving::Nothing));
    assert_eq!(report.message, "this server provisions no `other`");
    assert_eq!(memory.calls(), [Call::Resume]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_works_while_a_service_is_awaited() {
    let slow = Arc::new(Slow::default());
    let world = World::new(|stack| served_by(stack, vec![slow.clone()])).await;
    slow.asked.store(false, Ordering::SeqCst);
    let request = world.upload(&with("[services.x-slow]"), &[]).await;
    let events = world.engine.deploy("tiny", request, who()).await.unwrap();
    until("it waits", async || slow.asked.load(Ordering::SeqCst)).await;
    world.engine.cancel("tiny", None, who()).await.unwrap();
    let events = all(events).await;
    assert!(
        matches!(events.last(), Some(Event::Cancelled { .. })),
        "{events:#?}"
    );
    assert!(world.releases().is_empty());

    slow.open.store(true, Ordering::SeqCst);
    succeeded(&world.deploy(&with("[services.x-slow]"), &[]).await);
    assert_eq!(hook(&world), " slow://\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_app_waits_for_no_service_and_one_that_was_killed_waits_for_its_own() {
    let slow = Arc::new(Slow::default());
    slow.open.store(true, Ordering::SeqCst);
    let world = World::new(|stack| served_by(stack, vec![slow.clone()])).await;
    succeeded(&world.deploy(&with("[services.x-slow]"), &[]).await);
    let pid = world.engine.status("tiny").unwrap().pid;

    // The daemon alone was restarted, and the service hangs.
    slow.open.store(false, Ordering::SeqCst);
    let world = world
        .restarted_with(|_| {}, |stack| served_by(stack, vec![slow.clone()]))
        .await;
    let status = world.until(AppState::Running).await;
    assert_eq!(status.pid, pid);
    assert_eq!(world.get("tiny.localhost").await.0, 200);

    // The machine was: the engine opens all the same, and the app starts with its service.
    world.engine.shutdown(false).await;
    slow.asked.store(false, Ordering::SeqCst);
    for one in world.supervisor.list().await.unwrap() {
        let now = vela_supervisor::Stop::now();
        world.supervisor.stop(&one.id, &now).await.unwrap();
    }
    let world = world
        .restarted_with(|_| {}, |stack| served_by(stack, vec![slow.clone()]))
        .await;
    until("it waits", async || slow.asked.load(Ordering::SeqCst)).await;
    assert_eq!(world.instances().await, []);
    slow.open.store(true, Ordering::SeqCst);
    world.until(AppState::Running).await;
    assert_eq!(world.get("tiny.localhost").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_app_whose_probe_is_a_command_waits_for_no_service_either() {
    let slow = Arc::new(Slow::default());
    slow.open.store(true, Ordering::SeqCst);
    let world = World::new(|stack| served_by(stack, vec![slow.clone()])).await;
    let manifest = with("[services.x-slow]").replace("\"/health\"", "{ exec = \"test $PORT\" }");
    succeeded(&world.deploy(&manifest, &[]).await);
    let pid = world.engine.status("tiny").unwrap().pid;
    slow.open.store(false, Ordering::SeqCst);
    let world = world
        .restarted_with(|_| {}, |stack| served_by(stack, vec![slow.clone()]))
        .await;
    assert_eq!(world.until(AppState::Running).await.pid, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_app_starts_again_though_its_service_is_away() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    succeeded(&world.deploy(&with("[services.x-memory]"), &[]).await);
    let world = world
        .restarted_with(|_| {}, |stack| served_by(stack, vec![memory.clone()]))
        .await;
    let before = world.until(AppState::Running).await;
    // Asked aside after the daemon's restart.
    let ensured = || {
        memory
            .calls()
            .iter()
            .filter(|call| matches!(call, Call::Ensure(_)))
            .count()
    };
    until("the service was asked", async || ensured() == 2).await;

    memory.fail_next(1000);
    let id = world.supervisor.list().await.unwrap().remove(0).id;
    let now = vela_supervisor::Stop::now();
    world.supervisor.stop(&id, &now).await.unwrap();
    until("it is back", async || {
        let status = world.engine.status("tiny").unwrap();
        status.state == AppState::Running && status.pid != before.pid
    })
    .await;
    assert_eq!(ensured(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_kind_that_can_t_be_resumed_is_tried_again_and_keeps_no_other_down() {
    let memory = Arc::new(MemoryProvisioner::new());
    memory.fail_next(1);
    let world = World::new(|stack| served_by(stack, vec![memory.clone(), Arc::new(Broken)])).await;
    until("it was tried again", async || memory.calls().len() == 2).await;
    assert_eq!(memory.calls(), [Call::Resume, Call::Resume]);
    world.engine.shutdown(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_s_services_are_taken_away_and_the_rest_is_kept_until_purged() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    let manifest = with("[services.x-memory]");
    succeeded(&world.deploy(&manifest, &[]).await);
    // Whatever the current release asks for.
    succeeded(&world.deploy(PLAIN, &[]).await);
    let calls = memory.calls().len();
    let remove = |purge| {
        let owner = owner();
        Call::Remove { owner, purge }
    };

    // A service that refuses keeps the removal open: it is not reported as done, and can be asked for again.
    memory.fail_next(1);
    let error = world.engine.remove("tiny", false, who()).await.unwrap_err();
    assert!(matches!(error, EngineError::Service { .. }), "{error:?}");
    assert_eq!(world.engine.status("tiny").unwrap().state, AppState::Empty);
    assert!(world.current().is_some());
    world.engine.remove("tiny", false, who()).await.unwrap();
    assert_eq!(
        world.engine.status("tiny").unwrap_err().code(),
        ErrorCode::NotFound
    );
    assert_eq!(memory.calls()[calls..], [remove(false), remove(false)]);

    // It can come back, and in the end go for good.
    succeeded(&world.deploy(&manifest, &[]).await);
    assert!(memory.owners().contains(&owner()));
    world.engine.remove("tiny", false, who()).await.unwrap();
    world.engine.remove("tiny", true, who()).await.unwrap();
    assert_eq!(memory.calls().last(), Some(&remove(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_interrupted_is_finished_at_the_next_start_once_the_service_lets_it() {
    let memory = Arc::new(MemoryProvisioner::new());
    let world = world(&memory).await;
    succeeded(&world.deploy(&with("[services.x-memory]"), &[]).await);
    let calls = memory.calls().len();
    // Resuming and the first removal fail: the engine opens all the same.
    memory.fail_next(2);
    let begun = |dirs: &vela_deploy::Dirs| {
        let desired = dirs.app(&"tiny".parse().unwrap()).desired();
        let text = std::fs::read_to_string(&desired).unwrap();
        std::fs::write(&desired, format!("{text}removing = \"purge\"\n")).unwrap();
    };
    let world = world
        .restarted_with(begun, |stack| served_by(stack, vec![memory.clone()]))
        .await;
    let root = world.dirs().app(&"tiny".parse().unwrap()).root().to_owned();
    until("it is gone", async || !root.exists()).await;
    let removed = Call::Remove {
        owner: owner(),
        purge: true,
    };
    let removals = memory.calls()[calls..]
        .iter()
        .filter(|call| **call == removed)
        .count();
    assert!(removals >= 2, "{:?}", memory.calls());
    assert!(memory.owners().is_empty());
    assert_eq!(world.instances().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_listed_and_found_by_name_or_kind() {
    let world = World::new(|stack| served_by(stack, vec![Arc::new(Slow::default())])).await;
    let servers = world.engine.services().await.unwrap();
    let names: Vec<_> = servers.iter().map(|one| one.server.as_str()).collect();
    assert_eq!(names, ["slow-1", "slow-2"]);
    assert_eq!(servers[0].kind, "slow");
    assert_eq!(servers[0].apps[0].app, "tiny");

    let logs = async |server| match world.engine.service_logs(server, 5, false).await {
        Ok(lines) => Ok(futures::StreamExt::collect::<Vec<_>>(lines).await),
        Err(error) => Err(error),
    };
    // Nothing was written yet.
    assert!(logs("slow-1").await.unwrap().is_empty());
    let several = logs("slow").await.unwrap_err();
    assert_eq!(
        several.to_string(),
        "there are several servers of `slow`: slow-1, slow-2"
    );
    for unknown in ["other", "../../etc/passwd", "", "slow-3"] {
        let error = logs(unknown).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound, "{unknown:?}");
    }
    let dir = world.dirs().services().join("logs");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(
        dir.join("slow-3.log"),
        "2026-11-21T00:55:17.123Z err boom\n",
    )
    .unwrap();
    assert_eq!(logs("slow-3").await.unwrap()[0].text, "boom");
}

/// What `docs/services.md` refers to works as it says. Cargo builds the examples with the tests.
#[test]
fn the_example_of_a_kind_of_one_s_own_works() {
    let tests = std::env::current_exe().unwrap();
    let example = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/own_service");
    assert!(example.exists(), "build the examples");
    let output = std::process::Command::new(example).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in ["get: hello\n", "kv listens on 127.0.0.1:"] {
        assert!(said.contains(line), "{said}");
    }
}
