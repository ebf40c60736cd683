use std::ops::Range;

use toml::de::DeTable;

use crate::document::{Document, UnknownKey};
use crate::value::Value;

/// A table that is being read. It remembers the keys it was asked for; when it is dropped, the others
/// are reported, but for the user's own that start with `x-`.
pub(crate) struct Section<'d> {
    document: &'d Document<'d>,
    /// Its name, as in `deploy.health`; empty for the root.
    path: String,
    /// Its header, or the start of the file.
    at: Range<usize>,
    entries: Vec<Value<'d>>,
    known: Vec<&'static str>,
    /// It should be a table and is something else, which was reported: what it lacks is no news.
    broken: bool,
}

impl<'d> Section<'d> {
    pub(crate) fn root(document: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Self::new(document, String::new(), 0..0, Some(table))
    }

    /// A table; without one, all its keys are unset.
    pub(crate) fn new(
        document: &'d Document<'d>,
        path: String,
        at: Range<usize>,
        table: Option<&'d DeTable<'d>>,
    ) -> Self {
        let entries = table.into_iter().flatten().map(|(key, value)| {
            let name: &str = key.get_ref();
            let path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            document.note_key(path.clone(), &key.span());
            Value::new(document, path, name, key.span(), value)
        });
        let entries = entries.collect();
        Self {
            document,
            path,
            at,
            entries,
            known: Vec::new(),
            broken: false,
        }
    }

    /// The value of `key`, if it is set.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.known.push(key);
        self.find(key).cloned()
    }

    /// The value of `key`, read by `read`; none if it is unset, or was reported.
    pub(crate) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'d>) -> Option<T>,
    ) -> Option<T> {
        self.value(key).and_then(|value| read(&value))
    }

    /// The value of `key`; reported if it is unset.
    pub(crate) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'d>> {
        let value = self.value(key);
        if value.is_none() && !self.broken {
            let (message, hint) = match self.path.as_str() {
                "" => (format!("`{key}` is missing"), format!("add `{example}`")),
                path => (
                    format!("`{key}` is missing in [{path}]"),
                    format!("add `{example}` under `[{path}]`"),
                ),
            };
            self.document.report_absence(self.at.clone(), message, hint);
        }
        value
    }

    /// The table `key`, where none is the same as an empty one.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'d> {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        let found = self.value(key);
        found.as_ref().and_then(Value::section).unwrap_or_else(|| {
            let mut empty = Section::new(self.document, path, self.at.clone(), None);
            empty.broken = found.is_some();
            empty
        })
    }

    /// The table `key`, if it is set.
    pub(crate) fn optional_section(&mut self, key: &'static str) -> Option<Section<'d>> {
        self.value(key).and_then(|value| value.section())
    }

    /// Whether `key` is set, to whatever.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Reports at the key itself.
    pub(crate) fn report_key(&self, key: &str, message: impl Into<String>, hint: Option<&str>) {
        match self.find(key) {
            Some(value) => value.report_key(message, hint),
            None => self.document.report(self.at.clone(), message.into(), hint),
        }
    }

    /// All entries but the user's own, for a table whose keys are free.
    pub(crate) fn into_entries(mut self) -> Vec<Value<'d>> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|value| !is_users_own(value.key()));
        entries
    }

    /// The user's own entries, which nothing here reads by name.
    pub(crate) fn users_own(&self) -> impl Iterator<Item = &Value<'d>> {
        self.entries
            .iter()
            .filter(|value| is_users_own(value.key()))
    }

    fn find(&self, key: &str) -> Option<&Value<'d>> {
        self.entries.iter().find(|value| value.key() == key)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let known = std::mem::take(&mut self.known);
        let unknown = self
            .entries
            .iter()
            .filter(|value| !known.contains(&value.key()) && !is_users_own(value.key()))
            .map(|value| UnknownKey {
                section: self.path.clone(),
                key: value.key().to_owned(),
                span: value.key_span(),
            })
            .collect();
        self.document.close(&self.path, known, unknown);
    }
}

fn is_users_own(key: &str) -> bool {
    key.starts_with("x-")
}
