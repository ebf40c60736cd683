use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use vela_protocol::{Event, Hook, Step};
use vela_tests::{Deploy, World, children_of, is_alive, kill};

use super::{App, Duration, built, eventually, started, stopped};

/// The name server of these tests, and of nobody else on this machine.
struct NameServer {
    port: u16,
}

impl NameServer {
    fn new() -> NameServer {
        let free = TcpListener::bind("0.0.0.0:0").unwrap();
        NameServer {
            port: free.local_addr().unwrap().port(),
        }
    }

    fn app(&self, name: &str) -> App {
        App::named(name)
            .deploy("stop_timeout = 60")
            .deploy("post_deploy = \"bin/my_app rpc 'IO.puts(node())'\"")
            .env("RELEASE_DISTRIBUTION = \"sname\"")
            .env(&format!("ERL_EPMD_PORT = {}", self.port))
    }

    /// Its process, if somebody has started it.
    fn pid(&self) -> Option<u32> {
        let port = self.port.to_string();
        let mut found = children_of("ERL_EPMD_PORT", &port);
        found.retain(|pid| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe"));
            program.is_ok_and(|program| program.to_string_lossy().contains("/epmd"))
        });
        assert!(found.len() < 2, "{found:?}");
        found.pop()
    }

    /// The nodes that it knows.
    fn names(&self) -> Vec<String> {
        let mut erts = std::fs::read_dir(built()).unwrap();
        let erts = erts.find_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("erts-").then(|| path.clone())
        });
        let program: PathBuf = erts.unwrap().join("bin/epmd");
        let output = Command::new(program)
            .args(["-port", &self.port.to_string(), "-names"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("name "));
        let mut names: Vec<_> = names
            .map(|rest| rest.split(' ').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }
}

/// The node of the instance that a deploy started, without its host.
fn node(app: &App, deploy: &Deploy) -> String {
    format!("{}-{}", app.name, started(deploy).1)
}

fn printed(deploy: &Deploy) -> Vec<String> {
    let lines = deploy.events().filter_map(|event| match event {
        Event::HookPrinted { hook, line, .. } if *hook == Hook::PostDeploy => Some(line.clone()),
        _ => None,
    });
    lines.collect()
}

fn parent_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn nodes_have_names_of_their_own_and_share_a_name_server_that_no_instance_owns() {
    let mut world = World::new().await;
    let names = NameServer::new();
    let (one, two) = (names.app("one"), names.app("two"));
    let first = one.serve(&world).await;
    let name_server = names.pid().expect("the first node starts it");
    // By now it is in the tree of the first instance, or was started by the call of its hook.
    let shims = vela_tests::shims_of(world.data_dir());
    assert!(
        shims.contains(&parent_of(name_server)) || parent_of(name_server) == 1,
        "{}",
        parent_of(name_server)
    );
    let other = two.serve(&world).await;
    assert_eq!(names.names(), [node(&one, &first), node(&two, &other)]);

    // Each hook has reached its own node.
    for (app, deploy) in [(&one, &first), (&two, &other)] {
        let said = app.get(&world, "/node").await;
        assert!(
            said.starts_with(&format!("{}@", node(app, deploy))),
            "{said}"
        );
        assert_eq!(printed(deploy), [said]);
    }

    // Both nodes of an app are there at a time. The old one's stop does not wait for what it had started.
    let second = one.serve(&world).await;
    let (_, exit) = stopped(&second).unwrap();
    assert_eq!(exit, "exited with code 0");
    assert!(second.took(Step::Stop) < Duration::from_secs(40));
    assert_eq!(names.pid(), Some(name_server));
    assert_eq!(names.names(), [node(&one, &second), node(&two, &other)]);
    assert_eq!(printed(&second), [one.get(&world, "/node").await]);

    // Nor does a daemon that comes back take it for something that was left over.
    let pids = [world.status("one").await.pid, world.status("two").await.pid];
    world.kill_daemon().await;
    world.start(&[]).await;
    for (app, pid) in ["one", "two"].into_iter().zip(pids) {
        eventually("the app", async || {
            let status = world.status(app).await;
            (status.health.as_deref() == Some("healthy") && status.pid == pid).then_some(())
        })
        .await;
    }
    assert_eq!(names.pid(), Some(name_server));
    world.vela(&["stop", "one"]).await.expect(0);
    assert_eq!(names.names(), [node(&two, &other)]);
    for app in ["one", "two"] {
        world.vela(&["remove", app, "--yes"]).await.expect(0);
    }
    assert_eq!(names.names(), [""; 0]);
    assert!(is_alive(name_server));
    kill(name_server, Signal::KILL);
}

#[tokio::test]
async fn without_distribution_nobody_starts_a_name_server() {
    let world = World::new().await;
    let names = NameServer::new();
    let app = App::new()
        .deploy("pre_start = \"bin/my_app eval 'MyApp.Release.migrate()'\"")
        .env(&format!("ERL_EPMD_PORT = {}", names.port));
    app.serve(&world).await;
    app.serve(&world).await;
    assert_eq!(app.get(&world, "/node").await, "nonode@nohost");
    assert_eq!(names.pid(), None);
    assert!(TcpListener::bind(("0.0.0.0", names.port)).is_ok());
}
