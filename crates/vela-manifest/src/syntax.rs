use std::collections::BTreeSet;
use std::ops::Range;

use crate::document::{Fault, MAX_FAULTS};
use crate::quote::quoted;

/// What the TOML parser found, in the words of the other faults.
pub(crate) fn faults(errors: &[toml::de::Error], text: &str) -> Vec<Fault> {
    let mut faults: Vec<_> = errors.iter().map(|error| fault(error, text)).collect();
    faults.sort_by_key(|fault| fault.span.start);
    faults.truncate(MAX_FAULTS);
    faults
}

/// The first fault of each line; and after a bracket that is never closed, where every line that follows is
/// a fault, the first of a run of lines.
pub(crate) fn without_aftermath(
    faults: Vec<Fault>,
    line_of: impl Fn(&Fault) -> usize,
    lines: &[&str],
) -> Vec<Fault> {
    let unclosed = faults
        .iter()
        .any(|fault| fault.message.starts_with("unclosed"));
    let has_content = |line: &&str| !matches!(line.trim().chars().next(), None | Some('#'));
    let mut last_broken = None;
    faults
        .into_iter()
        .filter(|fault| {
            let line = line_of(fault);
            let aftermath = last_broken.is_some_and(|last: usize| {
                line == last || (unclosed && !lines[last..line - 1].iter().any(has_content))
            });
            last_broken = Some(line);
            !aftermath
        })
        .collect()
}

/// The lines about which nothing more can be said: the broken ones, and below a broken header its table.
pub(crate) fn suspect_lines(
    broken: impl Iterator<Item = usize>,
    lines: &[&str],
) -> BTreeSet<usize> {
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let mut suspect = BTreeSet::new();
    for number in broken {
        suspect.insert(number);
        if lines.get(number - 1).is_some_and(is_header) {
            let table = lines[number..].iter().take_while(|line| !is_header(line));
            suspect.extend((number + 1..).zip(table).map(|(number, _)| number));
        }
    }
    suspect
}

fn fault(error: &toml::de::Error, text: &str) -> Fault {
    let span = error.span().unwrap_or(0..0);
    let at = text.get(span.clone()).unwrap_or_default();
    let (message, hint) = match error.message() {
        "duplicate key" => (format!("{} is given twice", quoted(at)), None),
        message if message.starts_with("string values must be quoted") => {
            let bare = bare_value(text, &span);
            (
                "a string must be quoted".to_owned(),
                Some(format!(r#"did you mean "{bare}"?"#)),
            )
        }
        message if message.starts_with("missing comma between array elements") => {
            let hint = "or is a `]` missing before?".to_owned();
            (
                "missing comma between array elements".to_owned(),
                Some(hint),
            )
        }
        "invalid basic string, expected `\"`" | "invalid literal string, expected `'`" => {
            ("a string is not closed".to_owned(), None)
        }
        message if message.starts_with("invalid multi-line") && message.contains("expected") => {
            ("a multi-line string is not closed".to_owned(), None)
        }
        message => (message.to_owned(), None),
    };
    Fault {
        span,
        message,
        hint,
        absence: false,
    }
}

/// From the start of an unquoted string to the end of its line, or to a comma, bracket or comment.
fn bare_value<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    let rest = text.get(span.start..).unwrap_or_default();
    let end = rest
        .find(['\n', '\r', ',', ']', '}', '#', '"'])
        .unwrap_or(rest.len());
    rest[..end].trim_end()
}
