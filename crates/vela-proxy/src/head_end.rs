use memchr::memchr;

/// Looks for the end of a head as its bytes come, each byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    /// How much has been looked at.
    seen: usize,
    /// Where the current line begins.
    line: usize,
}

/// How far a head has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It goes on.
    Partial {
        /// Not even its first line has ended.
        in_first_line: bool,
    },
    /// All of it, in so many bytes.
    Whole(usize),
    /// A line ends without a CR, which others may not take for its end.
    BareLineFeed,
}

impl HeadEnd {
    /// Whether nothing has been looked at yet.
    pub(crate) fn is_at_start(&self) -> bool {
        self.seen == 0
    }

    /// Looks on. Empty lines before the first one must have been left out.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Extent {
        while let Some(offset) = memchr(b'\n', &bytes[self.seen..]) {
            let at = self.seen + offset;
            if at == 0 || bytes[at - 1] != b'\r' {
                return Extent::BareLineFeed;
            }
            if at == self.line + 1 && self.line > 0 {
                return Extent::Whole(at + 1);
            }
            self.seen = at + 1;
            self.line = at + 1;
        }
        self.seen = bytes.len();
        Extent::Partial {
            in_first_line: self.line == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_however_it_comes() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest\n";
        for piece in 1..head.len() {
            let mut end = HeadEnd::default();
            let found = (0..=head.len())
                .step_by(piece)
                .map(|at| end.find(&head[..at]))
                .find(|extent| !matches!(extent, Extent::Partial { .. }));
            assert!(found == Some(Extent::Whole(27)) || found.is_none());
        }
        assert_eq!(HeadEnd::default().find(head), Extent::Whole(27));
        let line = |bytes: &[u8]| HeadEnd::default().find(bytes);
        assert_eq!(
            line(b"GET / HTTP/1.1\r"),
            Extent::Partial {
                in_first_line: true
            }
        );
        assert_eq!(
            line(b"GET / HTTP/1.1\r\n\r"),
            Extent::Partial {
                in_first_line: false
            }
        );
        for bare in [
            "\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\na: b\n\r\n",
            "a\r\n\n",
        ] {
            assert_eq!(line(bare.as_bytes()), Extent::BareLineFeed, "{bare:?}");
        }
    }
}
