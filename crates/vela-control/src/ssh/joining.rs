use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::link::Ending;
use crate::join::{ABSENT, DENIED, READY};
use crate::transport::TransportError;

/// What `vela join` says before the daemon's first byte, or that it never said anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Ready,
    Absent(PathBuf),
    Denied(PathBuf),
    /// It ended without a word.
    Silent,
}

/// More than this much before the word is no login shell's greeting.
const GREETING: usize = 64 << 10;

/// Reads up to the end of the word's line and not a byte further. A login shell may print something before.
pub(crate) async fn read_word(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Word> {
    let mut line = Vec::new();
    for _ in 0..GREETING {
        match stream.read_u8().await {
            Ok(b'\n') => {
                if let Some(word) = word(&String::from_utf8_lossy(&line)) {
                    return Ok(word);
                }
                line.clear();
            }
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Word::Silent),
            Err(error) => return Err(error),
        }
    }
    Ok(Word::Silent)
}

/// Why a command that ended without a word did so.
pub(super) fn why_silent(host: &str, command: &str, ending: &Ending) -> TransportError {
    let host = host.to_owned();
    let last = ending.stderr.trim().lines().last().unwrap_or_default();
    let missing = ["not found", "No such file"];
    if ending.status == Some(127) || missing.iter().any(|words| last.contains(words)) {
        return TransportError::NoVela { host };
    }
    let ended = match (&ending.status, &ending.signal) {
        (_, Some(signal)) => format!("killed by signal {signal}"),
        (Some(status), None) => format!("exit code {status}"),
        (None, None) => "it ended".into(),
    };
    TransportError::Join {
        host,
        command: command.to_owned(),
        detail: match last {
            "" => ended,
            last => format!("{ended}, {last}"),
        },
    }
}

fn word(line: &str) -> Option<Word> {
    let line = line.trim_end_matches('\r');
    if line == READY {
        return Some(Word::Ready);
    }
    let absent = line
        .strip_prefix(ABSENT)
        .map(|path| Word::Absent(path.into()));
    absent.or_else(|| {
        line.strip_prefix(DENIED)
            .map(|path| Word::Denied(path.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_word_is_found_behind_a_greeting_and_nothing_after_it_is_read() {
        let mut stream =
            &b"Welcome to prod!\nfortune: vela-join 1 ready\nvela-join 1 ready\nHTTP"[..];
        assert_eq!(read_word(&mut stream).await.unwrap(), Word::Ready);
        assert_eq!(stream, b"HTTP");
        let mut stream = &b"vela-join 1 denied /run/vela/vela.sock\n"[..];
        let denied = Word::Denied("/run/vela/vela.sock".into());
        assert_eq!(read_word(&mut stream).await.unwrap(), denied);
        assert_eq!(read_word(&mut &b"Welcome"[..]).await.unwrap(), Word::Silent);
    }

    #[test]
    fn a_missing_command_is_told_from_a_failing_one() {
        let ending = |status, stderr: &str| Ending {
            status,
            signal: None,
            stderr: stderr.into(),
        };
        let why = |ending| why_silent("h", "vela join", &ending);
        for missing in [
            ending(Some(127), "bash: line 1: vela: command not found"),
            ending(Some(1), "vela: Command not found."),
        ] {
            assert!(matches!(why(missing), TransportError::NoVela { .. }));
        }
        let failed = why(ending(Some(1), "This account is not available."));
        assert_eq!(
            failed.to_string(),
            "`vela join` failed on h: exit code 1, This account is not available."
        );
    }
}
