use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::document::Document;
use crate::quote::quoted;
use crate::reason::Reason;
use crate::section::Section;
use crate::suggest::{did_you_mean, nearest};
use crate::{duration, size};

/// A value of a key, with its place. What it is asked for and is not, it reports, and gives nothing.
#[derive(Clone)]
pub(crate) struct Value<'d> {
    document: &'d Document<'d>,
    path: String,
    key: &'d str,
    key_span: Range<usize>,
    value: &'d Spanned<DeValue<'d>>,
}

/// The most items of an array: more than anyone needs, and few enough to compare with each other.
const MAX_ITEMS: usize = 1000;

/// What kind of value there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    String,
    Integer,
    Float,
    Boolean,
    Datetime,
    Array,
    Table,
}

impl<'d> Value<'d> {
    pub(crate) fn new(
        document: &'d Document<'d>,
        path: String,
        key: &'d str,
        key_span: Range<usize>,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Self {
        Self {
            document,
            path,
            key,
            key_span,
            value,
        }
    }

    pub(crate) fn key(&self) -> &'d str {
        self.key
    }

    pub(crate) fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    pub(crate) fn found(&self) -> Found {
        match self.value.get_ref() {
            DeValue::String(_) => Found::String,
            DeValue::Integer(_) => Found::Integer,
            DeValue::Float(_) => Found::Float,
            DeValue::Boolean(_) => Found::Boolean,
            DeValue::Datetime(_) => Found::Datetime,
            DeValue::Array(_) => Found::Array,
            DeValue::Table(_) => Found::Table,
        }
    }

    /// Reports at the value.
    pub(crate) fn report(&self, message: impl Into<String>, hint: Option<&str>) {
        self.document
            .report(self.value.span(), message.into(), hint);
    }

    /// Reports at the key.
    pub(crate) fn report_key(&self, message: impl Into<String>, hint: Option<&str>) {
        self.document.report(self.key_span(), message.into(), hint);
    }

    /// Reports that it is of another kind than `expected`.
    pub(crate) fn mismatch(&self, expected: &str) {
        self.report(
            format!("expected {expected}, found {}", self.found().describe()),
            None,
        );
    }

    pub(crate) fn string(&self) -> Option<&'d str> {
        let string = self.value.get_ref().as_str();
        if string.is_none() {
            let raw = self.document.text(&self.value.span());
            let scalar = matches!(self.found(), Found::Integer | Found::Float | Found::Boolean);
            let hint = scalar.then(|| format!(r#"did you mean "{raw}"?"#));
            let found = self.found().describe();
            self.report(format!("expected a string, found {found}"), hint.as_deref());
        }
        string
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let boolean = self.value.get_ref().as_bool();
        if boolean.is_none() {
            let hint = match self.value.get_ref().as_str() {
                Some("true" | "yes" | "on") => Some("did you mean true, without quotes?"),
                Some("false" | "no" | "off") => Some("did you mean false, without quotes?"),
                _ => None,
            };
            self.report(
                format!("expected true or false, found {}", self.found().describe()),
                hint,
            );
        }
        boolean
    }

    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(digits) = self.value.get_ref() else {
            let hint = match self.value.get_ref().as_str() {
                Some(text) if text.parse::<i64>().is_ok() => {
                    Some(format!("did you mean {text}, without quotes?"))
                }
                _ => None,
            };
            let found = self.found().describe();
            self.report(
                format!("expected {}, found {found}", expected()),
                hint.as_deref(),
            );
            return None;
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            self.report(format!("expected {}", expected()), None);
        }
        number
    }

    /// Seconds, or text such as `"1m30s"`.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match self.found() {
            Found::Integer => self
                .integer(0..=duration::MAX.as_secs())
                .map(Duration::from_secs),
            Found::String => self.parse_with(duration::parse),
            _ => {
                self.mismatch(r#"seconds, or a duration such as "1m30s""#);
                None
            }
        }
    }

    pub(crate) fn positive_duration(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.report("must be longer than zero", None);
            return None;
        }
        Some(duration)
    }

    /// Bytes, or text such as `"512M"`.
    pub(crate) fn size(&self) -> Option<u64> {
        match self.found() {
            Found::Integer => self.integer(0..=size::MAX),
            Found::String => self.parse_with(size::parse),
            _ => {
                self.mismatch(r#"bytes, or a size such as "512M""#);
                None
            }
        }
    }

    /// Bytes, or text such as `"512M"`, of which there must be so many.
    pub(crate) fn size_in(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = self.size()?;
        if !range.contains(&bytes) {
            let (least, most) = (size::shown(*range.start()), size::shown(*range.end()));
            let expected = match *range.end() {
                size::MAX => format!("expected a size of at least {least}"),
                _ => format!("expected a size from {least} to {most}"),
            };
            // `64` for `"64K"` is not rare.
            let meant = (self.found() == Found::Integer)
                .then(|| size::meant(bytes, &range))
                .flatten();
            let hint = meant.map(|meant| format!(r#"did you mean "{meant}"?"#));
            self.report(expected, hint.as_deref());
            return None;
        }
        Some(bytes)
    }

    /// A size that something may have at most. Zero is refused: elsewhere it stands for no limit.
    pub(crate) fn size_limit(&self) -> Option<u64> {
        let bytes = self.size()?;
        if bytes == 0 {
            self.report(
                "must be more than zero",
                Some("leave the key out if this is to set no limit"),
            );
            return None;
        }
        Some(bytes)
    }

    /// A line for a shell.
    pub(crate) fn command(&self) -> Option<String> {
        let command = self.string()?;
        if command.trim().is_empty() || command.contains('\0') {
            self.report("not a command", Some("leave the key out if there is none"));
            return None;
        }
        Some(command.to_owned())
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        self.choose(self.string()?, choices)
    }

    /// What `word`, which stands for this value, is among a few.
    pub(crate) fn choose<T: Copy>(&self, word: &str, choices: &[(&str, T)]) -> Option<T> {
        let choice = choices
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, choice)| *choice);
        if choice.is_none() {
            let names = choices.iter().map(|(name, _)| *name);
            let hint = nearest(word, names.clone())
                .map(did_you_mean)
                .unwrap_or_else(|| {
                    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
                    format!("one of {}", names.join(", "))
                });
            self.report(
                format!("unknown {} {}", self.key, quoted(word)),
                Some(&hint),
            );
        }
        choice
    }

    /// A string that `T` can be read from.
    pub(crate) fn parse<T>(&self) -> Option<T>
    where
        T: FromStr<Err: Reason>,
    {
        self.parse_with(T::from_str)
    }

    pub(crate) fn parse_with<T, E: Reason>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string()?;
        parse(text)
            .map_err(|reason| {
                let span = reason.within().and_then(|within| self.locate(text, within));
                let span = span.unwrap_or_else(|| self.value.span());
                self.document
                    .report(span, reason.to_string(), reason.hint().as_deref());
            })
            .ok()
    }

    /// An array; a value by itself is none.
    pub(crate) fn items(&self) -> Option<Vec<Value<'d>>> {
        let Some(array) = self.value.get_ref().as_array() else {
            let raw = self.document.text(&self.value.span());
            let hint = (self.found() == Found::String).then(|| format!("did you mean [{raw}]?"));
            let found = self.found().describe();
            self.report(format!("expected an array, found {found}"), hint.as_deref());
            return None;
        };
        if array.len() > MAX_ITEMS {
            self.report(
                format!("expected at most {MAX_ITEMS} items, found {}", array.len()),
                None,
            );
            return None;
        }
        Some(
            array
                .iter()
                .map(|item| Self {
                    value: item,
                    ..self.clone()
                })
                .collect(),
        )
    }

    pub(crate) fn section(&self) -> Option<Section<'d>> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.mismatch("a table");
        }
        table.map(|table| {
            Section::new(
                self.document,
                self.path.clone(),
                self.key_span(),
                Some(table),
            )
        })
    }

    /// Where a part of the decoded text is in the file; unknown if the file spells it with escapes.
    fn locate(&self, decoded: &str, within: Range<usize>) -> Option<Range<usize>> {
        let span = self.value.span();
        let start = span.start + self.document.text(&span).find(decoded)?;
        Some(start + within.start..start + within.end)
    }
}

impl Found {
    fn describe(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Float => "a float",
            Self::Boolean => "a boolean",
            Self::Datetime => "a date",
            Self::Array => "an array",
            Self::Table => "a table",
        }
    }
}
