use std::collections::BTreeMap;
use std::fmt;

use crate::quote::quoted;
use crate::section::Section;
use crate::template::Template;
use crate::value::{Found, Value};

/// `[services]`: what the app needs beside itself.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Services {
    /// `[services.postgres]`.
    pub postgres: Option<Postgres>,
    /// `[services.nats]`.
    pub nats: Option<Nats>,
    /// `[services.x-<kind>]`, by kind: of provisioners that the server's program brings along. Numbers and
    /// booleans are as in the file; the items of an array are joined by commas.
    pub others: BTreeMap<String, BTreeMap<String, String>>,
}

impl Services {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let mut others = BTreeMap::new();
        for value in section.users_own() {
            // What is no table is a note of the user's.
            let (Found::Table, Some(kind)) = (value.found(), value.key().strip_prefix("x-")) else {
                continue;
            };
            if let Some(options) = options(kind, value) {
                others.insert(kind.to_owned(), options);
            }
        }
        Self {
            postgres: section.optional_section("postgres").map(Postgres::read),
            nats: section.optional_section("nats").map(Nats::read),
            others,
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |options: &BTreeMap<String, String>| options.keys().cloned().collect::<Vec<_>>();
        let others: BTreeMap<_, _> = self
            .others
            .iter()
            .map(|(kind, options)| (kind, keys(options)))
            .collect();
        f.debug_struct("Services")
            .field("postgres", &self.postgres)
            .field("nats", &self.nats)
            // Only a provisioner knows which of them is a password.
            .field("others", &others)
            .finish()
    }
}

/// `[services.postgres]`: databases of the app's own, or one that exists already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Postgres {
    /// `version`: of the server.
    pub version: Option<String>,
    /// `databases`: to be created.
    pub databases: Vec<String>,
    /// `extensions`: to be created in each of them.
    pub extensions: Vec<String>,
    /// `url`: of a database that exists; keep its password in a secret.
    pub url: Option<Template>,
}

impl Postgres {
    fn read(mut section: Section<'_>) -> Self {
        Self {
            version: section.read("version", version),
            databases: section.read("databases", databases).unwrap_or_default(),
            extensions: section
                .read("extensions", |value| names(value, "an extension's"))
                .unwrap_or_default(),
            url: section.read("url", url),
        }
    }
}

/// `[services.nats]`: a message server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Nats {
    /// `version`: the least that the server must have.
    pub version: Option<String>,
    /// `jetstream`: `true`, or a table, if messages are to be kept on disk.
    pub jetstream: Option<JetStream>,
    /// `subjects`: which the app may use beside those that start with its name; `*` and `>` are
    /// wildcards, but not at the start.
    pub subjects: Vec<String>,
}

impl Nats {
    fn read(mut section: Section<'_>) -> Self {
        Self {
            version: section.read("version", version),
            jetstream: section.read("jetstream", jetstream).flatten(),
            subjects: section.read("subjects", subjects).unwrap_or_default(),
        }
    }
}

/// `services.nats.jetstream`: how much the app may keep. What is unset is for the server to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JetStream {
    /// `storage`: bytes on disk.
    pub storage: Option<u64>,
    /// `memory`: bytes in memory.
    pub memory: Option<u64>,
}

fn jetstream(value: &Value<'_>) -> Option<Option<JetStream>> {
    match value.found() {
        Found::Boolean => value
            .boolean()
            .map(|wanted| wanted.then(JetStream::default)),
        Found::Table => {
            let mut section = value.section()?;
            Some(Some(JetStream {
                storage: section.read("storage", positive_size),
                memory: section.read("memory", positive_size),
            }))
        }
        _ => {
            value.mismatch("true, false or a table of limits");
            None
        }
    }
}

fn positive_size(value: &Value<'_>) -> Option<u64> {
    let size = value.size()?;
    if size == 0 {
        value.report("must be more than zero", None);
        return None;
    }
    Some(size)
}

/// Subjects that start with a name, so that none is everything, or the server's own.
fn subjects(value: &Value<'_>) -> Option<Vec<String>> {
    let mut subjects = Vec::new();
    for item in value.items()? {
        let Some(subject) = item.string() else {
            continue;
        };
        if is_subject(subject) {
            subjects.push(subject.to_owned());
        } else {
            item.report(
                format!("{} is not a subject of an app", quoted(subject)),
                Some(
                    r#"names of letters, digits, `_` and `-`, joined by dots, as in "orders.created"; after the first also `*`, and `>` as the last"#,
                ),
            );
        }
    }
    Some(subjects)
}

fn is_subject(subject: &str) -> bool {
    let is_name = |token: &str| {
        !token.is_empty()
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let tokens = subject.strip_suffix(".>").unwrap_or(subject);
    let first = tokens.split('.').next().unwrap_or_default();
    // `_INBOX` is where answers arrive, and has its own permission.
    subject.len() <= 255
        && is_name(first)
        && !first.starts_with('_')
        && tokens
            .split('.')
            .skip(1)
            .all(|token| is_name(token) || token == "*")
}

/// The keys of a service that only its provisioner knows.
fn options(kind: &str, value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let is_kind = kind.len() <= 32
        && kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !is_kind {
        value.report_key(
            format!("{} cannot be a kind of service", quoted(kind)),
            Some("a-z, 0-9 and `-`, starting with a letter, at most 32"),
        );
        return None;
    }
    let mut options = BTreeMap::new();
    for entry in value.section()?.into_entries() {
        let text = match entry.found() {
            Found::Array => list(&entry),
            _ => scalar(&entry),
        };
        options.insert(entry.key().to_owned(), text?);
    }
    Some(options)
}

fn list(value: &Value<'_>) -> Option<String> {
    let mut items = Vec::new();
    for item in value.items()? {
        let text = scalar(&item)?;
        if text.contains(',') {
            item.report("a comma in an item of a list", None);
            return None;
        }
        items.push(text);
    }
    Some(items.join(","))
}

fn scalar(value: &Value<'_>) -> Option<String> {
    match value.found() {
        Found::String => value.string().map(str::to_owned),
        Found::Integer => value
            .integer(i64::MIN..=i64::MAX)
            .map(|number| number.to_string()),
        Found::Boolean => value.boolean().map(|boolean| boolean.to_string()),
        _ => {
            value.mismatch("a string, a whole number, or true or false");
            None
        }
    }
}

/// `17`, `"17"` and `"2.10.4"`.
pub(crate) fn version(value: &Value<'_>) -> Option<String> {
    if value.found() == Found::Integer {
        return value
            .integer(1u32..=9999)
            .map(|version| version.to_string());
    }
    let version = value.string()?;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if version.len() > 20 || !version.split('.').all(is_number) {
        value.report(
            "not a version",
            Some(r#"numbers and dots, as in "17" or "2.10""#),
        );
        return None;
    }
    Some(version.to_owned())
}

fn databases(value: &Value<'_>) -> Option<Vec<String>> {
    let names = names(value, "a database's")?;
    // Each gets a variable `DATABASE_URL_<NAME>`, where `-` and case are lost.
    let variable = |name: &String| name.to_ascii_uppercase().replace('-', "_");
    for (index, name) in names.iter().enumerate() {
        if names[..index]
            .iter()
            .any(|earlier| variable(earlier) == variable(name))
        {
            value.report(
                format!("two databases would share DATABASE_URL_{}", variable(name)),
                None,
            );
        }
    }
    Some(names)
}

/// Names that need no quoting trick to be an SQL identifier, cut nowhere by Postgres.
fn names(value: &Value<'_>, whose: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in value.items()? {
        let Some(name) = item.string() else { continue };
        let valid = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if valid {
            names.push(name.to_owned());
        } else {
            item.report(
                format!("{} cannot be {whose} name", quoted(name)),
                Some("letters, digits, `_` and `-`, starting with a letter, at most 63"),
            );
        }
    }
    Some(names)
}

fn url(value: &Value<'_>) -> Option<Template> {
    let url: Template = value.parse()?;
    let scheme_ok = url
        .leading_literal()
        .is_none_or(|start| start.starts_with("postgres://") || start.starts_with("postgresql://"));
    if !scheme_ok {
        value.report(
            "not the URL of a Postgres database",
            Some("as in `postgres://user:${secret:DB_PASSWORD}@host/database`, or `${secret:DATABASE_URL}`"),
        );
        return None;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_start_with_a_name() {
        for subject in ["orders", "orders.>", "a.*.b.>", "A_1-b.c", "a.*"] {
            assert!(is_subject(subject), "{subject}");
        }
        for subject in [
            "",
            ">",
            "*",
            "*.a",
            "a..b",
            ".a",
            "a.",
            "_INBOX.>",
            "$JS.API.>",
            "$SYS",
            "a b",
            "a\t",
            "a.>.b",
            "a*",
            "a>",
            "a\"",
            "a\n}",
            "a.é",
            "a.>.>",
            &"a".repeat(256),
        ] {
            assert!(!is_subject(subject), "{subject:?}");
        }
    }
}
