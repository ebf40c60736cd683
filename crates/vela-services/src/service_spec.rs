use secrecy::SecretString;

/// What is asked of a service.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServiceSpec {
    /// Where a service that exists already is found, with its credentials.
    pub url: Option<SecretString>,
    /// The version to run.
    pub version: Option<String>,
    /// The databases to create.
    pub databases: Vec<String>,
}

impl ServiceSpec {
    /// A service that exists already, at `url`.
    #[must_use]
    pub fn existing(url: SecretString) -> Self {
        Self {
            url: Some(url),
            ..Self::default()
        }
    }
}
