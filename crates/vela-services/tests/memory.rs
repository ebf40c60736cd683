//! The in-memory provisioner is one, and does what tests need it for.

use secrecy::{ExposeSecret, SecretString};
use vela_services::test_util::{Call, MemoryProvisioner, conformance};
use vela_services::{OwnerName, Provisioner, ServiceSpec};

#[tokio::test]
async fn it_passes_the_suite_of_every_provisioner() {
    conformance(&MemoryProvisioner::new(), &ServiceSpec::default()).await;

    let given = ServiceSpec::existing(SecretString::from("memory://elsewhere"));
    conformance(&MemoryProvisioner::new(), &given).await;
}

#[tokio::test]
async fn it_records_and_fails_when_told_to() {
    let memory = MemoryProvisioner::new();
    let owner = OwnerName::parse("my-app").unwrap();
    memory.fail_next(1);

    let error = memory
        .ensure(&owner, &ServiceSpec::default())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "`memory` at memory is not usable");
    assert!(memory.owners().is_empty());

    let bindings = memory
        .ensure(&owner, &ServiceSpec::default())
        .await
        .unwrap();
    assert_eq!(bindings["MEMORY_URL"].expose_secret(), "memory://my-app");
    assert!(memory.owners().contains(&owner));

    memory.remove(&owner, true).await.unwrap();
    assert!(memory.owners().is_empty());
    let ensured = Call::Ensure(owner.clone());
    assert_eq!(
        memory.calls(),
        [
            ensured.clone(),
            ensured,
            Call::Remove { owner, purge: true }
        ]
    );
}
