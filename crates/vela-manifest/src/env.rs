use std::collections::BTreeMap;

use crate::env_name::{is_env_name, is_reserved};
use crate::quote::quoted;
use crate::section::Section;
use crate::template::{Template, Variable};
use crate::value::{Found, Value};

/// Reads `[env]`: every key is the user's own, so long as a program can be given it.
pub(crate) fn read(section: Section<'_>) -> BTreeMap<String, Template> {
    read_with(section, |_, _| ())
}

fn read_with(
    section: Section<'_>,
    check: impl Fn(&Value<'_>, &Template),
) -> BTreeMap<String, Template> {
    let mut env = BTreeMap::new();
    for value in section.into_entries() {
        let name = value.key().to_owned();
        if !is_env_name(&name) {
            value.report_key(
                format!("{} cannot be an environment variable's name", quoted(&name)),
                Some("letters, digits and `_`, not starting with a digit"),
            );
        } else if is_reserved(&name) {
            value.report_key(format!("`{name}` is set by vela itself"), None);
        }
        if let Some(template) = template(&value) {
            check(&value, &template);
            env.insert(name, template);
        }
    }
    env
}

/// Reads `[build.env]`, where nothing listens on a port.
pub(crate) fn read_of_build(section: Section<'_>) -> BTreeMap<String, Template> {
    read_with(section, |value, template| {
        if template
            .variables()
            .any(|variable| *variable == Variable::Port)
        {
            value.report("a build has no port", None);
        }
    })
}

fn template(value: &Value<'_>) -> Option<Template> {
    match value.found() {
        Found::Integer => value
            .integer(i64::MIN..=i64::MAX)
            .map(|n| Template::literal(n.to_string())),
        Found::Boolean => value.boolean().map(|b| Template::literal(b.to_string())),
        _ => value.parse(),
    }
}
