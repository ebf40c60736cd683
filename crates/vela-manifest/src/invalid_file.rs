use std::fmt::{self, Display};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

use crate::problem::Problem;
use crate::quote::is_unprintable;
use crate::snippet::Snippet;

/// A file and all that is wrong with it.
///
/// As a [`Diagnostic`] it is its first problem, to which the others are related.
#[derive(Debug)]
pub struct InvalidFile {
    /// The text can go to a terminal: what could control one is replaced, with every byte in its place.
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

impl InvalidFile {
    /// `problems` has at least one, in the order of the file.
    pub(crate) fn new(name: &str, text: &str, problems: Vec<Problem>) -> Self {
        let source = NamedSource::new(name, printable(text)).with_language("TOML");
        Self { source, problems }
    }

    /// The name that the file was read under.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every problem with its place, the line it is on, a caret below, and the hint.
    pub fn report(&self) -> String {
        let lines: Vec<_> = self.source.inner().split('\n').collect();
        let snippet = |problem: &Problem| {
            let line = lines.get(problem.line - 1).copied().unwrap_or_default();
            Snippet {
                file: self.name(),
                line: line.trim_end_matches('\r'),
                problem,
            }
            .to_string()
        };
        self.problems
            .iter()
            .map(snippet)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// The first problem, with its place, and how many more there are.
impl Display for InvalidFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.problems.first() else {
            return write!(f, "{} is not valid", self.name());
        };
        write!(
            f,
            "{}:{}:{}: {first}",
            self.name(),
            first.line,
            first.column
        )?;
        match self.problems.len() - 1 {
            0 => Ok(()),
            1 => write!(f, " (and one more problem)"),
            more => write!(f, " (and {more} more problems)"),
        }
    }
}

impl std::error::Error for InvalidFile {}

impl Diagnostic for InvalidFile {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.problems.first()?.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problems.first()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let others = self
            .problems
            .iter()
            .skip(1)
            .map(|problem| problem as &dyn Diagnostic);
        Some(Box::new(others))
    }
}

fn printable(text: &str) -> String {
    let replacement = |c: char| match c.len_utf8() {
        1 => '?',
        2 => '·',
        _ => char::REPLACEMENT_CHARACTER,
    };
    let keep = |c: char| matches!(c, '\n' | '\r' | '\t') || !is_unprintable(c);
    text.chars()
        .map(|c| if keep(c) { c } else { replacement(c) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_keeps_its_length() {
        let text = "a\x1b[2J\u{85}\u{202e}\t\r\nä";
        assert_eq!(printable(text), "a?[2J·\u{fffd}\t\r\nä");
        assert_eq!(printable(text).len(), text.len());
    }
}
