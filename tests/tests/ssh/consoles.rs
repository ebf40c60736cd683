//! A console of a service from a laptop runs on the server: the credentials stay there.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use vela_tests::{Output, Release, Sshd, World};

use super::{NO_FORWARDING, shop, sshd};

async fn console(sshd: &Sshd, release: &Release, words: &[&str], input: &str) -> Output {
    let mut command = sshd.command();
    command.args(["-m", release.manifest().to_str().unwrap()]);
    command.args(["services", "console"]).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output());
    ended.await.unwrap().unwrap().into()
}

#[tokio::test]
async fn a_console_runs_on_the_server_with_the_app_s_credentials() {
    let world = World::new().await;
    for config in ["", NO_FORWARDING] {
        let sshd = sshd(config);
        let release = shop(&sshd.address(&world.socket()), "[services.nats]");
        sshd.deploy(&release).await.expect(0);
        let said = console(
            &sshd,
            &release,
            &["nats"],
            "sub shop.x\npub shop.x it's $HOME\n",
        )
        .await;
        assert_eq!(said.expect(0).stdout, "shop.x: it's $HOME\n");
        // What the server says comes back, with its exit code.
        let none = console(&sshd, &release, &["postgres", "shop"], "")
            .await
            .expect(1);
        let said = "error: the current release of `shop` asks for no postgres";
        assert!(none.stderr.contains(said), "{none:?}");
    }
}
