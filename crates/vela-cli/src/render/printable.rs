use std::borrow::Cow;

/// `text` without what would move a terminal's cursor or change its state: each control character becomes a visible
/// replacement. For text that another program wrote, such as an app's last words.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(visible).collect())
}

/// Like [`printable`], but keeps colours (`ESC [ 1;31 m`), and resets them at the end.
pub(crate) fn printable_coloured(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return printable(text);
    }
    let mut out = String::with_capacity(text.len() + 4);
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&printable(&rest[..at]));
        rest = &rest[at..];
        match colour(rest) {
            Some(length) => {
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            None => {
                out.push(visible('\u{1b}'));
                rest = &rest[1..];
            }
        }
    }
    out.push_str(&printable(rest));
    out.push_str("\u{1b}[0m");
    Cow::Owned(out)
}

/// The length of the colour sequence at the start of `text`.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

fn is_unsafe(c: char) -> bool {
    // The last range holds the marks that reorder what is shown.
    (c.is_control() && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn visible(c: char) -> char {
    match c {
        '\t' => '\t',
        // The pictures of the control characters stand in their order.
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        c if is_unsafe(c) => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_left_alone() {
        assert!(matches!(printable("héllo\tworld ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(printable("a\u{1b}]0;title\u{7}b\r"), "a␛]0;title␇b␍");
        assert_eq!(printable("\u{202e}gnp.exe"), "\u{fffd}gnp.exe");
    }

    #[test]
    fn colours_pass_and_nothing_else_does() {
        assert_eq!(
            printable_coloured("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2Jgone\u{1b}"),
            "\u{1b}[1;31mred\u{1b}[0m ␛[2Jgone␛\u{1b}[0m"
        );
    }
}
