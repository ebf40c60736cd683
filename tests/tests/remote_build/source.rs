//! What is uploaded is what is committed, and what is not is said.

use vela_tests::{commit_all, get, git};

use super::project::Project;

/// The demo's app, put into the release by whatever the build is.
fn shop(project: &Project, build: &str) {
    let vela = env!("CARGO_BIN_EXE_vela-under-test");
    project.write_script("run", &format!("exec '{vela}' demo-app"));
    project.manifest("shop", "binary = \"run\"", build);
}

#[tokio::test]
async fn what_is_not_committed_is_named_and_not_built() {
    let project = Project::new().await;
    shop(
        &project,
        "command = \"cat note; ls new* 2>&1; test -e .git || echo no .git\"",
    );
    project.write("note", "committed\n");
    let commit = project.commit();
    project.write("note", "changed\n");
    project.write("new-file", "");
    let deploy = project.deploy().await.expect(0);
    let said: Vec<_> = deploy.stderr.lines().collect();
    assert_eq!(
        said[0],
        "warning: uncommitted changes to 2 files are not deployed: note, new-file"
    );
    assert!(
        said[1].starts_with(&format!(
            "building commit {} on the server: `cat note",
            &commit[..12]
        )),
        "{deploy:?}"
    );
    assert!(said.contains(&"build | committed"), "{deploy:?}");
    assert!(said.contains(&"build | no .git"), "{deploy:?}");
    let releases = project.world.client().releases("shop").await.unwrap();
    assert_eq!(
        releases[0].git.as_ref(),
        Some(&commit),
        "and it is not `-dirty`"
    );
    let log = project.vela(&["logs", "shop", "--build"]).await.expect(0);
    assert!(log.stdout.contains(" out committed\n"), "{log:?}");

    // The manifest on disk counts, which is said.
    project.commit();
    let manifest = std::fs::read_to_string(project.path("Vela.toml")).unwrap();
    project.write(
        "Vela.toml",
        &manifest.replace("cat note;", "echo another command;"),
    );
    let deploy = project.deploy().await.expect(0);
    assert!(
        deploy
            .stderr
            .contains("warning: Vela.toml differs from that of commit "),
        "{deploy:?}"
    );
    assert!(
        deploy.stderr.contains("\nbuild | another command\n"),
        "{deploy:?}"
    );

    // Another commit, by its name.
    let deploy = project.vela(&["deploy", "--ref", &commit]).await.expect(0);
    assert!(!deploy.stderr.contains("uncommitted"), "{deploy:?}");
    assert!(
        deploy
            .stderr
            .contains(&format!("building commit {}", &commit[..12])),
        "{deploy:?}"
    );
    let deploy = project
        .vela(&["deploy", "--ref", "no-such-branch"])
        .await
        .expect(1);
    assert!(
        deploy
            .stderr
            .starts_with("error: there is no commit `no-such-branch`\n"),
        "{deploy:?}"
    );
    assert!(
        deploy.stderr.ends_with("\nnothing was changed\n"),
        "{deploy:?}"
    );
    let deploy = project
        .vela(&["deploy", "--ref", "main", "run"])
        .await
        .expect(2);
    assert!(
        deploy
            .stderr
            .contains("`--ref` is the commit that a remote build builds"),
        "{deploy:?}"
    );
}

#[tokio::test]
async fn an_artifact_is_deployed_as_it_is() {
    let project = Project::new().await;
    shop(&project, "command = \"false\"");
    let deploy = project.vela(&["deploy", "run"]).await.expect(0);
    assert!(!deploy.stderr.contains("build"), "{deploy:?}");
    assert_eq!(
        get(project.world.http(), "shop.localhost", "/").await.0,
        200
    );
    assert!(!project.world.app_dir("shop").join("build").exists());
    let none = project.vela(&["logs", "--build"]).await.expect(1);
    assert!(
        none.stderr.starts_with("error: `shop` has no build log\n"),
        "{none:?}"
    );
}

#[tokio::test]
async fn submodules_and_files_of_lfs_are_told() {
    let project = Project::new().await;
    let module = tempfile::tempdir().unwrap();
    std::fs::write(module.path().join("file"), "").unwrap();
    commit_all(module.path());
    shop(
        &project,
        "command = \"ls vendor/module | wc -l; cat model.bin\"",
    );
    project.write(
        "model.bin",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    );
    project.commit();
    let from = module.path().to_str().unwrap();
    git(
        project.root(),
        &["submodule", "--quiet", "add", from, "vendor/module"],
    );
    project.commit();
    let deploy = project.deploy().await.expect(0);
    for said in [
        "warning: 1 submodule not uploaded, for git archives none: vendor/module\n",
        "warning: 1 file of git LFS uploaded as pointers, without their contents: model.bin\n",
        "\nbuild | 0\n",
    ] {
        assert!(deploy.stderr.contains(said), "{said}: {deploy:?}");
    }
}

#[tokio::test]
async fn without_anything_committed_nothing_is_changed() {
    let project = Project::new().await;
    shop(&project, "");
    let refused = async |message: &str, hint: &str| {
        let deploy = project.deploy().await.expect(1);
        assert!(deploy.stderr.starts_with("error: "), "{deploy:?}");
        assert!(deploy.stderr.contains(message), "{deploy:?}");
        assert!(
            deploy.stderr.contains(&format!("\nhint: {hint}")),
            "{deploy:?}"
        );
        assert!(
            deploy.stderr.ends_with("\nnothing was changed\n"),
            "{deploy:?}"
        );
    };
    refused("is in no git repository", "`git init`").await;
    git(project.root(), &["init", "--quiet"]);
    refused("nothing is committed yet", "`git add` and `git commit`").await;
    project.commit();
    refused(
        "there is no `command` in [build], and neither a Cargo.toml nor a mix.exs",
        "say how it is built",
    )
    .await;

    // Nor with git nowhere to be found.
    let mut deploy = project.command(&["deploy"]);
    let deploy = deploy.env("PATH", "/nonexistent").output().await.unwrap();
    let deploy = vela_tests::Output::from(deploy).expect(1);
    assert!(
        deploy.stderr.starts_with("error: git is not installed"),
        "{deploy:?}"
    );
    assert_eq!(project.world.client().apps().await.unwrap(), []);
}

#[tokio::test]
async fn a_manifest_in_a_directory_has_that_directory_built() {
    let project = Project::new().await;
    shop(&project, "command = \"ls\"");
    project.write("above", "");
    for name in ["Vela.toml", "run"] {
        std::fs::create_dir_all(project.path("apps/shop")).unwrap();
        std::fs::rename(project.path(name), project.path("apps/shop").join(name)).unwrap();
    }
    project.commit();
    let deploy = project
        .vela(&["deploy", "-m", "apps/shop/Vela.toml"])
        .await
        .expect(0);
    let built: Vec<_> = deploy
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("build | "))
        .collect();
    assert_eq!(built, ["Vela.toml", "run"]);
}

#[tokio::test]
async fn check_and_init_say_how_it_would_be_built() {
    let project = Project::new().await;
    project.write("mix.exs", "");
    project.vela(&["init", "shop"]).await.expect(0);
    let written = std::fs::read_to_string(project.path("Vela.toml")).unwrap();
    assert!(
        written.contains("\n# command = \"mix deps.get --only prod && mix release --overwrite\"\n"),
        "{written}"
    );
    shop(&project, "");
    let check = project.vela(&["check"]).await.expect(0);
    assert!(
        check.stderr.contains("builds what is committed")
            || check.stderr.contains("build what is committed"),
        "{check:?}"
    );
    assert!(
        check
            .stderr
            .contains("(there is a mix.exs) makes _build/prod/rel/shop"),
        "{check:?}"
    );
    let json = project.vela(&["check", "--json"]).await.expect(0).json();
    assert_eq!(json["build"]["tool"], "Mix");
    assert_eq!(json["build"]["timeout_seconds"], 1800);
    std::fs::remove_file(project.path("mix.exs")).unwrap();
    let check = project.vela(&["check"]).await.expect(0);
    assert!(
        check
            .stderr
            .contains("warning: nothing can be built: there is no `command`"),
        "{check:?}"
    );
}
