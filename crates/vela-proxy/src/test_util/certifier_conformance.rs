use crate::acme::{Certifier, CertifierState};
use crate::{HostPattern, RouteId};

/// Checks the contract of [`Certifier`], whether or not it gets the certificates.
///
/// # Panics
/// When it is broken.
pub async fn check_certifier(certifier: &impl Certifier) {
    let (shop, blog) = (RouteId::new("shop"), RouteId::new("blog"));
    assert!(certifier.settled(&shop).await.is_none(), "an unknown route");
    assert!(certifier.renew(&shop).await.is_none(), "an unknown route");
    certifier.forget(&shop);

    certifier.want(&shop, &hosts(&["shop.test"]));
    certifier.want(&shop, &hosts(&["shop.test", "www.shop.test", "127.0.0.1"]));
    certifier.want(&shop, &hosts(&["shop.test", "www.shop.test", "127.0.0.1"]));
    let settled = certifier.settled(&shop).await.expect("a known route");
    let names: Vec<&str> = settled.names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["shop.test", "www.shop.test"], "the last word");
    assert_ne!(settled.state, CertifierState::Obtaining);
    let renewed = certifier.renew(&shop).await.expect("a known route");
    assert_ne!(renewed.state, CertifierState::Obtaining);

    certifier.want(&blog, &hosts(&["[::1]"]));
    let settled = certifier.settled(&blog).await.expect("a known route");
    assert_eq!(settled.state, CertifierState::NotNeeded, "no name");
    let status = certifier.status();
    let ids: Vec<&RouteId> = status.iter().map(|one| &one.id).collect();
    assert_eq!(ids, [&blog, &shop]);

    certifier.forget(&shop);
    certifier.forget(&shop);
    assert!(certifier.settled(&shop).await.is_none(), "forgotten");
    assert_eq!(certifier.status().len(), 1);
}

fn hosts(names: &[&str]) -> Vec<HostPattern> {
    let parse = |name: &&str| name.parse().expect("a host");
    names.iter().map(parse).collect()
}
