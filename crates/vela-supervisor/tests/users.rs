//! Making system users, which only root can do.

use std::path::Path;
use std::process::Command;

use vela_supervisor::users::{ensure_system_user, lookup};

#[test]
fn makes_a_user_once() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let name = format!("vela-test-{}", std::process::id());
    let home = Path::new("/nonexistent/vela test");
    let threads = [(); 2].map(|()| {
        let name = name.clone();
        std::thread::spawn(move || ensure_system_user(&name, home))
    });
    let made = threads.map(|thread| thread.join().unwrap());
    let found = lookup(&name).unwrap();
    let removed = Command::new("userdel").arg(&name).output().unwrap();
    let [Ok(one), Ok(two)] = made else {
        panic!("{made:?}")
    };
    assert_eq!(one, two);
    assert_eq!(
        (one.name.as_str(), one.home.as_path()),
        (name.as_str(), home)
    );
    assert!(one.uid > 0 && one.uid < 1000, "a system user");
    assert_eq!(found, Some(one));
    assert!(removed.status.success());
    assert_eq!(lookup(&name).unwrap(), None);
}
