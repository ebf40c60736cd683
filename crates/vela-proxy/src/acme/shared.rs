use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use instant_acme::{Account, ExternalAccountKey, NewAccount};
use secrecy::ExposeSecret;
use tokio::sync::{Mutex, Semaphore, broadcast};

use super::courier::Courier;
use super::disk::Disk;
use super::{AcmeError, AcmeEvent, AcmeSettings, HttpChallenges, Observer};
use crate::tls::{Certificate, CertificateStore, DnsName, Origin};

/// What all orders work with.
pub(super) struct Shared {
    pub(super) settings: AcmeSettings,
    pub(super) store: Arc<CertificateStore>,
    pub(super) http: HttpChallenges,
    pub(super) disk: Disk,
    pub(super) courier: Courier,
    /// Few at a time: authorities count requests too.
    pub(super) permits: Semaphore,
    pub(super) observer: Option<Box<Observer>>,
    /// Gets the first name of what an attempt was for, when it has ended and its end is told.
    pub(super) ended: broadcast::Sender<DnsName>,
    /// Held while an account is made, so that there is one.
    pub(super) account: Mutex<()>,
    /// What the present authority has issued, by the name it is kept under.
    pub(super) issued: std::sync::Mutex<HashMap<DnsName, Certificate>>,
}

impl Shared {
    pub(super) fn tell(&self, event: &AcmeEvent<'_>) {
        tracing::debug!(?event, "acme");
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }

    /// The account with the authority, made now if there is none.
    pub(super) async fn account(&self, courier: &Courier) -> Result<Account, AcmeError> {
        let directory = &self.settings.directory;
        let failed = |error| AcmeError::of(error, courier.retry_after());
        let _one_at_a_time = self.account.lock().await;
        if let Some(credentials) = self.disk.account(directory)? {
            return Account::builder_with_http(Box::new(courier.clone()))
                .from_credentials(credentials)
                .await
                .map_err(failed);
        }
        let external = self.external_account()?;
        let contact = self.settings.contact.as_ref();
        let contact: Vec<String> = contact
            .map(|mail| format!("mailto:{mail}"))
            .into_iter()
            .collect();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let (account, credentials) = Account::builder_with_http(Box::new(courier.clone()))
            .create(
                &NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                },
                directory.clone(),
                external.as_ref(),
            )
            .await
            .map_err(failed)?;
        self.disk.save_account(directory, &credentials)?;
        self.tell(&AcmeEvent::AccountCreated);
        Ok(account)
    }

    /// The valid certificate from the present authority for these names, and maybe more.
    pub(super) fn current(&self, names: &[DnsName]) -> Option<Certificate> {
        let current = self.issued().get(&names[0]).cloned()?;
        let covers = names.iter().all(|name| current.covers(name.as_str()));
        (covers && current.details().not_after > SystemTime::now()).then_some(current)
    }

    /// Serves a certificate that is on disk.
    pub(super) fn install(&self, name: &DnsName, certificate: Certificate) {
        self.issued().insert(name.clone(), certificate.clone());
        self.store.put(Origin::Managed, name.as_str(), certificate);
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<DnsName, Certificate>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn external_account(&self) -> Result<Option<ExternalAccountKey>, AcmeError> {
        let Some(external) = &self.settings.external_account else {
            return Ok(None);
        };
        let key = external.key.expose_secret().trim();
        let key = BASE64_URL_SAFE_NO_PAD
            .decode(key)
            .or_else(|_| BASE64_URL_SAFE.decode(key))
            .map_err(|_| AcmeError::ExternalKey)?;
        Ok(Some(ExternalAccountKey::new(external.kid.clone(), &key)))
    }
}
