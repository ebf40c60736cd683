use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// No line that is worth showing lies further back.
const TAIL: u64 = 256 * 1024;

/// The last `lines` lines of a file, the last one last. None of one that can't be read: there is
/// nothing to show.
pub(super) fn tail(file: &Path, lines: usize) -> Vec<String> {
    let Ok(text) = read_end(file) else {
        return Vec::new();
    };
    let all: Vec<_> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|&line| line.to_owned()).collect()
}

fn read_end(file: &Path) -> io::Result<String> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        assert!(tail(&file, 3).is_empty());
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&file, 2), ["two", "three"]);
        assert_eq!(tail(&file, 9), ["one", "two", "three"]);
    }
}
