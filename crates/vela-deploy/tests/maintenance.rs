//! An app that is kept from its users stays so, whatever is done to it and whatever fails, until somebody ends it.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use support::{World, all, who};
use uuid::Uuid;
use vela_deploy::failpoint::{Failpoints, Injected, Moment, serves_after};
use vela_deploy::{Dirs, EngineError, Stack};
use vela_protocol::{
    AppState, ErrorCode, Event, MaintenanceRequest, RestartRequest, RollbackRequest, Step,
};
use vela_proxy::{
    DrainLimits, Drained, Maintenance, Park, ParkLimits, Replaced, RouteError, RouteId, RouteSpec,
    Router,
};
use vela_services::test_util::MemoryProvisioner;

const HOST: &str = "tiny.localhost";
const MANIFEST: &str = r#"
[app]
name = "tiny"
domain = "tiny.localhost"
[deploy]
health = "/health"
drain = 1
stop_timeout = 2
pre_start = "true"
pre_switch = "true"
post_deploy = "true"
[services.x-memory]
"#;

/// The router of a stack, which fails when it is told to, and notes each route that is not maintained while it should.
#[derive(Debug)]
struct Watched {
    router: Arc<dyn Router>,
    park: Arc<dyn Park>,
    must_be_on: AtomicBool,
    fails: AtomicBool,
    forgotten: Mutex<Vec<RouteSpec>>,
}

impl Watched {
    fn look(&self, spec: &RouteSpec) {
        let is_on = spec.options.maintenance.is_some();
        if self.must_be_on.load(Ordering::SeqCst) && !is_on {
            self.forgotten.lock().unwrap().push(spec.clone());
        }
    }
}

#[async_trait]
impl Router for Watched {
    async fn apply(&self, spec: RouteSpec) -> Result<Option<Replaced>, RouteError> {
        self.look(&spec);
        self.router.apply(spec).await
    }

    async fn drain(&self, replaced: Replaced, limits: DrainLimits) -> Drained {
        self.router.drain(replaced, limits).await
    }

    async fn remove(&self, id: &RouteId) -> Result<Option<Replaced>, RouteError> {
        self.router.remove(id).await
    }

    async fn maintain(
        &self,
        id: &RouteId,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(RouteError::Backend {
                route: id.clone(),
                source: "the proxy is away".into(),
            });
        }
        self.router.maintain(id, maintenance).await
    }
}

#[async_trait]
impl Park for Watched {
    async fn park(
        &self,
        spec: RouteSpec,
        limits: ParkLimits,
    ) -> Result<Option<Replaced>, RouteError> {
        self.look(&spec);
        self.park.park(spec, limits).await
    }
}

#[derive(Debug, Default)]
struct FailAt(Mutex<Option<(Step, Moment)>>);

impl Failpoints for FailAt {
    fn hit(&self, step: Step, moment: Moment) -> Result<(), Injected> {
        match *self.0.lock().unwrap() == Some((step, moment)) {
            true => Err(Injected),
            false => Ok(()),
        }
    }
}

/// A world and its router.
async fn watched(fail: &Arc<FailAt>) -> (World, Arc<Watched>) {
    let mut made = None;
    let world = World::new(|stack| watch(stack, fail, &mut made)).await;
    (world, made.unwrap())
}

fn watch(stack: Stack, fail: &Arc<FailAt>, made: &mut Option<Arc<Watched>>) -> Stack {
    let watched = made.insert(Arc::new(Watched {
        router: Arc::clone(&stack.router),
        park: Arc::clone(stack.park.as_ref().unwrap()),
        must_be_on: AtomicBool::new(false),
        fails: AtomicBool::new(false),
        forgotten: Mutex::default(),
    }));
    let (router, park) = (Arc::clone(watched), Arc::clone(watched));
    let fail: Arc<dyn Failpoints> = Arc::clone(fail) as _;
    Stack {
        router,
        park: Some(park),
        failpoints: Some(fail),
        provisioners: vec![Arc::new(MemoryProvisioner::new())],
        ..stack
    }
}

async fn succeed(world: &World, manifest: &str) {
    let events = world.deploy(manifest, &[]).await;
    assert!(
        matches!(events.last(), Some(Event::Succeeded { .. })),
        "{events:#?}"
    );
}

fn with(strategy: &str) -> String {
    MANIFEST.replace("[deploy]", &format!("[deploy]\nstrategy = \"{strategy}\""))
}

fn request(message: &str, allow: &[&str]) -> Option<MaintenanceRequest> {
    Some(MaintenanceRequest {
        message: Some(message.to_owned()),
        allow: allow.iter().map(ToString::to_string).collect(),
    })
}

fn restart() -> RestartRequest {
    RestartRequest {
        deploy: Uuid::new_v4(),
        client: None,
    }
}

async fn closed(world: &World) {
    let answer = world.get(HOST).await;
    let page = "503 Service Unavailable\nback at <5>\n";
    assert_eq!(answer, (503, page.to_owned()));
}

async fn open(world: &World) {
    let answer = world.get(HOST).await;
    assert_eq!(answer, (200, world.current().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_over_everything_until_it_is_ended() {
    for strategy in ["blue-green", "sequential"] {
        let fail = Arc::default();
        let (world, watched) = watched(&fail).await;
        let manifest = with(strategy);
        succeed(&world, &manifest).await;
        let status = world
            .engine
            .maintain("tiny", request("back at <5>", &[]), who());
        let on = status.await.unwrap().maintenance.unwrap();
        assert_eq!(on.message.as_deref(), Some("back at <5>"));
        watched.must_be_on.store(true, Ordering::SeqCst);
        closed(&world).await;

        succeed(&world, &manifest).await;
        closed(&world).await;
        let to_first = RollbackRequest {
            deploy: Uuid::new_v4(),
            to: None,
            hooks: false,
            client: None,
        };
        all(world
            .engine
            .rollback("tiny", to_first, who())
            .await
            .unwrap())
        .await;
        closed(&world).await;
        all(world
            .engine
            .restart("tiny", restart(), who())
            .await
            .unwrap())
        .await;
        closed(&world).await;
        world.engine.stop("tiny", who()).await.unwrap();
        closed(&world).await;
        all(world.engine.start("tiny", restart(), who()).await.unwrap()).await;
        closed(&world).await;

        let before = world.until(AppState::Running).await;
        let pid = i32::try_from(before.pid.unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        while world.until(AppState::Running).await.pid == before.pid {
            closed(&world).await;
        }
        closed(&world).await;
        assert_eq!(*watched.forgotten.lock().unwrap(), [], "{strategy}");

        // The next daemon: with the app running, then with it stopped.
        for stopped in [false, true] {
            if stopped {
                world.engine.stop("tiny", who()).await.unwrap();
            }
        }
        let mut made = None;
        let world = world
            .restarted_with(|_| {}, |stack| watch(stack, &fail, &mut made))
            .await;
        closed(&world).await;
        assert_eq!(world.engine.status("tiny").unwrap().maintenance, Some(on));
        all(world.engine.start("tiny", restart(), who()).await.unwrap()).await;
        closed(&world).await;
        let world = world
            .restarted_with(|_| {}, |stack| watch(stack, &fail, &mut made))
            .await;
        closed(&world).await;
        world.until(AppState::Running).await;
        closed(&world).await;

        let off = world.engine.maintain("tiny", None, who()).await.unwrap();
        assert_eq!(off.maintenance, None);
        open(&world).await;
        let world = world
            .restarted_with(|_| {}, |stack| watch(stack, &fail, &mut made))
            .await;
        world.until(AppState::Running).await;
        open(&world).await;
        world.engine.shutdown(true).await;
    }
}

/// No undo forgets it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_holds_wherever_a_deploy_fails() {
    let points = ["blue-green", "sequential"]
        .into_iter()
        .flat_map(|strategy| {
            let taken = Step::ALL.into_iter().filter(move |step| {
                let sequential = strategy == "sequential";
                *step > Step::Provision && serves_after(*step, Moment::After, sequential).is_some()
            });
            taken.map(move |step| (strategy, step))
        });
    futures::stream::iter(points)
        .for_each_concurrent(4, |(strategy, step)| async move {
            let failing = tokio::spawn(async move {
                let fail = Arc::default();
                let (world, watched) = watched(&fail).await;
                let manifest = with(strategy);
                succeed(&world, &manifest).await;
                let on = request("back at <5>", &[]);
                world.engine.maintain("tiny", on, who()).await.unwrap();
                watched.must_be_on.store(true, Ordering::SeqCst);
                *fail.0.lock().unwrap() = Some((step, Moment::After));
                world.deploy(&manifest, &[]).await;
                *fail.0.lock().unwrap() = None;
                closed(&world).await;
                assert_eq!(*watched.forgotten.lock().unwrap(), []);
                world.engine.maintain("tiny", None, who()).await.unwrap();
                open(&world).await;
                world.engine.shutdown(true).await;
            });
            failing
                .await
                .unwrap_or_else(|error| panic!("{strategy}, {step}: {error}"));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_are_served_and_asking_again_changes_who() {
    let (world, _) = watched(&Arc::default()).await;
    succeed(&world, MANIFEST).await;
    let maintain = |request| world.engine.maintain("tiny", request, who());
    let first = maintain(request("back at <5>", &["192.0.2.0/24"])).await;
    let since = first.unwrap().maintenance.unwrap().since;
    closed(&world).await;
    for _ in 0..2 {
        let on = maintain(request("soon", &["127.0.0.0/8", "::1"])).await;
        let on = on.unwrap().maintenance.unwrap();
        assert_eq!(on.since, since);
        assert_eq!(on.allow, ["127.0.0.0/8", "::1/128"]);
        open(&world).await;
    }
    for _ in 0..2 {
        assert_eq!(maintain(None).await.unwrap().maintenance, None);
        open(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let (world, _) = watched(&Arc::default()).await;
    let on = request("soon", &[]);
    let unknown = world.engine.maintain("tiny", on.clone(), who()).await;
    assert_eq!(unknown.unwrap_err().code(), ErrorCode::NotFound);
    succeed(&world, MANIFEST).await;
    let refused = request("soon", &["10.0.0.1/8"]);
    let refused = world.engine.maintain("tiny", refused, who()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Invalid);
    assert!(refused.hint().unwrap().contains("10.0.0.0/8"));

    let manifest = MANIFEST.replace("pre_start = \"true\"", "pre_start = \"sleep 60\"");
    let deploy = world.upload(&manifest, &[]).await;
    let events = world.engine.deploy("tiny", deploy, who()).await.unwrap();
    let busy = world.engine.maintain("tiny", on, who()).await;
    assert!(matches!(busy, Err(EngineError::Busy { .. })), "{busy:?}");
    world.engine.cancel("tiny", None, who()).await.unwrap();
    all(events).await;
    open(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_the_router_did_not_hear_is_kept() {
    let fail = Arc::default();
    let (world, watched) = watched(&fail).await;
    succeed(&world, MANIFEST).await;
    watched.fails.store(true, Ordering::SeqCst);
    let on = request("back at <5>", &[]);
    let failed = world.engine.maintain("tiny", on.clone(), who()).await;
    assert!(matches!(failed, Err(EngineError::Route(_))), "{failed:?}");
    open(&world).await;
    let mut made = None;
    let world = world
        .restarted_with(|_| {}, |stack| watch(stack, &fail, &mut made))
        .await;
    world.until(AppState::Running).await;
    closed(&world).await;
    let watched = made.unwrap();
    watched.fails.store(true, Ordering::SeqCst);
    let failed = world.engine.maintain("tiny", None, who()).await;
    assert!(matches!(failed, Err(EngineError::Route(_))), "{failed:?}");
    watched.fails.store(false, Ordering::SeqCst);
    world.engine.maintain("tiny", None, who()).await.unwrap();
    open(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_app_comes_back_without_it() {
    let (world, _) = watched(&Arc::default()).await;
    succeed(&world, MANIFEST).await;
    let on = request("back at <5>", &[]);
    world.engine.maintain("tiny", on, who()).await.unwrap();
    world.engine.remove("tiny", false, who()).await.unwrap();
    succeed(&world, MANIFEST).await;
    open(&world).await;
    assert_eq!(world.engine.status("tiny").unwrap().maintenance, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_t_be_read_is_not_overwritten() {
    let fail = Arc::default();
    let (world, _) = watched(&fail).await;
    succeed(&world, MANIFEST).await;
    let on = request("back at <5>", &[]);
    world.engine.maintain("tiny", on, who()).await.unwrap();
    let release = world.current();
    let file = |dirs: &Dirs| dirs.app(&"tiny".parse().unwrap()).desired();
    let right = std::fs::read_to_string(file(&world.dirs())).unwrap();
    let damage = |dirs: &Dirs| std::fs::write(file(dirs), "running = maybe").unwrap();
    let mut made = None;
    let world = world
        .restarted_with(damage, |stack| watch(stack, &fail, &mut made))
        .await;
    // It is seen at once.
    let [status] = &world.engine.apps()[..] else {
        panic!("the app is gone");
    };
    assert_eq!(status.name, "tiny");
    let down = world.until(AppState::Down).await;
    assert_eq!(down.release, release);
    let upload = world.upload(MANIFEST, &[]).await;
    let restarted = world.engine.restart("tiny", restart(), who()).await;
    let failures = [
        world.run(upload).await.unwrap_err(),
        restarted.err().unwrap(),
        world.engine.stop("tiny", who()).await.unwrap_err(),
    ];
    for error in failures {
        let report = vela_protocol::Report::of(&error).to_string();
        assert!(report.contains("desired.toml is damaged"), "{report}");
    }
    let uploads = std::fs::read_dir(world.dirs().staging()).unwrap();
    assert_eq!(uploads.count(), 0);
    let text = std::fs::read_to_string(file(&world.dirs())).unwrap();
    assert_eq!(text, "running = maybe");
    assert_eq!(world.instances().await.len(), 1);

    std::fs::write(file(&world.dirs()), right).unwrap();
    succeed(&world, MANIFEST).await;
    closed(&world).await;
    assert!(world.engine.status("tiny").unwrap().maintenance.is_some());
    assert_eq!(world.instances().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_just_removed_leaves_no_wish_for_the_next() {
    let fail = Arc::default();
    let (world, _) = watched(&fail).await;
    succeed(&world, MANIFEST).await;
    let app = |dirs: &Dirs| dirs.app(&"tiny".parse().unwrap());
    // A removal that was interrupted, and can't be finished as long as this is in its way.
    let interrupt = |dirs: &Dirs| {
        let desired = app(dirs).desired();
        let text = std::fs::read_to_string(&desired).unwrap();
        std::fs::write(desired, format!("removing = \"keep\"\n{text}")).unwrap();
        std::fs::remove_file(app(dirs).derived()).unwrap();
        std::fs::create_dir(app(dirs).derived()).unwrap();
    };
    let mut made = None;
    let world = world
        .restarted_with(interrupt, |stack| watch(stack, &fail, &mut made))
        .await;
    let on = request("back at <5>", &[]);
    let failed = world.engine.maintain("tiny", on.clone(), who()).await;
    assert!(
        matches!(failed, Err(EngineError::Prepare { .. })),
        "{failed:?}"
    );
    std::fs::remove_dir(app(&world.dirs()).derived()).unwrap();
    let refused = world.engine.maintain("tiny", on, who()).await;
    assert!(
        matches!(refused, Err(EngineError::NoSuchApp { .. })),
        "{refused:?}"
    );
    assert!(!app(&world.dirs()).desired().exists());
    succeed(&world, MANIFEST).await;
    open(&world).await;
}

/// It is not put into anybody's care by this, and its processes are not touched.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_can_t_be_restored_says_why() {
    let fail = Arc::default();
    let (world, _) = watched(&fail).await;
    succeed(&world, MANIFEST).await;
    let release = world.current().unwrap().parse().unwrap();
    let file = |dirs: &Dirs| {
        let app = dirs.app(&"tiny".parse().unwrap());
        app.meta(release).join("manifest.toml")
    };
    let right = std::fs::read_to_string(file(&world.dirs())).unwrap();
    let damage = |dirs: &Dirs| std::fs::write(file(dirs), "app = 1").unwrap();
    let mut made = None;
    let world = world
        .restarted_with(damage, |stack| watch(stack, &fail, &mut made))
        .await;
    let on = request("back at <5>", &[]);
    for _ in 0..2 {
        let failed = world.engine.maintain("tiny", on.clone(), who()).await;
        let report = vela_protocol::Report::of(&failed.unwrap_err());
        let report = report.to_string();
        assert!(report.contains("manifest.toml is damaged"), "{report}");
        assert_eq!(world.instances().await.len(), 1);
    }
    std::fs::write(file(&world.dirs()), right).unwrap();
    world.engine.maintain("tiny", on, who()).await.unwrap();
    closed(&world).await;
    world.engine.maintain("tiny", None, who()).await.unwrap();
    world.until(AppState::Running).await;
    open(&world).await;
    assert_eq!(world.instances().await.len(), 1);
}
