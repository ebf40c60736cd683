use std::collections::BTreeMap;

use secrecy::SecretString;

/// The environment variables through which a program finds its service, by name. The values may
/// hold passwords, so all of them are secrets.
pub type Bindings = BTreeMap<String, SecretString>;
