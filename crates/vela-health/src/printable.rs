/// The longest text that is kept of what an instance said, in characters.
const LONGEST: usize = 200;

/// The first line of `text` that is not blank, fit for a terminal.
pub(crate) fn first_line(text: &[u8]) -> Option<String> {
    text.split(|&byte| byte == b'\n').find_map(line)
}

/// One line, fit for a terminal: at most 200 characters (before escaping), trimmed, with escapes
/// for what would move the cursor or reorder the text. `None` if it is blank.
pub(crate) fn line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    let mut shown = String::new();
    for (n, char) in text.chars().enumerate() {
        if n == LONGEST {
            shown.push('…');
            break;
        }
        if is_unsafe(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    (!shown.is_empty()).then_some(shown)
}

/// Control characters, and the invisible ones that change the order or the look of what is around.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_is_not_blank() {
        assert_eq!(
            first_line(b"\r\n  \n db is down \r\nmore").as_deref(),
            Some("db is down")
        );
        assert_eq!(first_line(b" \n\r\n"), None);
        assert_eq!(first_line(b""), None);
    }

    #[test]
    fn what_would_drive_a_terminal_is_escaped() {
        assert_eq!(
            line(b"\x1b[2Jgone\x07").as_deref(),
            Some(r"\u{1b}[2Jgone\u{7}")
        );
        assert_eq!(
            line("a\u{202e}b".as_bytes()).as_deref(),
            Some(r"a\u{202e}b")
        );
        assert_eq!(line("größe\\n".as_bytes()).as_deref(), Some("größe\\n"));
        assert_eq!(line(b"\xff!").as_deref(), Some("\u{fffd}!"));
    }

    #[test]
    fn long_lines_are_cut() {
        let long = line("é".repeat(201).as_bytes()).unwrap();
        assert_eq!(long.chars().count(), 201);
        assert!(long.ends_with("é…"));
        assert_eq!(line("é".repeat(200).as_bytes()).unwrap(), "é".repeat(200));
    }
}
