use secrecy::{ExposeSecret, SecretString};

/// What the server is told instead of the password, and from which the password can't be had:
/// SCRAM-SHA-256 of RFC 7677 as Postgres stores it, with a new salt.
pub(super) fn verifier(password: &SecretString) -> SecretString {
    postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes()).into()
}

/// Secrets in a file that is 0600.
pub(super) mod in_file {
    use secrecy::{ExposeSecret, SecretString};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::postgres) fn serialize<S: Serializer>(
        secret: &SecretString,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose_secret())
    }

    pub(in crate::postgres) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SecretString, D::Error> {
        String::deserialize(deserializer).map(SecretString::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_salted_and_does_not_tell_the_password() {
        let password = SecretString::from("hunter2");
        let one = verifier(&password);
        let text = one.expose_secret();
        assert!(text.starts_with("SCRAM-SHA-256$4096:"), "{text}");
        assert!(!text.contains("hunter2"));
        assert_ne!(text, verifier(&password).expose_secret());
    }
}
