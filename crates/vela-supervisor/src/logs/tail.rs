use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{LogLine, rotated};

/// How much is read at a time, from the end of a file towards its start.
const BLOCK: u64 = 64 << 10;

/// The last lines of a log, oldest first, rotated files included. Blocks.
///
/// A log that does not exist yet has no lines. A last line without a newline is being written and
/// is left out. If the log is rotated meanwhile, lines are neither doubled nor lost, but fewer than
/// asked for may be returned.
///
/// # Errors
/// When a file exists but cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<LogLine>> {
    // All are opened first, newest first: a rotation then cannot hide or double one.
    let mut files: Vec<File> = Vec::new();
    let mut missing = 0;
    for index in 0.. {
        match File::open(rotated(path, index)) {
            Ok(file) => files.push(file),
            // One may be missing in the middle of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == 0 => missing += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    dedup(&mut files)?;
    let mut found = VecDeque::new();
    for file in files {
        let length = file.metadata()?.len();
        tail_of(&file, length, lines, &mut found)?;
        if found.len() >= lines {
            break;
        }
    }
    Ok(found.into())
}

/// The same file twice: it was rotated between the two calls of open.
fn dedup(files: &mut Vec<File>) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let mut seen = Vec::new();
    for file in files.iter() {
        let metadata = file.metadata()?;
        seen.push((metadata.dev(), metadata.ino()));
    }
    let mut index = 0;
    files.retain(|_| {
        index += 1;
        !seen[..index - 1].contains(&seen[index - 1])
    });
    Ok(())
}

/// Puts the last lines of the file's first `end` bytes before those found already.
pub(super) fn tail_of(
    file: &File,
    mut end: u64,
    lines: usize,
    found: &mut VecDeque<LogLine>,
) -> io::Result<()> {
    // The bytes between `end` and the first newline after it, known to belong to one line.
    let mut carry: Option<Vec<u8>> = None;
    while end > 0 && found.len() < lines {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut block, start)?;
        let mut pieces = block.rsplit(|byte| *byte == b'\n');
        let last = pieces.next().unwrap_or_default();
        let mut current = carry.take().map(|rest| [last, &rest].concat());
        for piece in pieces {
            if let Some(line) = current.replace(piece.to_vec()) {
                if found.len() >= lines {
                    return Ok(());
                }
                found.push_front(LogLine::parse(&line));
            }
        }
        carry = current;
        end = start;
    }
    if let Some(line) = carry
        && end == 0
        && found.len() < lines
    {
        found.push_front(LogLine::parse(&line));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn takes_the_last_lines_over_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        assert_eq!(tail(&path, 5).unwrap(), []);
        std::fs::write(rotated(&path, 2), "a\nb\n").unwrap();
        std::fs::write(rotated(&path, 1), "c\n\n").unwrap();
        std::fs::write(&path, "d\nhalf").unwrap();
        assert_eq!(texts(tail(&path, 0).unwrap()), [] as [&str; 0]);
        assert_eq!(texts(tail(&path, 1).unwrap()), ["d"]);
        assert_eq!(texts(tail(&path, 4).unwrap()), ["b", "c", "", "d"]);
        assert_eq!(texts(tail(&path, 99).unwrap()), ["a", "b", "c", "", "d"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(texts(tail(&path, 2).unwrap()), ["c", ""]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn block_borders_do_not_matter(
            sizes in proptest::collection::vec(0usize..70_000, 0..8),
            lines in 0usize..10,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app.log");
            let all: Vec<String> =
                sizes.iter().enumerate().map(|(n, size)| format!("{n}{}", "x".repeat(*size))).collect();
            std::fs::write(&path, all.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            let expected = &all[all.len().saturating_sub(lines)..];
            prop_assert_eq!(texts(tail(&path, lines).unwrap()), expected);
        }
    }
}
