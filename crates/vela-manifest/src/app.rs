use crate::app_name::AppName;
use crate::domain::Domain;
use crate::listen::Listen;
use crate::section::Section;
use crate::value::Value;

/// `[app]`: what the app is called, and by which names the world reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct App {
    /// `name`: the app's name.
    pub name: AppName,
    /// `domain`: the host it answers to, or a wildcard; none for an app that serves no HTTP.
    pub domain: Option<Domain>,
    /// `aliases`: more hosts it answers to, wildcards among them.
    pub aliases: Vec<Domain>,
    /// `user`: the system user it runs as, instead of one of its own.
    pub user: Option<String>,
    /// `listen`: where it listens, 127.0.0.1.
    pub listen: Listen,
}

impl App {
    /// Every host the app answers to: the domain, then its aliases. No host is in it twice.
    pub fn hosts(&self) -> impl Iterator<Item = &Domain> {
        self.domain.iter().chain(&self.aliases)
    }

    /// None if its name or one of its hosts was reported.
    pub(crate) fn read(mut section: Section<'_>) -> Option<Self> {
        let name = section
            .required("name", r#"name = "my-app""#)
            .and_then(|value| value.parse());
        let domain: Option<Domain> = section.read("domain", Value::parse);
        let mut whole = domain.is_some() == section.has("domain");
        let mut aliases = Vec::new();
        if let Some(list) = section.value("aliases") {
            if !section.has("domain") {
                list.report(
                    "`aliases` without `domain`",
                    Some("make the first of them the `domain`"),
                );
            }
            let items = list.items();
            whole &= items.is_some();
            for item in items.unwrap_or_default() {
                let Some(alias) = item.parse() else {
                    whole = false;
                    continue;
                };
                if domain.as_ref() == Some(&alias) || aliases.contains(&alias) {
                    item.report(format!("`{alias}` is listed twice"), None);
                }
                aliases.push(alias);
            }
        }
        let user = section.read("user", user_name);
        let listen = section
            .read("listen", |value| value.choice(&Listen::ALL))
            .unwrap_or_default();
        whole.then_some(Self {
            domain,
            aliases,
            user,
            listen,
            name: name?,
        })
    }
}

/// What `useradd` accepts; neither a number nor an option can pass for a name.
fn user_name(value: &Value<'_>) -> Option<String> {
    let name = value.string()?;
    let valid = name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if !valid {
        value.report(
            "not the name of a system user",
            Some("a-z, 0-9, `_` and `-`, starting with a letter, at most 32"),
        );
        return None;
    }
    Some(name.to_owned())
}
