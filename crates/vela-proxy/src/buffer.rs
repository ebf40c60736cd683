use std::cell::RefCell;

/// What a buffer holds at first: a usual head, or a piece of a body.
const SMALL: usize = 16 * 1024;
/// What it holds once reads fill it: fewer and larger calls for large bodies.
const LARGE: usize = 256 * 1024;
/// How many buffers of each size a thread keeps for their next use.
const KEPT_SMALL: usize = 256;
const KEPT_LARGE: usize = 16;

/// Bytes that came and have not been used yet, or that have not been sent yet.
///
/// Its memory is borrowed from the thread while it holds something, so that idle connections have
/// none and busy ones use what is in the processor's cache.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All of it initialised; empty while it has no memory.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    is_bulk: bool,
    was_consumed: bool,
}

impl Buffer {
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first bytes were used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.was_consumed |= count > 0;
        self.start = (self.start + count).min(self.end);
    }

    /// Whether nothing was consumed of all that it ever held. Where its bytes begin does not tell:
    /// who adds to it may move them.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.was_consumed
    }

    /// What was consumed since the last [`append`](Self::append) is there again.
    pub(crate) fn rewind(&mut self) {
        self.start = 0;
        self.was_consumed = false;
    }

    /// Adds bytes at the end.
    #[inline]
    pub(crate) fn append(&mut self, more: &[u8]) {
        if self.is_empty() || self.bytes.len() - self.end < more.len() {
            self.make_space(more.len());
        }
        self.bytes[self.end..self.end + more.len()].copy_from_slice(more);
        self.end += more.len();
    }

    /// Forgets the last bytes: so many stay.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Forgets all and gives the memory back.
    pub(crate) fn release(&mut self) {
        self.start = 0;
        self.end = 0;
        self.is_bulk = false;
        self.was_consumed = false;
        self.give_back();
    }

    pub(crate) fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            self.give_back();
        }
    }

    /// Keeps no more memory than what it holds needs, for a long time maybe. Does nothing once some
    /// of that was used.
    pub(crate) fn shrink(&mut self) {
        if self.start == 0 && self.end < self.bytes.len() {
            let held = self.filled().to_vec();
            self.give_back();
            self.bytes = held;
        }
    }

    /// Room to read into, at least one byte. It grows only while it is full, up to `limit`.
    pub(crate) fn space(&mut self, limit: usize) -> Option<&mut [u8]> {
        if self.is_empty() && (self.start > 0 || self.bytes.is_empty()) {
            self.make_space(1);
        } else if self.end == self.bytes.len() {
            if self.start == 0 && self.len() >= limit {
                return None;
            }
            self.make_space(1);
        }
        Some(&mut self.bytes[self.end..])
    }

    /// As many bytes as were read into the [`space`](Self::space).
    pub(crate) fn read(&mut self, count: usize) {
        self.end += count;
        if count >= SMALL {
            self.is_bulk = true;
        }
    }

    fn make_space(&mut self, count: usize) {
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            if self.bytes.is_empty() || (self.is_bulk && self.bytes.len() < LARGE) {
                self.give_back();
                self.bytes = take(self.is_bulk);
            }
        } else if self.start > 0 && self.bytes.len() - self.end < count {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < count {
            let wanted = (self.end + count).next_power_of_two().max(SMALL);
            self.bytes.resize(wanted, 0);
        }
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() == SMALL || bytes.len() == LARGE {
            // While the thread ends, its buffers have gone already.
            FREE.try_with(|free| free.borrow_mut().put(bytes)).ok();
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[derive(Debug, Default)]
struct Free {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Free {
    fn put(&mut self, bytes: Vec<u8>) {
        let (kept, most) = match bytes.len() {
            LARGE => (&mut self.large, KEPT_LARGE),
            _ => (&mut self.small, KEPT_SMALL),
        };
        if kept.len() < most {
            kept.push(bytes);
        }
    }
}

thread_local! {
    static FREE: RefCell<Free> = RefCell::default();
}

fn take(is_bulk: bool) -> Vec<u8> {
    let (kept, size) = match is_bulk {
        true => (FREE.try_with(|free| free.borrow_mut().large.pop()), LARGE),
        false => (FREE.try_with(|free| free.borrow_mut().small.pop()), SMALL),
    };
    kept.ok().flatten().unwrap_or_else(|| vec![0; size])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_in_order() {
        let mut buffer = Buffer::default();
        buffer.append(b"abc");
        buffer.consume(2);
        buffer.append(&[b'd'; SMALL]);
        assert_eq!(buffer.len(), SMALL + 1);
        assert!(buffer.filled().starts_with(b"cdd"));
        buffer.truncate(SMALL);
        assert_eq!(buffer.filled().last(), Some(&b'd'));
        assert_eq!(buffer.len(), SMALL);
        buffer.consume(SMALL);
        buffer.append(b"e");
        assert_eq!(buffer.filled(), b"e");
        buffer.consume(1);
        buffer.rewind();
        assert_eq!(buffer.filled(), b"e");
    }

    #[test]
    fn is_touched_by_what_was_consumed_and_not_by_what_moves() {
        let mut buffer = Buffer::default();
        buffer.append(b"head");
        assert!(buffer.is_untouched());
        buffer.consume(4);
        buffer.append(b"body");
        assert!(!buffer.is_untouched(), "begun anew");
        buffer.consume(1);
        buffer.append(&[b'x'; SMALL]);
        assert!(!buffer.is_untouched(), "moved to the front");
        buffer.release();
        assert!(buffer.is_untouched());
    }

    #[test]
    fn grows_up_to_its_limit_and_only_when_full() {
        let mut buffer = Buffer::default();
        let first = buffer.space(2 * SMALL).unwrap().len();
        assert_eq!(first, SMALL);
        buffer.read(first);
        let second = buffer.space(2 * SMALL).unwrap().len();
        assert_eq!(second, SMALL);
        buffer.read(second);
        assert!(buffer.space(2 * SMALL).is_none());
        buffer.consume(1);
        assert_eq!(buffer.space(2 * SMALL).unwrap().len(), 1);
    }

    #[test]
    fn holds_the_same_in_less_memory_and_grows_again() {
        let mut buffer = Buffer::default();
        buffer.append(b"head");
        buffer.shrink();
        assert_eq!((buffer.filled(), buffer.bytes.len()), (&b"head"[..], 4));
        buffer.append(b"body");
        assert_eq!(buffer.filled(), b"headbody");
        buffer.consume(8);
        buffer.shrink();
        buffer.rewind();
        assert_eq!(buffer.filled(), b"headbody");
        buffer.release();
        buffer.shrink();
        assert_eq!(buffer.space(SMALL).unwrap().len(), SMALL);
    }

    #[test]
    fn is_larger_when_reads_fill_it() {
        let mut buffer = Buffer::default();
        let first = buffer.space(SMALL).unwrap().len();
        buffer.read(first);
        buffer.consume(first);
        assert_eq!(buffer.space(SMALL).unwrap().len(), LARGE);
        buffer.release();
        assert_eq!(buffer.space(SMALL).unwrap().len(), SMALL);
    }
}
