use std::sync::Arc;

use super::dns_hook;
use super::{AcmeError, Challenge, HttpChallenges};
use crate::tls::{CertificateStore, DnsName};

/// The answers to an order's challenges. They are taken back when this is dropped, but for TXT
/// records, which [`Answers::withdraw`] takes back.
#[derive(Debug)]
pub(super) struct Answers {
    http: HttpChallenges,
    store: Arc<CertificateStore>,
    hook: Option<String>,
    tokens: Vec<String>,
    certificates: Vec<DnsName>,
    records: Vec<(String, String)>,
}

impl Answers {
    pub(super) fn new(
        http: HttpChallenges,
        store: Arc<CertificateStore>,
        hook: Option<String>,
    ) -> Answers {
        Answers {
            http,
            store,
            hook,
            tokens: Vec::new(),
            certificates: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Which ways there are for a name. The last resort is last; further failures begin further on.
    pub(super) fn ways(&self, is_wildcard: bool, failures: u32) -> Vec<Challenge> {
        let dns = self.hook.is_some().then_some(Challenge::Dns01);
        let mut ways = match is_wildcard {
            true => vec![],
            false => vec![Challenge::Http01, Challenge::TlsAlpn01],
        };
        ways.extend(dns);
        let further = (failures as usize).checked_rem(ways.len()).unwrap_or(0);
        ways.rotate_left(further);
        ways
    }

    pub(super) async fn give(
        &mut self,
        way: Challenge,
        name: &str,
        handle: &instant_acme::ChallengeHandle<'_>,
    ) -> Result<(), AcmeError> {
        let authorization = handle.key_authorization();
        match way {
            Challenge::Http01 => {
                self.http.put(&handle.token, authorization.as_str());
                self.tokens.push(handle.token.clone());
            }
            Challenge::TlsAlpn01 => {
                let name = DnsName::parse(name).map_err(|_| AcmeError::NoChallenge {
                    name: name.to_owned(),
                })?;
                self.store
                    .put_challenge(name.clone(), authorization.digest().as_ref())
                    .map_err(|source| AcmeError::Challenge { source })?;
                self.certificates.push(name);
            }
            Challenge::Dns01 => {
                let Some(hook) = &self.hook else {
                    return Err(AcmeError::NoChallenge {
                        name: name.to_owned(),
                    });
                };
                let record = format!("_acme-challenge.{}", name.trim_start_matches("*."));
                let value = authorization.dns_value();
                // One that it sets and then fails about is to be removed too.
                self.records.push((record.clone(), value.clone()));
                dns_hook::run(hook, "set", &record, &value).await?;
            }
        }
        Ok(())
    }

    /// Takes all answers back.
    pub(super) async fn withdraw(mut self) {
        let hook = self.hook.take().unwrap_or_default();
        for (name, value) in std::mem::take(&mut self.records) {
            if let Err(error) = dns_hook::run(&hook, "remove", &name, &value).await {
                let error = crate::tls::with_causes(&error);
                tracing::warn!(%error, "a TXT record stays behind");
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for token in &self.tokens {
            self.http.remove(token);
        }
        for name in &self.certificates {
            self.store.remove_challenge(name);
        }
    }
}
