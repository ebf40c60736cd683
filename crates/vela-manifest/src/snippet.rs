use std::fmt;

use crate::problem::Problem;

/// A problem with the line it is on and a caret below.
pub(crate) struct Snippet<'a> {
    pub(crate) file: &'a str,
    /// The line, without its end.
    pub(crate) line: &'a str,
    pub(crate) problem: &'a Problem,
}

/// The most characters of a line that are shown, and those before the caret when it is cut.
const WIDTH: usize = 120;
const BEFORE: usize = 40;

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            line: number,
            column,
            message,
            hint,
            span,
        } = self.problem;
        writeln!(f, "{}:{number}:{column}: {message}", self.file)?;

        let (line, at) = (self.line, column - 1);
        let marked = line.chars().skip(at).scan(0, |bytes, c| {
            let before = *bytes;
            *bytes += c.len_utf8();
            (before < span.len()).then_some(c)
        });
        let marked = marked.count().max(1);
        let skipped = if line.chars().count() > WIDTH {
            at.saturating_sub(BEFORE)
        } else {
            0
        };
        let shown: String = line.chars().skip(skipped).take(WIDTH).collect();
        // A tab is as wide below the line as in it.
        let indent: String = line
            .chars()
            .skip(skipped)
            .take(at - skipped)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        let carets = "^".repeat(marked.min(WIDTH - (at - skipped).min(WIDTH - 1)));

        let gutter = " ".repeat(number.to_string().len());
        writeln!(f, " {gutter} |")?;
        writeln!(f, " {number} | {shown}")?;
        writeln!(f, " {gutter} | {indent}{carets}")?;
        if let Some(hint) = hint {
            writeln!(f, " {gutter} = hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn snippet(line: &str, span: Range<usize>, column: usize) -> String {
        let message = "wrong".to_owned();
        let problem = Problem {
            line: 2,
            column,
            message,
            hint: None,
            span,
        };
        Snippet {
            file: "f",
            line,
            problem: &problem,
        }
        .to_string()
    }

    #[test]
    fn the_caret_is_below_what_is_wrong() {
        assert_eq!(
            snippet("\tb = äö c", 6..10, 6),
            "f:2:6: wrong\n   |\n 2 | \tb = äö c\n   | \t    ^^\n"
        );
        assert_eq!(snippet("", 9..9, 1), "f:2:1: wrong\n   |\n 2 | \n   | ^\n");
        assert_eq!(
            snippet("a = [", 4..99, 5),
            "f:2:5: wrong\n   |\n 2 | a = [\n   |     ^\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = snippet(&line, 500..1001, 501);
        assert!(shown.lines().all(|line| line.len() < 140), "{shown}");
        assert!(shown.contains("aXb"), "{shown}");
        let carets = format!("   | {}^^", " ".repeat(BEFORE));
        assert!(
            shown.lines().any(|line| line.starts_with(&carets)),
            "{shown}"
        );
    }
}
