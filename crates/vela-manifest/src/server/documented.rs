//! `docs/server.md` has every key of server.toml, and none that is not one.

use std::collections::BTreeSet;

use crate::document::asked_for;
use crate::server::config::ServerConfig;

/// The keys that the parser asks for in a text, as `proxy.limits.head`.
fn known(text: &str) -> BTreeSet<String> {
    let sections = asked_for(text, ServerConfig::read);
    let keys = sections.into_iter().flat_map(|(section, keys)| {
        let path = move |key: &str| match section.as_str() {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        keys.into_iter().map(path)
    });
    keys.collect()
}

/// All keys but those that are tables. Which are, the parser tells: given an empty table, or an array of one, it asks for
/// what is in it.
fn every_key() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut unseen: Vec<String> = known("").into_iter().collect();
    while let Some(key) = unseen.pop() {
        let below = format!("{key}.");
        let texts = [format!("{key} = {{}}"), format!("{key} = [{{}}]")];
        let inner: BTreeSet<_> = texts
            .iter()
            .flat_map(|text| known(text))
            .filter(|other| other.starts_with(&below))
            .collect();
        if inner.is_empty() {
            keys.insert(key);
        }
        unseen.extend(inner.into_iter().filter(|key| !keys.contains(key)));
    }
    keys
}

/// The first cells of the tables below each heading that names one.
fn documented(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.trim_matches(['`', '[', ']']);
            section = match heading.starts_with('`') {
                true => format!("{name}."),
                false => String::new(),
            };
        }
        let cell = line.strip_prefix("| `").and_then(|row| row.split_once('`'));
        if let Some((key, _)) = cell {
            let is_new = keys.insert(format!("{section}{key}"));
            assert!(is_new, "twice: {section}{key}");
        }
    }
    keys
}

#[test]
fn every_key_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.md");
    let text = std::fs::read_to_string(path).expect("a document");
    let (known, documented) = (every_key(), documented(&text));
    let lacking: Vec<_> = known.difference(&documented).collect();
    assert!(lacking.is_empty(), "docs/server.md lacks {lacking:?}");
    let unknown: Vec<_> = documented.difference(&known).collect();
    assert!(unknown.is_empty(), "docs/server.md has {unknown:?}");
    // Else nothing was compared.
    for key in ["socket", "proxy.limits.head", "tls.certificates.key"] {
        assert!(known.contains(key), "{known:?}");
    }
}
