//! Uploads that do not arrive.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use vela_tests::{Output, Relay, Release, Sshd, World, kill};

use super::{NO_FORWARDING, released, shop, sshd};

/// What does not compress.
const BALLAST: usize = 8 << 20;
/// When it is cut, some of it has arrived and some has not.
const CUT_AFTER: usize = 2 << 20;

struct Cutting {
    world: World,
    sshd: Sshd,
    relay: Relay,
    release: Release,
    v1: String,
}

impl Cutting {
    /// An app that serves, and a larger release of it.
    async fn new(config: &str) -> Cutting {
        let (world, sshd) = (World::new().await, sshd(config));
        let relay = Relay::before(sshd.port()).await;
        sshd.reach_by(relay.port());
        let release = shop(&sshd.address(&world.socket()), "");
        let v1 = released(sshd.deploy(&release).await);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        });
        let noise: Vec<u8> = noise.take(BALLAST).collect();
        std::fs::write(release.files().join("ballast"), noise).unwrap();
        Cutting {
            world,
            sshd,
            relay,
            release,
            v1,
        }
    }

    /// Deploys until some of the upload has arrived, and no more of it does.
    async fn in_the_middle(&self) -> tokio::process::Child {
        let logins = self.relay.connections();
        self.relay.stall_after(CUT_AFTER);
        let deploy = self.sshd.deploying(&self.release).spawn().unwrap();
        self.relay.stalled().await;
        assert_eq!(self.relay.connections(), logins + 1);
        self.until("a part of the upload", || {
            let staged = self.staged();
            let size: u64 = staged.iter().map(|(_, size)| size).sum();
            staged.len() == 1 && size > 0 && size < BALLAST as u64
        })
        .await;
        deploy
    }

    /// What waits on the server to be deployed.
    fn staged(&self) -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(self.world.data_dir().join("staging")).unwrap();
        let entries = entries.filter_map(|entry| {
            let entry = entry.unwrap();
            // It may be gone by now.
            let size = entry.metadata().ok()?.len();
            Some((entry.file_name().into_string().unwrap(), size))
        });
        entries.collect()
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) {
        let began = Instant::now();
        while !reached() {
            let (staged, commands) = (self.staged(), self.sshd.commands());
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{what} never came: {staged:?}, {commands:?}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing of a cut upload is left, on disk or in the process table, and the next deploy is as good as any.
    async fn expect_no_trace(&self) {
        self.until("an empty staging", || self.staged().is_empty())
            .await;
        self.until("the end of remote commands", || {
            self.sshd.commands().is_empty()
        })
        .await;
        assert_eq!(self.world.current("shop").as_ref(), Some(&self.v1));
        let releases = self.world.names("shop", "releases");
        assert_eq!(releases, std::slice::from_ref(&self.v1));
        assert_eq!(self.world.names("shop", "history").len(), 1);

        let v2 = released(self.sshd.deploy(&self.release).await);
        assert_eq!(self.world.current("shop").as_ref(), Some(&v2));
        let ballast = format!("releases/{v2}/ballast");
        let ballast = std::fs::metadata(self.world.app_dir("shop").join(ballast));
        assert_eq!(ballast.unwrap().len(), BALLAST as u64);
        self.world.nothing_staged().await;
    }
}

#[tokio::test]
async fn a_cut_upload_leaves_nothing_behind() {
    for config in ["", NO_FORWARDING] {
        let cutting = Cutting::new(config).await;
        let deploy = cutting.in_the_middle().await;
        cutting.relay.go_down();
        let output = Output::from(deploy.wait_with_output().await.unwrap()).expect(4);
        assert_eq!(output.stdout, "");
        assert!(output.stderr.contains("\nerror: "), "{output:?}");
        assert!(
            output.stderr.ends_with("\nnothing was changed\n"),
            "{output:?}"
        );
        cutting.relay.come_up();
        cutting.expect_no_trace().await;
    }
}

#[tokio::test]
async fn the_upload_of_a_killed_client_leaves_nothing_behind() {
    let cutting = Cutting::new("").await;
    let mut deploy = cutting.in_the_middle().await;
    kill(deploy.id().unwrap(), Signal::KILL);
    deploy.wait().await.unwrap();
    cutting.relay.cut();
    cutting.expect_no_trace().await;
}

#[tokio::test]
async fn an_upload_that_is_cut_for_a_moment_is_made_again() {
    for config in ["", NO_FORWARDING] {
        let cutting = Cutting::new(config).await;
        let deploy = cutting.in_the_middle().await;
        cutting.relay.cut();
        let output = Output::from(deploy.wait_with_output().await.unwrap());
        let v2 = released(output);
        assert_eq!(cutting.world.current("shop"), Some(v2));
        assert_eq!(cutting.relay.connections(), 3);
        cutting
            .until("an empty staging", || cutting.staged().is_empty())
            .await;
    }
}

#[tokio::test]
async fn the_keys_of_a_connection_may_change_on_the_way() {
    for config in ["", NO_FORWARDING] {
        let often = "RekeyLimit 1M\nLogLevel DEBUG1";
        let cutting = Cutting::new(&format!("{config}\n{often}")).await;
        let changes = || cutting.sshd.log().matches("NEWKEYS received").count();
        let before = changes();
        let v2 = released(cutting.sshd.deploy(&cutting.release).await);
        assert_eq!(cutting.world.current("shop"), Some(v2));
        let changes = changes() - before;
        assert!(changes >= 3, "{changes}");
        assert_eq!(cutting.relay.connections(), 2);
    }
}
