//! The direction of dependency between the crates: a leaf knows nothing of another, and a client pulls no engine.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

/// What each crate may depend on, of this workspace.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("vela-protocol", &[]),
    ("vela-manifest", &[]),
    ("vela-release", &[]),
    ("vela-health", &[]),
    ("vela-supervisor", &[]),
    ("vela-proxy", &[]),
    ("vela-services", &[]),
    (
        "vela-deploy",
        &[
            "vela-health",
            "vela-manifest",
            "vela-protocol",
            "vela-proxy",
            "vela-release",
            "vela-services",
            "vela-supervisor",
        ],
    ),
    ("vela-control", &["vela-deploy", "vela-protocol"]),
    (
        "vela-cli",
        &[
            "vela-control",
            "vela-deploy",
            "vela-manifest",
            "vela-protocol",
            "vela-proxy",
            "vela-release",
            "vela-supervisor",
        ],
    ),
];

#[test]
fn crates_depend_downwards_only() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| package.publish.is_none())
    {
        let normal = package
            .dependencies
            .iter()
            .filter(|one| one.kind != DependencyKind::Development);
        let own = normal
            .map(|one| one.name.clone())
            .filter(|name| name.starts_with("vela-"));
        found.insert(package.name.to_string(), own.collect());
    }
    for (name, allowed) in ALLOWED {
        let dependencies = found
            .remove(name)
            .unwrap_or_else(|| panic!("there is no crate {name}"));
        let forbidden: Vec<_> = dependencies
            .iter()
            .filter(|one| !allowed.contains(&one.as_str()))
            .collect();
        assert!(
            forbidden.is_empty(),
            "{name} must not depend on {forbidden:?}"
        );
    }
    assert!(
        found.is_empty(),
        "crates without a place in the architecture: {:?}",
        found.keys()
    );
}

/// What `vela-control` pulls for a client alone, by a resolve with its default features.
#[test]
fn a_client_pulls_no_engine() {
    let manifest = format!(
        "{}/../crates/vela-control/Cargo.toml",
        env!("CARGO_MANIFEST_DIR")
    );
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .features(CargoOpt::NoDefaultFeatures)
        .features(CargoOpt::SomeFeatures(vec!["client".to_owned()]))
        .exec()
        .unwrap();
    let control = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "vela-control")
        .unwrap();
    assert!(
        control.features["client"]
            .iter()
            .all(|feature| !feature.contains("vela-deploy")),
        "the feature `client` pulls the engine"
    );
    assert!(
        control
            .dependencies
            .iter()
            .any(|one| one.name == "vela-deploy" && one.optional),
        "the engine must be optional"
    );
}
