use std::collections::BTreeMap;

use crate::app::App;
use crate::env_name::{is_env_name, is_reserved};
use crate::listen::Listen;
use crate::quote::quoted;
use crate::section::Section;
use crate::template::{Template, Variable};
use crate::value::{Found, Value};

/// Reads `[env]`: every key is the user's own, so long as a program can be given it.
pub(crate) fn read(section: Section<'_>, app: Option<&App>) -> BTreeMap<String, Template> {
    read_with(section, |value, template| {
        check_socket(value, template, app);
    })
}

/// Reports a variable that this app does not have.
pub(crate) fn check_socket(value: &Value<'_>, template: &Template, app: Option<&App>) {
    if template.names(&Variable::Socket) && app.is_some_and(|app| app.listen != Listen::Unix) {
        value.report(
            "`${socket}` without `listen` of a Unix socket",
            Some(r#"set listen = "unix" in [app]"#),
        );
    }
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

/// Reads `[build.env]`, where nothing listens.
pub(crate) fn read_of_build(section: Section<'_>) -> BTreeMap<String, Template> {
    read_with(section, |value, template| {
        if template.names(&Variable::Port) {
            value.report("a build has no port", None);
        }
        if template.names(&Variable::Socket) {
            value.report("a build has no socket", None);
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
