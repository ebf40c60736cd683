use std::path::Path;

const LONGEST: usize = 200;

/// A name from an archive or a directory, fit for a terminal: control characters are escaped and
/// what is too long is cut.
pub(crate) fn printable(name: impl AsRef<Path>) -> String {
    let name = name.as_ref().to_string_lossy();
    let mut shown = String::with_capacity(name.len().min(LONGEST));
    for (at, character) in name.chars().enumerate() {
        if at == LONGEST {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_does_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(printable("é".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
