use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use uuid::Uuid;
use vela_protocol::{DeployRequest, Event, Serving, Step};
use vela_release::pack;
use vela_tests::{Options, Release, World};

use super::{expect_undone, manifest, serving};

/// What the command says of an artifact without asking a server: its error and its hint.
async fn refused_here(release: &Release, artifact: &str) -> String {
    let world = World::stopped(Options::default());
    let manifest = release.manifest();
    let output = world
        .vela(&["deploy", "-m", manifest.to_str().unwrap(), artifact])
        .await
        .expect(1);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.ends_with("\nnothing was changed\n"),
        "{output:?}"
    );
    output.stderr
}

#[tokio::test]
async fn an_artifact_that_can_not_run_is_refused_before_it_is_sent() {
    let release = Release::script(&manifest(""), "true");
    let files = release.files();
    let at = |name: &str| files.join(name).to_str().unwrap().to_owned();

    let error = refused_here(&release, &at("none")).await;
    assert!(
        error.starts_with(&format!(
            "error: the artifact {} does not exist\n",
            at("none")
        )),
        "{error}"
    );
    std::fs::create_dir(at("hollow")).unwrap();
    let error = refused_here(&release, &at("hollow")).await;
    assert!(
        error.starts_with(&format!("error: the artifact {} is empty\n", at("hollow"))),
        "{error}"
    );
    std::fs::create_dir(at("other")).unwrap();
    std::fs::write(at("other/Run"), "x").unwrap();
    std::fs::write(at("other/README"), "x").unwrap();
    let error = refused_here(&release, &at("other")).await;
    assert!(
        error.contains("the release has no `run`; found: README, Run\nhint: did you mean `Run`?\n"),
        "{error}"
    );
    let run = at("run");
    let error = {
        std::fs::set_permissions(&run, Permissions::from_mode(0o644)).unwrap();
        refused_here(&release, files.to_str().unwrap()).await
    };
    assert!(
        error.contains("the entrypoint `run` is not executable\nhint: chmod +x run"),
        "{error}"
    );
    let error = refused_here(&release, &run).await;
    assert!(
        error.starts_with(&format!(
            "error: the entrypoint {run} is not executable: its mode is 644\nhint: `chmod +x {run}`\n"
        )),
        "{error}"
    );
    std::fs::write(&run, "").unwrap();
    let error = refused_here(&release, &run).await;
    assert!(
        error.starts_with(&format!("error: the artifact {run} is empty\n")),
        "{error}"
    );
    let error = refused_here(&release, &at("other/README")).await;
    assert!(
        error.contains("lacks the entrypoint `run`: it is the single file `README`\nhint: "),
        "{error}"
    );
    // A link out of the release, and what is no file at all.
    std::fs::remove_file(&run).unwrap();
    symlink("/bin/sh", &run).unwrap();
    let error = refused_here(&release, files.to_str().unwrap()).await;
    assert!(
        error.contains("the entrypoint `run` is not inside the release"),
        "{error}"
    );
    let error = refused_here(&release, "/dev/null").await;
    assert!(
        error.contains("/dev/null is neither a file nor a directory"),
        "{error}"
    );
}

/// How the daemon ends the deploy of a directory that no client of ours would have sent; `spoil` changes the request.
async fn refused_there(
    world: &World,
    release: &Release,
    spoil: impl FnOnce(&mut DeployRequest),
) -> String {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let out = std::fs::File::create(archive.path()).unwrap();
    let packed = pack(&release.files(), out, &mut |_| {}).unwrap();
    let (client, upload) = (world.client(), Uuid::new_v4());
    client
        .upload_file(upload, archive.path(), |_| {})
        .await
        .unwrap();
    let mut request = DeployRequest {
        deploy: Uuid::new_v4(),
        upload,
        build: false,
        size: packed.size,
        sha256: packed.sha256.to_string(),
        manifest: manifest(""),
        git: None,
        message: None,
        client: None,
    };
    spoil(&mut request);
    let events = client.deploy("shop", &request).await.unwrap();
    let events: Vec<_> = futures::StreamExt::collect(events).await;
    let Some(Ok(last)) = events.into_iter().next_back() else {
        panic!("no event")
    };
    let Event::Failed {
        step,
        error,
        serving,
        ..
    } = last.event
    else {
        panic!("{last:?}")
    };
    assert_eq!(step, Some(Step::Unpack));
    let current = world.current("shop").unwrap();
    assert_eq!(serving, Serving::Previous { release: current });
    format!("{error} {:?}", error.hint)
}

#[tokio::test]
async fn the_daemon_refuses_what_another_client_sends() {
    let (world, serving) = serving().await;
    let release = Release::script(&manifest(""), "true");
    let error = refused_there(&world, &release, |request| request.size += 1).await;
    assert!(error.contains("the artifact has "), "{error}");
    let error = refused_there(&world, &release, |request| request.sha256 = "00".repeat(32)).await;
    assert!(
        error.contains(&format!("instead of {}", "00".repeat(32))),
        "{error}"
    );
    expect_undone(&world, Some(&serving)).await;

    let run = release.files().join("run");
    std::fs::set_permissions(&run, Permissions::from_mode(0o644)).unwrap();
    let error = refused_there(&world, &release, |_| {}).await;
    assert!(
        error.contains(
            "the release has no usable entrypoint: the entrypoint `run` is not executable"
        ),
        "{error}"
    );
    std::fs::rename(&run, release.files().join("rum")).unwrap();
    let error = refused_there(&world, &release, |_| {}).await;
    assert!(
        error.contains("the release has no `run`; found: rum Some(\"did you mean `rum`?\")"),
        "{error}"
    );
    expect_undone(&world, Some(&serving)).await;
}

#[tokio::test]
async fn a_program_for_another_machine_is_named_with_the_reason() {
    let (world, serving) = serving().await;
    let release = Release::script(&manifest(""), "true");
    for (contents, reason) in [
        (
            "#!/no/such/interpreter\n",
            "the interpreter or loader that it names does not",
        ),
        (
            "\u{7f}ELF, but not of this machine",
            "it is built for another machine",
        ),
        (
            "echo no line for the kernel\n",
            "a script without a `#!` line",
        ),
    ] {
        release.write("run", contents);
        let output = world.deploy(&release).await.expect(3);
        assert!(
            output
                .stderr
                .contains("error: the deploy of `shop` failed at start\n"),
            "{output:?}"
        );
        assert!(output.stderr.contains("/run\n"), "{output:?}");
        assert!(output.stderr.contains(reason), "{output:?}");
    }
    expect_undone(&world, Some(&serving)).await;
}
