use crate::quote::quoted;
use crate::section::Section;
use crate::template::Template;
use crate::value::{Found, Value};

/// `[services]`: what the app needs beside itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Services {
    /// `[services.postgres]`.
    pub postgres: Option<Postgres>,
    /// `[services.nats]`.
    pub nats: Option<Nats>,
}

impl Services {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        Self {
            postgres: section.optional_section("postgres").map(Postgres::read),
            nats: section.optional_section("nats").map(Nats::read),
        }
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
    /// `version`: of the server.
    pub version: Option<String>,
    /// `jetstream`: whether it keeps messages on disk.
    pub jetstream: bool,
}

impl Nats {
    fn read(mut section: Section<'_>) -> Self {
        Self {
            version: section.read("version", version),
            jetstream: section.read("jetstream", Value::boolean).unwrap_or(false),
        }
    }
}

/// `17`, `"17"` and `"2.10.4"`.
fn version(value: &Value<'_>) -> Option<String> {
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
