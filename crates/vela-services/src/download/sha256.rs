use std::fmt;

use super::InvalidDownload;

/// A checksum.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits.
    pub(super) fn parse(digits: &str) -> Result<Self, InvalidDownload> {
        let invalid = || InvalidDownload::Sha256(digits.chars().take(80).collect());
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let value = digit(pair[0]).zip(digit(pair[1])).ok_or_else(invalid)?;
            *byte = u8::try_from(value.0 * 16 + value.1).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }

    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
