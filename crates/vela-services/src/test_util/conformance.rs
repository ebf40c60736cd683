use std::pin::pin;
use std::task::{Context, Waker};

use secrecy::ExposeSecret;

use crate::{Bindings, OwnerName, Provisioner, ServiceSpec};

/// What every [`Provisioner`] must do. `spec` is to be one that it can fulfil.
///
/// # Panics
///
/// If it breaks the contract.
pub async fn conformance(provisioner: &dyn Provisioner, spec: &ServiceSpec) {
    let owner = |name| OwnerName::parse(name).expect("a valid name");
    let (one, other) = (owner("conformance-one"), owner("conformance-other"));
    let ensure = async |owner: &OwnerName| {
        provisioner
            .ensure(owner, spec)
            .await
            .expect("the spec can be fulfilled")
    };

    // To look changes nothing, not even for one who has nothing.
    let look = async || {
        let owners = async || {
            let servers = provisioner.status().await.expect("a status");
            let owners = servers.into_iter().flat_map(|server| server.owners);
            owners.collect::<Vec<_>>()
        };
        let before = owners().await;
        let found = provisioner
            .bindings(&one, spec)
            .await
            .expect("one may look");
        assert_eq!(owners().await, before, "to look changes nothing");
        found
    };
    look().await;

    // An owner that never had it has nothing to lose.
    for purge in [false, true] {
        provisioner
            .remove(&one, purge)
            .await
            .expect("nothing to remove is no error");
    }

    let first = ensure(&one).await;
    assert!(!first.is_empty(), "a service gives variables");
    for (name, value) in &first {
        assert!(is_variable_name(name), "`{name}` can be a variable's name");
        assert!(
            !value.expose_secret().contains('\0'),
            "`{name}` has a value for a variable"
        );
    }
    assert_same(&first, &ensure(&one).await);
    let found = look().await.expect("what was ensured is there to look at");
    assert_same(&first, &found);

    // Dropped in the middle, it can be done again.
    drop(pin!(provisioner.ensure(&one, spec)).poll(&mut Context::from_waker(Waker::noop())));
    assert_same(&first, &ensure(&one).await);

    // Owners at the same time do not disturb each other.
    tokio::join!(ensure(&one), ensure(&other));
    assert_same(&first, &ensure(&one).await);

    for _ in 0..2 {
        provisioner.resume().await.expect("resume can be repeated");
    }
    assert_same(&first, &ensure(&one).await);

    let debug = format!("{provisioner:?}{spec:?}{first:?}");
    for (name, value) in first.iter().filter(|(name, _)| name.contains("PASSWORD")) {
        assert!(
            !debug.contains(value.expose_secret()),
            "`{name}` is not shown"
        );
    }
    assert!(!debug.contains("://"), "no url is shown");

    for purge in [false, false, true, true] {
        provisioner
            .remove(&one, purge)
            .await
            .expect("remove can be repeated");
        look().await;
    }
    ensure(&other).await;
    assert!(
        ensure(&one).await.keys().eq(first.keys()),
        "it can be had again"
    );
    for owner in [&one, &other] {
        provisioner
            .remove(owner, true)
            .await
            .expect("everything can be removed");
    }
}

fn assert_same(first: &Bindings, second: &Bindings) {
    assert!(
        first.keys().eq(second.keys()),
        "the same variables each time"
    );
    for (name, value) in first {
        let again = second[name].expose_secret();
        assert!(
            value.expose_secret() == again,
            "the same value for `{name}` each time"
        );
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
