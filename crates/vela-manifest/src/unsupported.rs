use std::fmt;

/// A key that is valid, but whose behaviour does not exist yet. A deploy refuses it by name rather than
/// ignore it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsupported {
    /// The key with its tables, as in `services.nats`.
    pub key: String,
    /// The line it is on, from 1.
    pub line: usize,
    /// What there is not, as in "services are not provisioned yet".
    pub why: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (line {}): {}", self.key, self.line, self.why)
    }
}
