use secrecy::SecretString;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A new password of 32 letters and digits, 190 random bits: it needs no quoting anywhere, and
/// can't be guessed.
///
/// # Panics
///
/// If the system has no random numbers, which no Linux that runs this has.
pub(crate) fn new_password() -> SecretString {
    let mut password = String::with_capacity(32);
    while password.len() < 32 {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).expect("the kernel's random numbers never fail");
        // What is over the last multiple of 62 would make some letters likelier than others.
        let letters = bytes
            .iter()
            .filter(|byte| **byte < 248)
            .map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        password.extend(letters.take(32 - password.len()));
    }
    SecretString::from(password)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn each_is_another() {
        let (one, other) = (new_password(), new_password());
        assert_eq!(one.expose_secret().len(), 32);
        assert!(
            one.expose_secret()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric())
        );
        assert_ne!(one.expose_secret(), other.expose_secret());
    }
}
