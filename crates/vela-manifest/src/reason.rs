use std::fmt::Display;
use std::ops::Range;

/// What a parser of a single value says when it refuses: a message, and where it can, advice and place.
pub(crate) trait Reason: Display {
    /// What to write instead.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The bytes of the parsed text that are at fault, if not all of it.
    fn within(&self) -> Option<Range<usize>> {
        None
    }
}
