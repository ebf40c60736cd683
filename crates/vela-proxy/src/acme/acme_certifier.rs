use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::courier::Courier;
use super::disk::Disk;
use super::keeper::{Call, Keeper, Told};
use super::shared::Shared;
use super::{
    AcmeError, AcmeSettings, Certified, Certifier, CertifierState, HttpChallenges, Observer,
};
use crate::tls::{CertificateStore, DnsName, Origin};
use crate::{HostPattern, RouteId};

/// Obtains certificates from an authority that speaks ACME, and renews them. Dropped, it stops
/// where it is, and the next one on the same directory goes on from there.
pub struct Acme {
    shared: Arc<Shared>,
    kept: Mutex<HashMap<RouteId, Kept>>,
    runtime: Handle,
}

/// A route whose certificate is being kept.
struct Kept {
    names: Vec<DnsName>,
    status: watch::Receiver<Told>,
    call: Arc<Call>,
    task: AbortHandle,
}

/// Orders under way at a time.
const AT_ONCE: usize = 4;

impl Acme {
    /// Serves the certificates that are on disk from now on. Asks the authority for nothing until
    /// a route wants something. Does file I/O. At most one at a time may use a state directory.
    ///
    /// # Errors
    /// When the state directory cannot be used, or `directory_ca` holds no certificate.
    ///
    /// # Panics
    /// Outside of a tokio runtime, which it works on.
    pub fn open(settings: AcmeSettings, store: Arc<CertificateStore>) -> Result<Acme, AcmeError> {
        Acme::observed(settings, store, None)
    }

    /// The same, with somebody who is told what happens.
    ///
    /// # Errors
    /// As [`Acme::open`].
    ///
    /// # Panics
    /// As [`Acme::open`].
    pub fn observed(
        settings: AcmeSettings,
        store: Arc<CertificateStore>,
        observer: Option<Box<Observer>>,
    ) -> Result<Acme, AcmeError> {
        let disk = Disk::open(&settings.state)?;
        let courier = Courier::new(settings.directory_ca.as_deref())?;
        let found = disk.certificates()?;
        let served = found.iter().map(|(name, issued)| {
            // Those of another authority too, until the present one has issued others.
            (name.to_string(), issued.certificate.clone())
        });
        store.put_all(Origin::Managed, served);
        let issued = found
            .into_iter()
            .filter(|(_, issued)| issued.directory == settings.directory)
            .map(|(name, issued)| (name, issued.certificate))
            .collect();
        Ok(Acme {
            shared: Arc::new(Shared {
                settings,
                store,
                http: HttpChallenges::default(),
                disk,
                courier,
                permits: Semaphore::new(AT_ONCE),
                observer,
                account: tokio::sync::Mutex::default(),
                issued: Mutex::new(issued),
            }),
            kept: Mutex::default(),
            runtime: Handle::current(),
        })
    }

    /// What HTTP listeners have to answer: see [`Listener::answering`](crate::Listener::answering).
    pub fn http_challenges(&self) -> HttpChallenges {
        self.shared.http.clone()
    }

    /// The same as [`Certifier::want`], for names that may have a star.
    pub fn want_names(&self, id: &RouteId, wanted: &[DnsName]) {
        let mut names: Vec<DnsName> = Vec::with_capacity(wanted.len());
        for name in wanted {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut kept = self.kept();
        if kept.get(id).is_some_and(|kept| kept.names == names) {
            return;
        }
        let (status, seen) = watch::channel(Told {
            certified: Certified {
                id: id.clone(),
                names: names.clone(),
                not_after: None,
                state: CertifierState::Obtaining,
            },
            answered: 0,
        });
        let call = Arc::new(Call::default());
        let keeper = Keeper {
            shared: Arc::clone(&self.shared),
            names: names.clone(),
            status,
            call: Arc::clone(&call),
            advice: None,
        };
        let new = Kept {
            names,
            status: seen,
            call,
            task: self.runtime.spawn(keeper.keep()).abort_handle(),
        };
        kept.insert(id.clone(), new);
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<RouteId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Certifier for Acme {
    fn want(&self, id: &RouteId, hosts: &[HostPattern]) {
        let names = hosts.iter().filter_map(|host| DnsName::try_from(host).ok());
        self.want_names(id, &names.collect::<Vec<_>>());
    }

    fn forget(&self, id: &RouteId) {
        self.kept().remove(id);
    }

    async fn settled(&self, id: &RouteId) -> Option<Certified> {
        let mut status = self.kept().get(id)?.status.clone();
        let settled = |told: &Told| told.certified.state != CertifierState::Obtaining;
        // Ends with an error when the route is forgotten, or wants something else.
        let settled = status.wait_for(settled).await.ok()?;
        Some(settled.certified.clone())
    }

    async fn renew(&self, id: &RouteId) -> Option<Certified> {
        let (mut status, asked) = {
            let kept = self.kept();
            let kept = kept.get(id)?;
            (kept.status.clone(), kept.call.renew())
        };
        let ended = status.wait_for(|told| told.answered >= asked).await.ok()?;
        Some(ended.certified.clone())
    }

    fn status(&self) -> Vec<Certified> {
        let kept = self.kept();
        let mut all: Vec<_> = kept
            .values()
            .map(|kept| kept.status.borrow().certified.clone())
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acme")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{MemoryCertifier, check_certifier};

    #[tokio::test]
    async fn it_keeps_the_contract_even_if_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let settings = AcmeSettings {
            directory: "https://127.0.0.1:1/dir".to_owned(),
            ..AcmeSettings::new(dir.path())
        };
        let store = Arc::new(CertificateStore::new().unwrap());
        check_certifier(&Acme::open(settings, store).unwrap()).await;
    }

    #[tokio::test]
    async fn so_does_the_one_for_tests() {
        check_certifier(&MemoryCertifier::new()).await;
    }
}
