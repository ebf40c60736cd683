//! What `make fuzz` runs is what the crates' own tests run on their corpora.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn each_target_is_a_program_for_libfuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut expected = BTreeMap::new();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        let entry = entry.unwrap();
        let Ok(corpus) = fs::read_dir(entry.path().join("tests/corpus")) else {
            continue;
        };
        let package = entry.file_name().into_string().unwrap().replace('-', "_");
        for target in corpus {
            let name = target.unwrap().file_name().into_string().unwrap();
            let program = format!(
                "#![no_main]\n\nlibfuzzer_sys::fuzz_target!(\
                 |bytes: &[u8]| {package}::fuzzing::run(\"{name}\", bytes));\n"
            );
            let other = expected.insert(name.clone(), program);
            assert_eq!(other, None, "two crates have a target {name}");
        }
    }
    assert!(!expected.is_empty());

    let fuzz = root.join("fuzz");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(fuzz.join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        found.insert(name, fs::read_to_string(path).unwrap());
    }
    assert_eq!(found, expected);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in expected.keys() {
        let bin = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&bin), "{name} is not in fuzz/Cargo.toml");
    }
}
