//! Whom the command trusts, and who trusts it.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vela_tests::{Output, Sshd, World, keygen};

use super::{apps, expect_unreachable, released, shop};

#[tokio::test]
async fn an_unknown_server_is_refused_and_stays_unknown() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let release = shop(&sshd.address(&world.socket()), "");
    fs::remove_file(sshd.known_hosts()).unwrap();
    let fingerprint = fingerprint(&sshd);
    let unknown = format!(
        "the ssh-ed25519 key of [127.0.0.1]:{} is unknown: {fingerprint}",
        sshd.port()
    );
    let hint = "compare the fingerprint and accept it with `ssh ";
    let deploy = sshd.deploy(&release).await;
    assert!(
        deploy.stderr.ends_with("\nnothing was changed\n"),
        "{deploy:?}"
    );
    expect_unreachable(deploy, &unknown, hint);
    assert!(!sshd.known_hosts().exists());
    // Another server's key vouches for nobody else.
    let other = "[127.0.0.2]:22 ".to_owned() + &fs::read_to_string(sshd.path("id.pub")).unwrap();
    fs::write(sshd.known_hosts(), &other).unwrap();
    expect_unreachable(apps(&sshd, &world).await, &unknown, hint);
    assert_eq!(fs::read_to_string(sshd.known_hosts()).unwrap(), other);
    assert_eq!(world.client().apps().await.unwrap(), []);
}

#[tokio::test]
async fn a_server_with_another_key_than_the_known_one_is_refused() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let release = shop(&sshd.address(&world.socket()), "");
    let v1 = released(sshd.deploy(&release).await);
    keygen(&sshd.path("former_key"));
    let former = fs::read_to_string(sshd.path("former_key.pub")).unwrap();
    let known = format!("# reinstalled?\n[127.0.0.1]:{} {former}", sshd.port());
    fs::write(sshd.known_hosts(), &known).unwrap();
    let changed = format!(
        "the ssh-ed25519 key of [127.0.0.1]:{} is not the known one: {}",
        sshd.port(),
        fingerprint(&sshd)
    );
    let place = format!("remove {}:2 ", sshd.known_hosts().display());
    expect_unreachable(sshd.deploy(&release).await, &changed, &place);
    assert_eq!(fs::read_to_string(sshd.known_hosts()).unwrap(), known);
    // Whoever asks on a terminal is not asked whether it is fine.
    let (asked, output) = on_terminal(&sshd, &world, None).await;
    assert!(!asked, "{output:?}");
    output.expect(4);
    assert_eq!(fs::read_to_string(sshd.known_hosts()).unwrap(), known);
    assert_eq!(world.current("shop"), Some(v1));
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_refused() {
    let (world, sshd) = (World::new().await, Sshd::new());
    let key = sshd.path("id");
    for file in ["id", "id.pub"] {
        fs::remove_file(sshd.path(file)).unwrap();
    }
    keygen(&key);
    let refused = format!(
        "127.0.0.1 lets {} in with none of the keys tried: {} (refused)",
        sshd.user(),
        key.display()
    );
    let release = shop(&sshd.address(&world.socket()), "");
    expect_unreachable(sshd.deploy(&release).await, &refused, "`ssh-add`");
    // Nor is it let in with none.
    fs::remove_file(key).unwrap();
    let none = "with none of the keys tried: there were none";
    let output = apps(&sshd, &world).await;
    assert!(output.stderr.contains(none), "{output:?}");
    output.expect(4);
    assert_eq!(world.client().apps().await.unwrap(), []);
}

#[tokio::test]
async fn on_a_terminal_the_user_decides_once() {
    let (world, sshd) = (World::new().await, Sshd::new());
    fs::remove_file(sshd.known_hosts()).unwrap();
    for no in ["n\r", "\r"] {
        let (asked, output) = on_terminal(&sshd, &world, Some(no)).await;
        assert!(asked, "{output:?}");
        assert!(output.stdout.contains(&fingerprint(&sshd)), "{output:?}");
        output.expect(4);
        assert!(!sshd.known_hosts().exists());
    }
    let (asked, output) = on_terminal(&sshd, &world, Some("y\r")).await;
    assert!(asked, "{output:?}");
    output.expect(0);
    let key = fs::read_to_string(sshd.path("host_key.pub")).unwrap();
    let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let known = fs::read_to_string(sshd.known_hosts()).unwrap();
    let line = format!("[127.0.0.1]:{} {key}\n", sshd.port());
    assert_eq!(known, line);
    // From then on nobody is asked.
    let (asked, output) = on_terminal(&sshd, &world, None).await;
    assert!(!asked, "{output:?}");
    output.expect(0);
    apps(&sshd, &world).await.expect(0);
    assert_eq!(fs::read_to_string(sshd.known_hosts()).unwrap(), line);
}

/// Runs `vela apps` on a terminal of its own and types an answer once it is asked; whether it was.
async fn on_terminal(sshd: &Sshd, world: &World, answer: Option<&str>) -> (bool, Output) {
    let vela = format!(
        "exec '{}' apps -s '{}'",
        env!("CARGO_BIN_EXE_vela-under-test"),
        sshd.address(&world.socket())
    );
    let mut script = sshd.run("script");
    script
        .args(["--quiet", "--return", "--flush", "--command", &vela])
        .arg("/dev/null")
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut script = script.spawn().expect("`script` is there");
    let mut keyboard = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let (mut shown, mut asked) = (Vec::new(), false);
    let run = async {
        while screen.read_buf(&mut shown).await.unwrap() > 0 {
            let prompt = b"Trust it from now on?";
            if !asked && shown.windows(prompt.len()).any(|seen| seen == prompt) {
                asked = true;
                let answer = answer.expect("there is nothing to ask");
                keyboard.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        script.wait().await.unwrap()
    };
    let status = timeout(Duration::from_secs(60), run).await;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let status = status.unwrap_or_else(|_| panic!("it does not end: {shown}"));
    let output = Output {
        code: status.code().unwrap_or(-1),
        stdout: shown,
        stderr: String::new(),
    };
    (asked, output)
}

/// The server's, as `ssh` shows it.
fn fingerprint(sshd: &Sshd) -> String {
    let output = std::process::Command::new("ssh-keygen")
        .arg("-lf")
        .arg(sshd.path("host_key.pub"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}
