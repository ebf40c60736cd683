//! Whom an SSH connection trusts, and with what it logs in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use vela_control::{Ask, HostKey, NeverAsk, Ssh2Transport, SshOptions, Transport, TransportError};

use crate::support::{Sshd, StubDaemon, keygen};

/// Answers as the test says, and notes what it was asked.
#[derive(Debug, Default)]
struct Answers {
    trust: bool,
    passphrase: Option<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl Ask for Answers {
    fn trust(&self, key: &HostKey) -> bool {
        self.asked
            .lock()
            .unwrap()
            .push(format!("{} {}", key.kind, key.fingerprint));
        self.trust
    }

    fn passphrase(&self, key_file: &Path) -> Option<SecretString> {
        self.asked
            .lock()
            .unwrap()
            .push(key_file.display().to_string());
        self.passphrase.map(Into::into)
    }
}

struct World {
    sshd: Sshd,
    daemon: StubDaemon,
}

impl World {
    fn new() -> World {
        World {
            sshd: Sshd::start(""),
            daemon: StubDaemon::start(),
        }
    }

    fn known_hosts(&self, text: &str) {
        fs::write(self.sshd.path("known_hosts"), text).unwrap();
    }

    async fn connect(&self, options: SshOptions, ask: Arc<dyn Ask>) -> Result<(), TransportError> {
        let target = self.sshd.target(&self.daemon.socket());
        Ssh2Transport::new(target, options, ask)
            .connect()
            .await
            .map(drop)
    }

    async fn connects(&self) -> Result<(), TransportError> {
        self.connect(self.sshd.options(), Arc::new(NeverAsk)).await
    }

    fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.sshd.path("host_key.pub"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_known_key_is_taken_in_all_its_spellings() {
    let world = World::new();
    world.connects().await.unwrap();
    let line = world.sshd.known_line();
    let host = format!("[127.0.0.1]:{}", world.sshd.port);
    for spelling in ["*", "127.0.0.1", "[127.0.0.*]:*,!other"] {
        world.known_hosts(&line.replace(&host, spelling));
        world.connects().await.expect(spelling);
    }
    world.known_hosts(&line);
    let hashed = Command::new("ssh-keygen")
        .arg("-Hf")
        .arg(world.sshd.path("known_hosts"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(hashed.success());
    assert!(
        fs::read_to_string(world.sshd.path("known_hosts"))
            .unwrap()
            .starts_with("|1|")
    );
    world.connects().await.unwrap();
}

#[tokio::test]
async fn an_unknown_key_is_refused_unless_the_user_says_otherwise() {
    let world = World::new();
    world.known_hosts("");
    let error = world.connects().await.unwrap_err();
    assert!(
        matches!(error, TransportError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&world.fingerprint()), "{error}");
    assert_eq!(
        fs::read_to_string(world.sshd.path("known_hosts")).unwrap(),
        ""
    );

    let ask = Arc::new(Answers {
        trust: true,
        ..Answers::default()
    });
    world
        .connect(world.sshd.options(), ask.clone())
        .await
        .unwrap();
    let asked = format!("ssh-ed25519 {}", world.fingerprint());
    assert_eq!(*ask.asked.lock().unwrap(), [asked]);
    // It is remembered: nobody is asked again.
    world.connects().await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_refuses_unknown_keys_is_obeyed() {
    let world = World::new();
    world.known_hosts("");
    fs::write(
        world.sshd.path("config"),
        "IdentityAgent none\nStrictHostKeyChecking yes\n",
    )
    .unwrap();
    let ask = Arc::new(Answers {
        trust: true,
        ..Answers::default()
    });
    let error = world
        .connect(world.sshd.options(), ask.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransportError::HostKeyUnknown { .. }),
        "{error:?}"
    );
    assert!(ask.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_changed_key_is_refused_and_nobody_is_asked() {
    let world = World::new();
    keygen(&world.sshd.path("other"), "ed25519", "");
    let other = fs::read_to_string(world.sshd.path("other.pub")).unwrap();
    world.known_hosts(&format!("[127.0.0.1]:{} {other}", world.sshd.port));
    let ask = Arc::new(Answers {
        trust: true,
        ..Answers::default()
    });
    let error = world
        .connect(world.sshd.options(), ask.clone())
        .await
        .unwrap_err();
    let TransportError::HostKeyChanged { known, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(
        *known,
        format!("{}:1", world.sshd.path("known_hosts").display())
    );
    assert!(ask.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_revoked_key_and_an_authority_are_refused() {
    let world = World::new();
    let line = world.sshd.known_line();
    let (_, key) = line.split_once(' ').unwrap();
    world.known_hosts(&format!("{line}@revoked * {key}"));
    let error = world.connects().await.unwrap_err();
    assert!(
        matches!(error, TransportError::HostKeyRevoked { .. }),
        "{error:?}"
    );
    world.known_hosts(&format!("@cert-authority * {key}"));
    let error = world.connects().await.unwrap_err();
    assert!(
        matches!(error, TransportError::HostKeyAuthority { .. }),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("VELA_SSH=system"));
}

#[tokio::test]
async fn a_server_with_several_keys_is_asked_for_the_known_one() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = dir.path().join("rsa");
    keygen(&rsa, "rsa", "");
    let world = World {
        sshd: Sshd::start(&format!("HostKey {}", rsa.display())),
        daemon: StubDaemon::start(),
    };
    let public = fs::read_to_string(dir.path().join("rsa.pub")).unwrap();
    world.known_hosts(&format!("[127.0.0.1]:{} {public}", world.sshd.port));
    world.connects().await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_named() {
    let world = World::new();
    keygen(&world.sshd.path("wrong"), "ed25519", "");
    let wrong = world.sshd.path("wrong");
    let options = SshOptions {
        identity_files: vec![wrong.clone(), world.sshd.path("missing")],
        ..world.sshd.options()
    };
    fs::write(
        world.sshd.path("config"),
        "IdentityAgent none\nIdentityFile none\n",
    )
    .unwrap();
    let error = world
        .connect(options, Arc::new(NeverAsk))
        .await
        .unwrap_err();
    let TransportError::Auth { tried, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*tried, [format!("{} (refused)", wrong.display())]);
}

fn authorize(world: &World, name: &str) -> PathBuf {
    let public = world.sshd.path(&format!("{name}.pub"));
    fs::copy(public, world.sshd.path("authorized_keys")).unwrap();
    world.sshd.path(name)
}

#[tokio::test]
async fn keys_of_every_usual_kind() {
    let world = World::new();
    for kind in ["rsa", "ecdsa"] {
        keygen(&world.sshd.path(kind), kind, "");
        let options = SshOptions {
            identity_files: vec![authorize(&world, kind)],
            ..world.sshd.options()
        };
        world
            .connect(options, Arc::new(NeverAsk))
            .await
            .expect(kind);
    }
}

#[tokio::test]
async fn a_passphrase_is_asked_for_where_there_is_one() {
    let world = World::new();
    keygen(&world.sshd.path("locked"), "ed25519", "correct horse");
    let key = authorize(&world, "locked");
    let options = || SshOptions {
        identity_files: vec![key.clone()],
        ..world.sshd.options()
    };
    let right = Arc::new(Answers {
        passphrase: Some("correct horse"),
        ..Answers::default()
    });
    world.connect(options(), right.clone()).await.unwrap();
    assert_eq!(*right.asked.lock().unwrap(), [key.display().to_string()]);
    for passphrase in [None, Some("wrong")] {
        let ask = Arc::new(Answers {
            passphrase,
            ..Answers::default()
        });
        let error = world.connect(options(), ask).await.unwrap_err();
        assert!(matches!(error, TransportError::Auth { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn the_agent_is_asked_for_its_keys() {
    let world = World::new();
    let socket = world.sshd.path("agent");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let add = || {
        Command::new("ssh-add")
            .arg("-q")
            .arg(world.sshd.path("id"))
            .env("SSH_AUTH_SOCK", &socket)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    while !add() {
        assert!(agent.try_wait().unwrap().is_none(), "the agent runs");
    }
    let config = format!("IdentityAgent {}\nIdentityFile none\n", socket.display());
    fs::write(world.sshd.path("config"), config).unwrap();
    let options = SshOptions {
        identity_files: Vec::new(),
        ..world.sshd.options()
    };
    let result = world.connect(options, Arc::new(NeverAsk)).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    result.unwrap();
}
