use std::path::Path;

use uuid::Uuid;
use vela_control::ClientError;
use vela_protocol::{ApiError, DeployRequest, ErrorCode, RollbackRequest, SecretChange};
use vela_tests::{MANIFEST, Options, Release, World};

use super::{entries, expect_in_order, manifest, serving, vela_reading};

const WRONG: &str = r#"[app]
name = "../x"
domain = "shop.localhost"

[deploy]
drian = 5
health = "health"
drain = "soon"
"#;

#[tokio::test]
async fn every_problem_is_shown_with_its_line_and_a_caret() {
    let world = World::new().await;
    let release = Release::script(WRONG, "true");
    let path = release.manifest();
    let path = path.to_str().unwrap();
    for output in [
        world.vela(&["check", "-m", path]).await,
        world.deploy(&release).await,
        // Any command that reads it for the name of the app.
        world.vela(&["status", "-m", path]).await,
    ] {
        let output = output.expect(1);
        assert_eq!(output.stdout, "");
        expect_in_order(
            &output.stderr,
            &[
                &format!(
                    "error: {path}:2:8: `../x` cannot be an app's name: only a-z, 0-9 and `-` are allowed"
                ),
                "\n 2 | name = \"../x\"\n   |        ^^^^^^\n",
                &format!("{path}:6:1: unknown key `drian` in [deploy]\n"),
                "\n 6 | drian = 5\n   | ^^^^^\n   = hint: did you mean `drain`?\n",
                &format!("{path}:7:10: a health path starts with `/`\n"),
                "\n 7 | health = \"health\"\n   |          ^^^^^^^^\n   = hint: did you mean `/health`?\n",
                &format!("{path}:8:9: `soon` is not a duration\n"),
                "\n 8 | drain = \"soon\"\n   |         ^^^^^^\n   = hint: ",
            ],
        );
    }
    let check = world.vela(&["check", "--json", "-m", path]).await.expect(1);
    let places: Vec<_> = check.json()["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            (
                problem["line"].as_u64().unwrap(),
                problem["column"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(2, 8), (6, 1), (7, 10), (8, 9)]);
}

#[tokio::test]
async fn what_is_no_toml_is_shown_with_its_line_too() {
    let world = World::stopped(Options::default());
    let release = Release::script("[app]\nname = \"shop\n", "true");
    let output = world.deploy(&release).await.expect(1);
    expect_in_order(
        &output.stderr,
        &["Vela.toml:2:", " 2 | name = \"shop\n", "^"],
    );
}

#[tokio::test]
async fn keys_whose_time_has_not_come_are_refused_by_name() {
    let world = World::new().await;
    let later = "strategy = \"canary\"\ninstances = 3\n[resources]\nmemory = \"1G\"";
    let release = Release::script(&manifest(later), "true");
    let path = release.manifest();
    let check = world
        .vela(&["check", "-m", path.to_str().unwrap()])
        .await
        .expect(0);
    let deploy = world.deploy(&release).await.expect(1);
    for key in ["deploy.strategy", "deploy.instances", "resources.memory"] {
        assert!(check.stderr.contains(key), "{check:?}");
        assert!(deploy.stderr.contains(key), "{deploy:?}");
    }
    assert!(check.stdout.contains("`vela deploy` refuses 3 keys"));
    // The daemon does not rely on its clients for that.
    let error = refused(&world, "shop", &manifest(later)).await;
    assert_eq!(error.code, ErrorCode::Invalid, "{error:?}");
    assert!(
        error.report.message.contains("deploy.strategy"),
        "{error:?}"
    );
    assert_eq!(entries(&world.data_dir().join("apps")), [""; 0]);
}

#[tokio::test]
async fn an_unset_secret_is_an_error_whose_hint_helps() {
    let world = World::new().await;
    let manifest = format!("{MANIFEST}\n[env]\nTOKEN = \"${{secret:API_KEY}}\"\n");
    let release = Release::demo_app(&manifest, "");
    let output = world.deploy(&release).await.expect(1);
    assert!(
        output
            .stderr
            .contains("`TOKEN` in [env] needs the secret `API_KEY`, which is not set"),
        "{output:?}"
    );
    // The command in the hint, word for word.
    let hint = output.stderr.split("`vela ").nth(1).unwrap();
    let words: Vec<_> = hint.split('`').next().unwrap().split(' ').collect();
    vela_reading(&world, &words, "s3cr3t\n").await.expect(0);
    world.deploy(&release).await.expect(0);
}

/// Names that are paths, or look like something else to someone on the way.
const HOSTILE: [&str; 12] = [
    "../x",
    "..",
    ".",
    "a/b",
    "/etc",
    "shop/../blog",
    "shop\0",
    "shop\n",
    "Shop",
    "1shop",
    "shop-",
    "%2e%2e",
];

#[tokio::test]
async fn a_name_that_is_a_path_is_refused_everywhere() {
    let (world, release) = serving().await;
    for name in HOSTILE {
        if !name.contains('\0') {
            for command in ["status", "logs", "rollback", "restart", "stop", "remove"] {
                let output = world.vela(&[command, name]).await.expect(2);
                assert!(
                    output.stderr.contains("cannot be an app's name"),
                    "{output:?}"
                );
            }
        }
        // The daemon does not rely on its clients for that.
        let client = world.client();
        let set = [("KEY".to_owned(), "value".to_owned())].into();
        let change = SecretChange {
            set,
            remove: Vec::new(),
        };
        for error in [
            client.status(name).await.unwrap_err(),
            client.change_secrets(name, &change).await.unwrap_err(),
            client.remove(name, true).await.unwrap_err(),
        ] {
            let ClientError::Api(error) = error else {
                panic!("{name:?}: {error:?}")
            };
            let refused = [ErrorCode::Invalid, ErrorCode::NotFound];
            assert!(refused.contains(&error.code), "{name:?}: {error:?}");
        }
        let error = refused(&world, name, &manifest("")).await;
        assert!(
            [ErrorCode::Invalid, ErrorCode::NotFound].contains(&error.code),
            "{name:?}: {error:?}"
        );
    }
    // The name in the path is not the name in the manifest.
    let error = refused(&world, "blog", &manifest("")).await;
    assert_eq!(
        error.report.message,
        "the manifest names the app `shop`, the request `blog`"
    );
    for to in ["../../x", "..", "20260305-143022"] {
        let output = world
            .vela(&["rollback", "shop", "--to", to])
            .await
            .expect(1);
        assert!(
            output
                .stderr
                .contains(&format!("error: `shop` has no release {to}\n")),
            "{output:?}"
        );
        let request = RollbackRequest {
            deploy: Uuid::new_v4(),
            to: Some(to.to_owned()),
            hooks: false,
            client: None,
        };
        assert!(world.client().rollback("shop", &request).await.is_err());
    }
    assert_eq!(entries(&world.data_dir().join("apps")), ["shop"]);
    assert!(!Path::new("/etc/secrets").exists());
    super::expect_undone(&world, Some(&release)).await;
}

#[tokio::test]
async fn an_entrypoint_stays_inside_its_release() {
    let world = World::stopped(Options::default());
    for binary in ["../run", "/bin/sh", "bin/../../run"] {
        let manifest = manifest("").replace("\"run\"", &format!("{binary:?}"));
        let output = world
            .deploy(&Release::script(&manifest, "true"))
            .await
            .expect(1);
        expect_in_order(
            &output.stderr,
            &[
                "Vela.toml:6:10: ",
                &format!(" 6 | binary = {binary:?}\n"),
                "^",
            ],
        );
    }
}

/// Why the daemon itself refuses a deploy.
async fn refused(world: &World, app: &str, manifest: &str) -> ApiError {
    let request = DeployRequest {
        deploy: Uuid::new_v4(),
        upload: Uuid::new_v4(),
        build: false,
        size: 1,
        sha256: "00".repeat(32),
        manifest: manifest.to_owned(),
        git: None,
        message: None,
        client: None,
    };
    match world.client().deploy(app, &request).await {
        Err(ClientError::Api(error)) => error,
        other => panic!("{app:?}: {other:?}"),
    }
}
