//! Secrets on their way to the daemon and to the app.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::io::AsyncWriteExt;
use vela_tests::{Sshd, World, get};

use super::{HOST, NO_FORWARDING, released, shop, sshd};

const SECRET: &str = "correct horse battery staple";

#[tokio::test]
async fn a_secret_is_in_no_process_table() {
    for (config, ssh) in [("", "own"), (NO_FORWARDING, "own"), ("", "system")] {
        let (world, sshd) = (World::new().await, sshd(config));
        let server = sshd.address(&world.socket());
        let deploy = "[env]\nPASSWORD = \"${secret:KEY}\"";
        let release = shop(&server, deploy);
        let watch = Watch::start();
        set(&sshd, &server, ssh).await;
        released(
            sshd.finish(sshd.deploying(&release).env("VELA_SSH", ssh))
                .await,
        );
        let seen = watch.stop();
        // It has seen who might have shown it, and that is not only the command itself.
        let saw = |words: &str| seen.iter().any(|line| line.contains(words));
        let socket = world.socket();
        let socket = socket.display();
        let set = format!(" secret set --app shop KEY -s {server} ");
        assert!(saw(&set), "{seen:#?}");
        assert!(saw(" demo-app "), "{seen:#?}");
        let joins = (config, ssh) != ("", "own");
        let join = format!("vela join --socket {socket}");
        assert_eq!(saw(&join), joins, "{seen:#?}");
        let shown: Vec<_> = seen.iter().filter(|line| line.contains(SECRET)).collect();
        assert!(shown.is_empty(), "{shown:#?}");
        let log = world.daemon_log() + &sshd.log();
        assert!(!log.contains(SECRET), "{log}");
        // The app has it all the same.
        let (_, env) = get(world.http(), HOST, "/env").await;
        assert!(env.contains(SECRET), "{env}");
    }
}

async fn set(sshd: &Sshd, server: &str, ssh: &str) {
    let mut command = sshd.command();
    command
        .args(["secret", "set", "--app", "shop", "KEY", "-s", server])
        .env("VELA_SSH", ssh)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = command.spawn().unwrap();
    let mut stdin = command.stdin.take().unwrap();
    stdin.write_all(SECRET.as_bytes()).await.unwrap();
    drop(stdin);
    let output = command.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains(SECRET));
}

/// Reads the command lines of all processes again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap() {
                    let line = entry.unwrap().path().join("cmdline");
                    // Most entries are of no process, or of one that is gone by now.
                    if let Ok(words) = std::fs::read(line) {
                        seen.insert(String::from_utf8_lossy(&words).replace('\0', " "));
                    }
                }
            }
            seen
        });
        Watch { stop, thread }
    }

    /// Every command line that there was.
    fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
