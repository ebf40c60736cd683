//! What the documents claim is there: each test that they name exists, and each line of the lifecycle names one.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

use std::path::{Path, PathBuf};

/// A test that a document names, as `path/of/file.rs::name`.
#[derive(Debug, PartialEq)]
struct Named<'a> {
    file: &'a str,
    test: &'a str,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file of the repository's documentation, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![
        root().join("README.md"),
        root().join("ARCHITECTURE.md"),
        root().join("CONTRIBUTING.md"),
    ];
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    paths.extend(docs.map(|entry| entry.unwrap().path()));
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The tests that a text names in backticks.
fn named(text: &str) -> Vec<Named<'_>> {
    let quoted = text.split('`').skip(1).step_by(2);
    let tests = quoted.filter_map(|quoted| {
        let (file, test) = quoted.split_once(".rs::")?;
        let file = &quoted[..file.len() + 3];
        Some(Named { file, test })
    });
    tests.collect()
}

/// Whether a text has a test of that name, ignored ones not counted.
fn has_test(text: &str, test: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let heads = ["fn ", "async fn "].map(|head| format!("{head}{test}("));
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#') || line.starts_with("//"));
        heads.iter().any(|head| line.starts_with(head))
            && attributes
                .clone()
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
            && !attributes.clone().any(|line| line.starts_with("#[ignore"))
    })
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut count = 0;
    for (path, text) in documents() {
        for named in named(&text) {
            let file = root().join(named.file);
            let code = std::fs::read_to_string(&file)
                .unwrap_or_else(|error| panic!("{}: {named:?}: {error}", path.display()));
            assert!(
                has_test(&code, named.test),
                "{}: there is no such test: {named:?}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count > 50, "only {count} tests are named");
}

#[test]
fn every_line_of_the_lifecycle_names_a_test() {
    let text = std::fs::read_to_string(root().join("docs/lifecycle.md")).unwrap();
    let (_, proof) = text.split_once("\n## What shows it\n").unwrap();
    let rows = proof.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows
        .filter(|row| !row.starts_with("| ---") && !row.starts_with("| what "))
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        assert!(!named(row).is_empty(), "nothing shows: {row}");
    }
}

/// A document without a way to it is read by nobody.
#[test]
fn every_link_between_documents_leads_somewhere() {
    for (path, text) in documents() {
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = path.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", path.display());
        }
    }
}

/// Code that nobody compiles is soon wrong.
#[test]
fn the_code_in_each_crate_s_readme_is_compiled() {
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
        if !readme.contains("\n```rust") {
            continue;
        }
        assert!(!readme.contains("\n```rust,ignore"), "{}", dir.display());
        let manual = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        let included = "#[cfg(doctest)]\n#[doc = include_str!(\"../README.md\")]\n";
        assert!(manual.contains(included), "{}", dir.display());
        count += 1;
    }
    assert!(count > 5, "only {count} have any");
}

#[test]
fn what_is_no_test_is_told_from_one() {
    let text = "#[tokio::test(flavor = \"x\")]\n// why\nasync fn one() {}\n#[test]\nfn two() {}\nfn three() {}\n\
                #[test]\n#[ignore = \"no\"]\nfn four() {}\n";
    let found = ["one", "two", "three", "four", "on"].map(|name| has_test(text, name));
    assert_eq!(found, [true, true, false, false, false]);
    let expected = Named {
        file: "tests/a.rs",
        test: "b",
    };
    assert_eq!(named("x `no` y `tests/a.rs::b`, `a.rs`"), [expected]);
}
