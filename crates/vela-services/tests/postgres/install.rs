//! Programs that are missing: through a fake apt, and through the real one where it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;
use vela_services::{Installer, Provisioner, ServiceError, ServiceSpec};

use crate::world::{World, app, chain, owner};

/// Where Debian reads whether its package makes a server of its own.
const SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// There is one such directory on a machine.
static SETTINGS_IN_USE: Mutex<()> = Mutex::const_new(());

fn version(version: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.version = Some(version.into());
    spec
}

/// A program in the place of `apt-get`.
fn fake_apt(world: &World, script: &str) -> (Installer, PathBuf) {
    let program = world.dir.path().join("apt-get");
    fs::write(
        &program,
        format!("#!/bin/sh\ncd {}\n{script}", world.dir.path().display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = world.dir.path().join("etc/createcluster.d");
    let installer = Installer::apt().program(program).settings(settings.clone());
    (installer, settings)
}

/// What a missing version is, told by its parts.
async fn missing(
    world: &World,
    installer: Installer,
    version: ServiceSpec,
) -> (String, Vec<String>, ServiceError) {
    let postgres = world
        .again()
        .programs(vec![world.dir.path().join("programs")])
        .installer(installer);
    let error = postgres.ensure(&owner("mine"), &version).await.unwrap_err();
    let ServiceError::NotInstalled {
        command, output, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    (command.clone(), output.clone(), error)
}

#[tokio::test]
async fn what_apt_installs_is_used() {
    let world = World::new();
    // Installs links to the programs that are here, the second time: at first it knows nothing.
    let (installer, settings) = fake_apt(
        &world,
        "echo \"$@\" $DEBIAN_FRONTEND >> asked; cat etc/createcluster.d/*.conf >> settings\n\
         case \"$*\" in *update*) touch updated;; *) \
         test -e updated || { echo 'E: Unable to locate package postgresql-15' >&2; exit 100; }\n\
         mkdir -p programs/15; ln -s /usr/lib/postgresql/15/bin programs/15/bin;; esac",
    );
    let postgres = world
        .again()
        .programs(vec![world.dir.path().join("programs")])
        .installer(installer);
    let bindings = postgres
        .ensure(&owner("mine"), &version("15.2"))
        .await
        .unwrap();
    app(&bindings).await.unwrap();

    let asked = fs::read_to_string(world.dir.path().join("asked")).unwrap();
    let asked: Vec<_> = asked.lines().collect();
    let install = "install -y --no-install-recommends postgresql-15 noninteractive";
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(
        asked[0].ends_with(install) && asked[2].ends_with(install),
        "{asked:?}"
    );
    assert!(asked[1].ends_with("update noninteractive"), "{asked:?}");
    let during = fs::read_to_string(world.dir.path().join("settings")).unwrap();
    assert_eq!(during.matches("create_main_cluster = false").count(), 3);
    assert!(
        !settings.exists(),
        "it is gone with the directory that was made for it"
    );
    world.end().await;
}

#[tokio::test]
async fn a_failing_apt_is_quoted_with_the_command() {
    let world = World::new();
    let fails = "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done\n\
        echo 'E: No space left on device' >&2; exit 100";
    let (installer, settings) = fake_apt(&world, fails);
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("mine.conf"), "ssl = off\n").unwrap();
    let (command, output, error) = missing(&world, installer, version("99")).await;
    assert_eq!(
        command,
        "apt-get install -y --no-install-recommends postgresql-99"
    );
    assert_eq!(output.len(), 20, "{output:?}");
    assert_eq!(output.last().unwrap(), "E: No space left on device");
    assert_eq!(
        chain(&error),
        "`postgres` is not installed in version 99: apt-get install -y \
         --no-install-recommends postgresql-99: exit status: 100"
    );
    let left: Vec<_> = fs::read_dir(&settings).unwrap().collect();
    assert_eq!(left.len(), 1, "the operator's file stays, and ours is gone");

    let (installer, _) = fake_apt(&world, "sleep 1000");
    let installer = installer.timeout(Duration::from_millis(200));
    let (_, _, error) = missing(&world, installer, version("99")).await;
    assert!(
        chain(&error).ends_with("apt-get took longer than 200ms"),
        "{}",
        chain(&error)
    );

    let none = Installer::apt().program(Path::new("/no/such/apt-get").into());
    let none = none.settings(settings);
    let (command, _, error) = missing(&world, none, ServiceSpec::default()).await;
    assert_eq!(
        command,
        "apt-get install -y --no-install-recommends postgresql"
    );
    assert!(
        chain(&error).contains("/no/such/apt-get"),
        "{}",
        chain(&error)
    );
    let (_, output, _) = missing(&world, Installer::never(), version("99")).await;
    assert!(output.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_version_that_the_distribution_lacks_says_where_to_get_it() {
    let _alone = SETTINGS_IN_USE.lock().await;
    let world = World::new();
    let (command, output, error) = missing(&world, Installer::apt(), version("99")).await;
    let said = output.join("\n");
    assert!(
        said.contains("Unable to locate package postgresql-99"),
        "{said}"
    );
    assert!(command.contains("apt.postgresql.org.sh"), "{command}");
    assert!(command.ends_with("apt-get install -y --no-install-recommends postgresql-99"));
    assert!(chain(&error).contains("PGDG"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains(&command));
    assert!(
        !Path::new(SETTINGS)
            .join("vela-no-main-cluster.conf")
            .exists()
    );
    world.end().await;
}

/// Debian's own tool reads what is written while a package is installed.
#[tokio::test]
async fn debian_reads_that_it_is_to_make_no_server() {
    let _alone = SETTINGS_IN_USE.lock().await;
    let world = World::new();
    let (installer, _) = fake_apt(
        &world,
        "pg_conftool /etc/postgresql-common/createcluster.conf show -bs create_main_cluster\n\
         exit 1",
    );
    let installer = installer.settings(SETTINGS.into());
    let (_, output, _) = missing(&world, installer, version("99")).await;
    assert_eq!(output, ["off"]);
    world.end().await;
}
