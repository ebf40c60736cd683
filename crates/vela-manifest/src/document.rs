use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use crate::error::ManifestError;
use crate::invalid_file::InvalidFile;
use crate::problem::Problem;
use crate::quote::quoted;
use crate::section::Section;
use crate::source::{MAX_BYTES, Positions};
use crate::suggest::{did_you_mean, nearest};
use crate::syntax;
use crate::unsupported::Unsupported;

/// What the sections of one file share while they are read: they report here, so that all that is wrong
/// with a file comes out in one go.
pub(crate) struct Document<'t> {
    text: &'t str,
    faults: RefCell<Vec<Fault>>,
    unknown: RefCell<Vec<UnknownKey>>,
    /// The keys that each section that was read knows, for suggestions.
    known: RefCell<Vec<(String, Vec<&'static str>)>>,
    /// Where each key is.
    keys: RefCell<Vec<(String, usize)>>,
}

/// The line of each key that a file has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(BTreeMap<String, usize>);

pub(crate) struct UnknownKey {
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) span: Range<usize>,
}

/// The most problems of syntax, and of everything else, that are reported: more than anyone reads, and few
/// enough to be quick about.
pub(crate) const MAX_FAULTS: usize = 200;

/// A problem whose line and column are not worked out yet.
pub(crate) struct Fault {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// Nothing is wrong at `span`, but something is not there.
    pub(crate) absence: bool,
}

/// Parses `text` and hands its root to `build`. What `build` makes counts only if nothing was reported; if
/// it makes nothing, something must have been.
pub(crate) fn read<T>(
    file_name: &str,
    text: &str,
    build: impl FnOnce(Section<'_>) -> Option<T>,
) -> Result<(T, Lines), ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge {
            file: file_name.to_owned(),
        });
    }
    let document = Document::new(text);
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    let built = build(Section::root(&document, table.get_ref()));
    let positions = Positions::new(text);
    let (faults, lines) = document.finish(syntax_errors, &positions);
    match built {
        Some(built) if faults.is_empty() => Ok((built, lines)),
        _ => {
            let problems = faults.into_iter().map(|fault| {
                let (line, column) = positions.of(fault.span.start);
                Problem {
                    line,
                    column,
                    message: fault.message,
                    hint: fault.hint,
                    span: fault.span,
                }
            });
            let invalid = InvalidFile::new(file_name, text, problems.collect());
            Err(ManifestError::Invalid(Box::new(invalid)))
        }
    }
}

/// The sections that `build` reads of `text`, each with the keys that it is asked for.
#[cfg(test)]
pub(crate) fn asked_for<T>(
    text: &str,
    build: impl FnOnce(Section<'_>) -> T,
) -> Vec<(String, Vec<&'static str>)> {
    let document = Document::new(text);
    let (table, _) = DeTable::parse_recoverable(text);
    build(Section::root(&document, table.get_ref()));
    document.known.into_inner()
}

impl<'t> Document<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            faults: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    /// What stands at `span`.
    pub(crate) fn text(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    pub(crate) fn report(&self, span: Range<usize>, message: String, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.faults.borrow_mut().push(Fault {
            span,
            message,
            hint,
            absence: false,
        });
    }

    pub(crate) fn report_absence(&self, span: Range<usize>, message: String, hint: String) {
        self.faults.borrow_mut().push(Fault {
            span,
            message,
            hint: Some(hint),
            absence: true,
        });
    }

    pub(crate) fn note_key(&self, path: String, span: &Range<usize>) {
        self.keys.borrow_mut().push((path, span.start));
    }

    /// A section is done: these keys it asked for, those it has beside them.
    pub(crate) fn close(&self, path: &str, known: Vec<&'static str>, unknown: Vec<UnknownKey>) {
        self.known.borrow_mut().push((path.to_owned(), known));
        self.unknown.borrow_mut().extend(unknown);
    }

    fn finish(
        self,
        syntax_errors: Vec<toml::de::Error>,
        positions: &Positions,
    ) -> (Vec<Fault>, Lines) {
        let known = self.known.into_inner();
        let mut faults = self.faults.into_inner();
        let mut unknown = self.unknown.into_inner();
        unknown.sort_by_key(|key| key.span.start);
        unknown.truncate(MAX_FAULTS);
        faults.extend(unknown.into_iter().map(|key| unknown_key(key, &known)));
        faults.sort_by_key(|fault| fault.span.start);
        faults.truncate(MAX_FAULTS);
        let text_lines: Vec<_> = self.text.split('\n').collect();
        let syntax_faults = syntax::faults(&syntax_errors, self.text);
        let line_of = |fault: &Fault| positions.line_of(fault.span.start);
        // What a broken file lacks, or has where it is broken, may be the fault of what broke it.
        let suspect = syntax::suspect_lines(syntax_faults.iter().map(line_of), &text_lines);
        faults.retain(|fault| {
            let lines = line_of(fault)..=positions.line_of(fault.span.end);
            suspect.is_empty()
                || !(fault.absence || lines.into_iter().any(|l| suspect.contains(&l)))
        });
        let mut all = syntax::without_aftermath(syntax_faults, line_of, &text_lines);
        all.append(&mut faults);
        all.sort_by_key(|fault| fault.span.start);

        let keys = self.keys.into_inner().into_iter();
        (
            all,
            Lines(
                keys.map(|(path, at)| (path, positions.line_of(at)))
                    .collect(),
            ),
        )
    }
}

impl Lines {
    /// What is not supported about `key`, which the file has.
    pub(crate) fn unsupported(&self, key: &str, why: &str) -> Unsupported {
        let line = self.0.get(key).copied().unwrap_or(1);
        Unsupported {
            key: key.to_owned(),
            line,
            why: why.to_owned(),
        }
    }
}

fn unknown_key(unknown: UnknownKey, known: &[(String, Vec<&'static str>)]) -> Fault {
    let UnknownKey { section, key, span } = unknown;
    let siblings = known
        .iter()
        .filter(|(path, _)| *path == section)
        .flat_map(|(_, keys)| keys.iter().copied());
    // The right name in the wrong table is likelier than a similar one in this.
    let home = known
        .iter()
        .find(|(path, keys)| *path != section && keys.contains(&key.as_str()));
    let hint = match home {
        Some((home, _)) if home.is_empty() => Some(format!("`{key}` belongs at the top level")),
        Some((home, _)) => Some(format!("`{key}` belongs in [{home}]")),
        None => nearest(&key, siblings.clone())
            .map(did_you_mean)
            .or_else(|| known_here(siblings)),
    };
    let place = if section.is_empty() {
        String::new()
    } else {
        format!(" in [{section}]")
    };
    Fault {
        span,
        message: format!("unknown key {}{place}", quoted(&key)),
        hint,
        absence: false,
    }
}

/// The keys that there are, where they are few enough to take in.
fn known_here<'a>(keys: impl Iterator<Item = &'a str>) -> Option<String> {
    let keys: Vec<_> = keys.map(|key| format!("`{key}`")).collect();
    (1..=8)
        .contains(&keys.len())
        .then(|| format!("known here: {}", keys.join(", ")))
}
