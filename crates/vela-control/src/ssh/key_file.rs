use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

/// A private key as it lies on disk.
#[derive(Debug)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// The file's text.
    pub(super) private: SecretString,
    pub(super) encrypted: bool,
    /// The public half in SSH's encoding, where it can be told without a passphrase.
    pub(super) public: Option<Vec<u8>>,
}

impl KeyFile {
    /// Reads a key; nothing if there is no such file.
    pub(super) fn read(path: &Path) -> io::Result<Option<KeyFile>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = openssh_header(&text);
        let encrypted = match &header {
            Some((cipher, _)) => cipher != b"none",
            // PEM, of PKCS#8 or older.
            None => text.contains("ENCRYPTED"),
        };
        let public = header
            .map(|(_, public)| public)
            .or_else(|| public_file(path));
        Ok(Some(KeyFile {
            path: path.to_owned(),
            private: text.into(),
            encrypted,
            public,
        }))
    }
}

/// The public key of `<path>.pub`, for a private key that an agent holds.
pub(super) fn public_file(path: &Path) -> Option<Vec<u8>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    let text = fs::read_to_string(name).ok()?;
    STANDARD.decode(text.split_ascii_whitespace().nth(1)?).ok()
}

/// Cipher and public key of OpenSSH's own format: they stand before what a passphrase encrypts.
fn openssh_header(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let body = text
        .trim()
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?
        .strip_suffix("-----END OPENSSH PRIVATE KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(body).ok()?;
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let cipher = field(&mut rest)?;
    let _kdf = field(&mut rest)?;
    let _kdf_options = field(&mut rest)?;
    rest = rest.get(4..)?;
    let public = field(&mut rest)?;
    Some((cipher.to_vec(), public.to_vec()))
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(field)
}
