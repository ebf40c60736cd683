use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::ManifestError;
use crate::invalid_file::InvalidFile;
use crate::problem::Problem;

/// The largest file that is read.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// From byte offsets to lines and columns, both from 1; columns count characters.
pub(crate) struct Positions<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Positions<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    pub(crate) fn of(&self, offset: usize) -> (usize, usize) {
        let line = self.line_of(offset);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }
}

/// Reads a file as text; never more than it may have.
pub(crate) fn read_file(path: &Path) -> Result<String, ManifestError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?
            .take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let file = || path.display().to_string();
    let bytes = read().map_err(|source| ManifestError::Read {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { file: file() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let (line, column) = Positions::new(&text).of(at);
        let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
        let message = "the file is not UTF-8 text".to_owned();
        let problem = Problem {
            line,
            column,
            message,
            hint: None,
            span,
        };
        ManifestError::Invalid(Box::new(InvalidFile::new(&file(), &text, vec![problem])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let positions = Positions::new("a\nbä c\r\n");
        assert_eq!(positions.of(0), (1, 1));
        assert_eq!(positions.of(2), (2, 1));
        assert_eq!(positions.of("a\nbä ".len()), (2, 4));
        assert_eq!(positions.of("a\nbä c\r\n".len()), (3, 1));
        assert_eq!(Positions::new("").of(0), (1, 1));
    }
}
