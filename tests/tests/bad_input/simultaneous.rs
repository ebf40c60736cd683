use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use vela_protocol::{Operation, Step};
use vela_tests::{Long, MANIFEST, Output, Release, World, get};

use super::{
    HOST, begin, end, eventually, exists, expect_in_order, expect_undone, manifest, manifest_of,
    serving,
};

/// What answers `at once`, also where something else is compiled at the same time.
const AT_ONCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_domain_is_one_apps() {
    let (world, shop) = serving().await;
    let taken = manifest_of("blog", "").replace("blog.localhost", HOST);
    let output = world.deploy(&Release::demo_app(&taken, "")).await.expect(1);
    expect_in_order(
        &output.stderr,
        &[
            "error: the domain shop.localhost belongs to the app `shop`\n",
            "hint: choose another domain or `path`, or remove that app with `vela remove shop`\n",
        ],
    );
    let apps = world.vela(&["apps", "--json"]).await.expect(0).json();
    assert_eq!(apps.as_array().unwrap().len(), 1, "{apps}");
    assert!(!world.app_dir("blog").exists());

    // Neither as an alias, nor in capital letters, of an app that has another domain.
    let own = Release::demo_app(&manifest_of("blog", ""), "");
    world.deploy(&own).await.expect(0);
    let blog = world.current("blog").unwrap();
    own.set_manifest(&manifest_of("blog", "").replace(
        "\n\n[deploy]",
        "\naliases = [\"www.blog.localhost\", \"SHOP.localhost\"]\n\n[deploy]",
    ));
    let output = world.deploy(&own).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: the domain shop.localhost belongs to the app `shop`\n",
            &format!("`blog` still serves {blog}\n"),
        ],
    );
    // None of the names was claimed: another app may have the alias.
    let www = manifest_of("press", "").replace("press.localhost", "www.blog.localhost");
    world.deploy(&Release::demo_app(&www, "")).await.expect(0);
    assert!(get(world.http(), HOST, "/").await.1.starts_with(&shop));
    assert!(
        get(world.http(), "blog.localhost", "/")
            .await
            .1
            .starts_with(&blog)
    );

    // The names of an app that is removed are free, and so is the one that a deploy gives up.
    world.vela(&["remove", "shop", "--yes"]).await.expect(0);
    world.deploy(&Release::demo_app(&taken, "")).await.expect(0);
    let given_up = manifest_of("shop", "").replace(HOST, "blog.localhost");
    world
        .deploy(&Release::demo_app(&given_up, ""))
        .await
        .expect(0);
}

/// A release whose deploy waits until the test lets it go on.
fn waiting() -> Release {
    let hook = "health = \"/health\"\npre_start = \"touch $VELA_DATA_DIR/reached; until [ -e $VELA_DATA_DIR/go ]; do sleep 0.01; done\"";
    Release::demo_app(&manifest(hook), "")
}

#[tokio::test]
async fn a_second_operation_is_told_who_holds_the_app_and_since_when() {
    let (world, old) = serving().await;
    let release = waiting();
    let mut command = world.command();
    command
        .args(["deploy", "-m"])
        .arg(release.manifest())
        .arg(release.files())
        .env("USER", "alice")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let before = SystemTime::now();
    let first = command.spawn().unwrap();
    let data = world.app_dir("shop").join("data");
    exists(&data.join("reached")).await;

    let status = world.status("shop").await;
    let holder = status.deploying.clone().unwrap();
    assert_eq!(holder.operation, Operation::Deploy);
    assert_eq!(holder.step, Some(Step::PreStart));
    assert_eq!(holder.by.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(holder.by.client.as_ref().unwrap().starts_with("alice@"));
    assert!(SystemTime::from(holder.since) >= before);
    assert!(SystemTime::from(holder.since) <= SystemTime::now());

    let files = release.files();
    let manifest = release.manifest();
    for args in [
        &[
            "deploy",
            "-m",
            manifest.to_str().unwrap(),
            files.to_str().unwrap(),
        ][..],
        &["rollback", "shop", "--to", &old],
        &["restart", "shop"],
        &["stop", "shop"],
        &["remove", "shop", "--yes"],
    ] {
        let began = Instant::now();
        let output = world.vela(args).await.expect(5);
        assert!(began.elapsed() < AT_ONCE, "{args:?}");
        assert_eq!(output.stdout, "");
        expect_in_order(
            &output.stderr,
            &[
                &format!(
                    "error: `shop` is busy: deploy by {} since {}",
                    holder.by, holder.since
                ),
                "hint: ",
                "`vela cancel shop`",
            ],
        );
    }
    let json = world.vela(&["restart", "shop", "--json"]).await.expect(5);
    assert!(json.stderr.contains("\"exit\":5"), "{json:?}");
    let text = world.vela(&["status", "shop"]).await.expect(0).stdout;
    expect_in_order(&text, &["busy      deploy by ", ", at pre_start\n"]);

    // Nobody disturbed it.
    std::fs::write(data.join("go"), "").unwrap();
    end(first).await.expect(0);
    assert_ne!(world.current("shop"), Some(old));
}

#[tokio::test]
async fn another_client_can_cancel() {
    let (world, old) = serving().await;
    let release = waiting();
    let first = begin(&world, &release);
    exists(&world.app_dir("shop").join("data/reached")).await;
    let mut cancel = world.command();
    let cancel = cancel.args(["cancel", "shop"]).env("USER", "bob").output();
    Output::from(cancel.await.unwrap()).expect(0);
    let output = end(first).await.expect(3);
    expect_in_order(
        &output.stderr,
        &[
            "error: the deploy of `shop` was cancelled by ",
            " (bob@",
            &format!("`shop` still serves {old}\n"),
        ],
    );
    expect_undone(&world, Some(&old)).await;
    let nothing = world.vela(&["cancel", "shop"]).await.expect(1);
    assert!(
        nothing
            .stderr
            .contains("no operation of `shop` is in progress"),
        "{nothing:?}"
    );
}

#[tokio::test]
async fn nobody_waits_for_an_app_that_drains() {
    let world = World::new().await;
    let patient = MANIFEST.replace("drain = 2", "drain = 600");
    let shop = Release::demo_app(&patient, "");
    world.deploy(&shop).await.expect(0);
    let blog = Release::demo_app(&manifest_of("blog", "health = \"/health\""), "");
    world.deploy(&blog).await.expect(0);
    let mut stream = Long::get(world.http(), HOST, "/sse?ms=600000").await;
    stream.until(b"tick").await;

    let deploy = begin(&world, &shop);
    let drains = async || {
        let status = world.status("shop").await;
        let step = status.deploying.and_then(|busy| busy.step);
        (step == Some(Step::Drain)).then_some(())
    };
    eventually("the drain", drains).await;
    let at_once = async |args: &[&str]| -> Output {
        let began = Instant::now();
        let output = world.vela(args).await.expect(0);
        assert!(began.elapsed() < AT_ONCE, "{args:?}: {:?}", began.elapsed());
        output
    };
    let status = at_once(&["status", "shop"]).await;
    assert!(status.stdout.contains(", at drain\n"), "{status:?}");
    for args in [
        &["apps"][..],
        &["status", "blog"],
        &["history", "shop"],
        &["releases", "shop"],
        &["logs", "shop"],
        &["secret", "list", "--app", "shop"],
    ] {
        at_once(args).await;
    }
    // The work on another app goes on as well, and requests are answered by the new release.
    world.deploy(&blog).await.expect(0);
    assert!(
        get(world.http(), HOST, "/")
            .await
            .1
            .starts_with(&world.current("shop").unwrap())
    );
    assert!(
        drains().await.is_some(),
        "it drained while all that was done"
    );
    drop(stream);
    let output = end(deploy).await.expect(0);
    assert!(!output.stderr.contains("had not ended"), "{output:?}");
}
