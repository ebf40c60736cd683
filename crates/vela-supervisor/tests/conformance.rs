//! Both supervisors pass the suite of the trait.

use vela_supervisor::{InProcess, ShimCommand, ShimSupervisor, test_util};

#[tokio::test(flavor = "multi_thread")]
async fn in_process() {
    let dir = tempfile::tempdir().unwrap();
    test_util::conformance(&InProcess::new(), dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shim() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = tempfile::tempdir().unwrap();
    let shim = ShimCommand {
        program: env!("CARGO_BIN_EXE_vela-shim").into(),
        args: vec![],
    };
    let supervisor = ShimSupervisor::open(run_dir.path(), shim).await.unwrap();
    test_util::conformance(&supervisor, dir.path()).await;
    let left: Vec<_> = std::fs::read_dir(run_dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}
