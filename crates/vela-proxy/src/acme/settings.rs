use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Where certificates come from, and how patiently.
#[derive(Clone, Debug)]
pub struct AcmeSettings {
    /// The URL of the authority's directory.
    pub directory: String,
    /// The mail address that the authority may write to.
    pub contact: Option<String>,
    /// A PEM file of the authority that the directory's own certificate is from, if it is none of
    /// the system's.
    pub directory_ca: Option<PathBuf>,
    /// For an authority that has customers of its own.
    pub external_account: Option<ExternalAccount>,
    /// A line for `sh` that sets and removes TXT records, for names with a star. It is run with
    /// `VELA_ACME_ACTION` (`set` or `remove`), `VELA_ACME_NAME` (`_acme-challenge.example.com`) and
    /// `VELA_ACME_VALUE` in its environment, and ends when the record is visible. There may be
    /// several records of one name at a time.
    pub dns_hook: Option<String>,
    /// The directory of its own where account, orders and certificates are kept.
    pub state: PathBuf,
    /// How soon it tries again.
    pub pace: Pace,
}

/// An account that the authority knows otherwise: the external account binding.
#[derive(Clone, Debug)]
pub struct ExternalAccount {
    /// What the authority calls it.
    pub kid: String,
    /// The key to it, in base64url.
    pub key: SecretString,
}

/// How soon to try again after a failure. Each further one takes longer, and some chance is in it.
/// An authority that says when to come back is obeyed beyond this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After the authority could not be reached. Doubles. Default 10 s.
    pub unreachable: Duration,
    /// After the authority has refused: a name that it could not verify, say. Triples. Default
    /// 2 min, which makes four attempts in the first hour: Let's Encrypt allows five.
    pub refused: Duration,
    /// The longest pause. Default 12 h.
    pub longest: Duration,
    /// How long an authority may take to verify a name or to sign. Default 2 min.
    pub patience: Duration,
}

impl AcmeSettings {
    /// Let's Encrypt, whose certificates every client trusts.
    pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
    /// Its double for tests, which nobody trusts and which allows more.
    pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

    /// Let's Encrypt, with the state in this directory.
    pub fn new(state: impl Into<PathBuf>) -> AcmeSettings {
        AcmeSettings {
            directory: AcmeSettings::LETS_ENCRYPT.to_owned(),
            contact: None,
            directory_ca: None,
            external_account: None,
            dns_hook: None,
            state: state.into(),
            pace: Pace::default(),
        }
    }
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            unreachable: Duration::from_secs(10),
            refused: Duration::from_secs(120),
            longest: Duration::from_secs(12 * 3600),
            patience: Duration::from_secs(120),
        }
    }
}
