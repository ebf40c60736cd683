use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use crate::wire::{self, Command, LONGEST_LINE, Report};

/// A supervisor that listens.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    input: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Whether the peer is still there. One that does not read its few lines is given up rather
    /// than waited for: it finds out when it connects again.
    pub(crate) fn send(&mut self, report: &Report) -> bool {
        let Ok(line) = wire::encode(report) else {
            return false;
        };
        // A socket's buffer is larger than any report, so that a short write is a stuck peer.
        matches!((&self.stream).write(&line), Ok(n) if n == line.len())
    }

    /// The commands that have arrived, and whether the peer is still there.
    pub(crate) fn receive(&mut self) -> (Vec<Command>, bool) {
        let mut commands = Vec::new();
        let mut block = [0; 4096];
        loop {
            match rustix::io::read(&self.stream, &mut block) {
                Ok(0) => return (commands, false),
                Ok(n) => self.input.extend_from_slice(&block[..n]),
                Err(rustix::io::Errno::AGAIN) => return (commands, true),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return (commands, false),
            }
            while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                match wire::decode(&line) {
                    Ok(command) => commands.push(command),
                    Err(error) => {
                        tracing::warn!(%error, "a command is not understood");
                        return (commands, false);
                    }
                }
            }
            if self.input.len() > LONGEST_LINE {
                return (commands, false);
            }
        }
    }
}
