use crate::buffer::Buffer;
use crate::field::Field;

/// The header lines of a head that has been parsed.
#[derive(Debug)]
pub(crate) struct Lines<'h, 'b> {
    head: &'b [u8],
    headers: &'h [httparse::Header<'b>],
}

impl<'h, 'b> Lines<'h, 'b> {
    /// `headers` must have been parsed from `head`, which ends with an empty line.
    pub(crate) fn of(head: &'b [u8], headers: &'h [httparse::Header<'b>]) -> Lines<'h, 'b> {
        Lines { head, headers }
    }

    /// Copies the lines that pass, as they are, and neighbours at one go.
    pub(crate) fn copy(&self, passes: impl Fn(Field, &[u8]) -> bool, out: &mut Buffer) {
        let mut run = None;
        for header in self.headers {
            let name = header.name.as_bytes();
            if passes(Field::of(name), name) {
                run = run.or(Some(self.offset(name)));
            } else if let Some(begin) = run.take() {
                out.append(&self.head[begin..self.offset(name)]);
            }
        }
        if let Some(begin) = run {
            out.append(&self.head[begin..self.head.len() - 2]);
        }
    }

    /// Where a part of the head stands in it.
    fn offset(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.head.as_ptr() as usize
    }
}
