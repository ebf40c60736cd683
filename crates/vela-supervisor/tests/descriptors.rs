//! Open files, which all tests of one process share: a test program of its own.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::net::TcpListener;

use vela_supervisor::test_util::{next_exit, script};
use vela_supervisor::{InstanceSpec, ShimCommand, ShimSupervisor, Stop, Supervisor};

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_neither_inherited_nor_leaked() {
    let dir = tempfile::tempdir().unwrap();
    // As a careless host would leave it: open beyond exec.
    let leak = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let port = leak.local_addr().unwrap().port();
    let shim = ShimCommand {
        program: env!("CARGO_BIN_EXE_vela-shim").into(),
        args: vec![],
    };
    let supervisor = ShimSupervisor::open(dir.path().join("run"), shim)
        .await
        .unwrap();
    let long = script(dir.path(), "exec sleep 1000");
    supervisor.start(long.clone()).await.unwrap();
    drop(leak);
    // Neither the shim nor the instance holds it: the port is free at once.
    drop(TcpListener::bind(("127.0.0.1", port)).unwrap());

    let mut events = supervisor.watch();
    let mut before = 0;
    for round in 0..25 {
        supervisor.start(script(dir.path(), "exit")).await.unwrap();
        next_exit(&mut events).await;
        let failing = InstanceSpec {
            program: "/no/such".into(),
            ..script(dir.path(), "")
        };
        supervisor.start(failing).await.unwrap_err();
        if round == 4 {
            before = open_files();
        }
    }
    // The last shims may still be about to be reaped; a leak would be twenty or more.
    let after = open_files();
    assert!(after < before + 10, "{before} became {after}");
    supervisor.stop(&long.id, &Stop::now()).await.unwrap();
}
