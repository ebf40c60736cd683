use std::io;

/// Bytes on their way from one side of a link to the other: filled when empty, then emptied.
///
/// libssh2 wants a write that it could not finish repeated with the same bytes in the same place; they stay where they are.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Buffer {
    pub(super) fn new(capacity: usize) -> Buffer {
        Buffer {
            bytes: vec![0; capacity].into(),
            from: 0,
            to: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub(super) fn take(&mut self, count: usize) {
        self.from += count;
    }

    /// Fills an empty buffer by one call of `read`, and gives what that said.
    pub(super) fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<Option<usize>, E>,
    ) -> Result<Option<usize>, E> {
        debug_assert!(self.is_empty());
        let count = read(&mut self.bytes)?;
        self.from = 0;
        self.to = count.unwrap_or(0);
        Ok(count)
    }
}

/// Nothing for a call that would have to wait.
pub(super) fn unless_waiting(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
