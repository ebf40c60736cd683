use std::fmt::{self, Write as _};

/// A text of the user's inside a message: in backquotes, control characters escaped, cut when long.
pub(crate) fn quoted(text: &str) -> impl fmt::Display {
    const SHOWN: usize = 60;
    fmt::from_fn(move |f| {
        f.write_char('`')?;
        for (index, c) in text.chars().enumerate() {
            if index == SHOWN {
                f.write_char('…')?;
                break;
            }
            if is_unprintable(c) {
                write!(f, "{}", c.escape_default())?
            } else {
                f.write_char(c)?
            }
        }
        f.write_char('`')
    })
}

/// Characters that could move a terminal's cursor or turn its text around.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_cuts() {
        assert_eq!(quoted("a\x1b[2Jä").to_string(), r"`a\u{1b}[2Jä`");
        assert_eq!(quoted(&"x".repeat(99)).to_string().chars().count(), 63);
    }
}
