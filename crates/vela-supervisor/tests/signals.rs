//! What a program that ignores signals starts: a test program of its own, run once more with signals ignored.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::process::Command;

use vela_supervisor::test_util::script;
use vela_supervisor::{InProcess, ShimCommand, ShimSupervisor, Stop, Supervisor};

/// Set for the run that ignores signals, as in the background of a shell.
const DEAF: &str = "VELA_SUPERVISOR_DEAF";

/// Two signals of the C library's own, which nobody else can set; something above this test may ignore them.
const PRIVATE: u64 = 0b11 << 31;

/// A bit for each signal that a process ignores.
fn ignored(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    u64::from_str_radix(bits.unwrap().trim(), 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_hears_what_its_supervisor_ignores() {
    if std::env::var_os(DEAF).is_none() {
        // TSTP is one that a shim forwards to nobody.
        let deaf = Command::new("/bin/sh")
            .args(["-c", "trap '' INT HUP QUIT TSTP; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "an_instance_hears_what_its_supervisor_ignores"])
            .env(DEAF, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&deaf.stdout);
        assert!(deaf.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    assert_eq!(ignored("self") & 0b111, 0b111);
    let dir = tempfile::tempdir().unwrap();
    let shim = ShimCommand {
        program: env!("CARGO_BIN_EXE_vela-shim").into(),
        args: vec![],
    };
    let under_shims = ShimSupervisor::open(dir.path().join("run"), shim)
        .await
        .unwrap();
    let supervisors: [&dyn Supervisor; 2] = [&InProcess::new(), &under_shims];
    for supervisor in supervisors {
        let instance = supervisor
            .start(script(dir.path(), "exec sleep 1000"))
            .await
            .unwrap();
        let ignored = ignored(&instance.pid.to_string());
        supervisor.stop(&instance.id, &Stop::now()).await.unwrap();
        assert_eq!(ignored & !PRIVATE, 0);
    }
}
