use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, watch};
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
    state: Arc<Mutex<State>>,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    /// What each route wants, without what no certificate can be for.
    wanted: BTreeMap<RouteId, Vec<DnsName>>,
    /// By the first name of what they are for. Routes that share their first name, as apps do that
    /// have a path each, share a certificate.
    kept: HashMap<DnsName, Kept>,
}

/// A certificate that is being kept.
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
        let (own, others): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|(_, issued)| issued.directory == settings.directory);
        // Those of another authority too, until the present one has issued others.
        let served = others.iter().chain(&own);
        let served = served.map(|(name, issued)| (name.to_string(), issued.certificate.clone()));
        store.put_all(Origin::Managed, served);
        let issued = own
            .into_iter()
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
                ended: broadcast::channel(UNREAD).0,
                account: tokio::sync::Mutex::default(),
                issued: Mutex::new(issued),
            }),
            state: Arc::default(),
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
        let mut state = self.state();
        let new = names.first().cloned();
        let old = state.wanted.insert(id.clone(), names);
        let old = old.and_then(|names| names.into_iter().next());
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.keep(&mut state, &old);
        }
        if let Some(new) = new {
            self.keep(&mut state, &new);
        }
    }

    /// Keeps one certificate for all that routes want beside this first name.
    fn keep(&self, state: &mut State, first: &DnsName) {
        let mut names: Vec<DnsName> = Vec::new();
        let routes = state.wanted.values();
        for name in routes
            .filter(|names| names.first() == Some(first))
            .flatten()
        {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        if names.is_empty() {
            state.kept.remove(first);
            return;
        }
        if state
            .kept
            .get(first)
            .is_some_and(|kept| kept.names == names)
        {
            return;
        }
        let (status, seen) = watch::channel(Told {
            not_after: None,
            state: CertifierState::Obtaining,
            answered: 0,
        });
        let call = Arc::new(Call::default());
        let keeper = Keeper {
            shared: Arc::clone(&self.shared),
            names: names.clone(),
            status,
            call: Arc::clone(&call),
            advice: None,
            installed_at: None,
        };
        let new = Kept {
            names,
            status: seen,
            call,
            task: self.runtime.spawn(keeper.keep()).abort_handle(),
        };
        state.kept.insert(first.clone(), new);
    }

    /// Waits until a route's certificate is as it is waited for: `begin` gives that. Begins again
    /// where another route that shares the certificate wants something else meanwhile.
    async fn until<F: Fn(&Told) -> bool>(
        &self,
        id: &RouteId,
        begin: impl Fn(&Kept) -> F,
    ) -> Option<Certified> {
        loop {
            let (mut status, holds) = {
                let state = self.state();
                let names = state.wanted.get(id)?;
                let kept = names.first().and_then(|first| state.kept.get(first));
                match kept {
                    Some(kept) => (kept.status.clone(), begin(kept)),
                    None => return Some(certified(id, names, None)),
                }
            };
            let ended = status.wait_for(holds).await.is_err();
            let state = self.state();
            let names = state.wanted.get(id)?;
            let kept = names.first().and_then(|first| state.kept.get(first));
            // One that has ended, and that no other has come for, is not waited for.
            let is_its = |kept: &Kept| kept.status.same_channel(&status);
            if !ended || kept.is_some_and(is_its) {
                return Some(certified(id, names, Some(&status.borrow())));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Certifier for Acme {
    fn want(&self, id: &RouteId, hosts: &[HostPattern]) {
        let names = hosts.iter().filter_map(|host| DnsName::try_from(host).ok());
        self.want_names(id, &names.collect::<Vec<_>>());
    }

    fn forget(&self, id: &RouteId) {
        let mut state = self.state();
        let old = state.wanted.remove(id);
        if let Some(first) = old.as_ref().and_then(|names| names.first()) {
            self.keep(&mut state, first);
        }
    }

    async fn settled(&self, id: &RouteId) -> Option<Certified> {
        let is_settled = |_: &Kept| |told: &Told| told.state != CertifierState::Obtaining;
        self.until(id, is_settled).await
    }

    async fn renew(&self, id: &RouteId) -> Option<Certified> {
        let is_answered = |kept: &Kept| {
            let asked = kept.call.renew();
            move |told: &Told| told.answered >= asked
        };
        self.until(id, is_answered).await
    }

    fn status(&self) -> Vec<Certified> {
        let state = self.state();
        let routes = state.wanted.iter();
        routes
            .map(|(id, names)| state.certified(id, names))
            .collect()
    }

    fn watch(&self) -> BoxStream<'static, Certified> {
        let ended = self.shared.ended.subscribe();
        // What is kept must not live on for those who watch it.
        let state = Arc::downgrade(&self.state);
        stream::unfold((ended, state), |(mut ended, state)| async move {
            let first = loop {
                match ended.recv().await {
                    Ok(first) => break first,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            };
            let all = state.upgrade()?;
            let all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let routes = all.wanted.iter();
            let certified: Vec<Certified> = routes
                .filter(|(_, names)| names.first() == Some(&first))
                .map(|(id, names)| all.certified(id, names))
                .collect();
            drop(all);
            Some((stream::iter(certified), (ended, state)))
        })
        .flatten()
        .boxed()
    }
}

impl State {
    fn certified(&self, id: &RouteId, names: &[DnsName]) -> Certified {
        let kept = names.first().and_then(|first| self.kept.get(first));
        let told = kept.map(|kept| kept.status.borrow());
        certified(id, names, told.as_deref())
    }
}

/// Attempts that one who watches may be behind.
const UNREAD: usize = 256;

/// Without names nothing is needed.
fn certified(id: &RouteId, names: &[DnsName], told: Option<&Told>) -> Certified {
    Certified {
        id: id.clone(),
        names: names.to_vec(),
        not_after: told.and_then(|told| told.not_after),
        state: told.map_or(CertifierState::NotNeeded, |told| told.state.clone()),
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
    use crate::tls::testing::{Pair, pair};

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
    async fn an_authority_for_tests_takes_nothing_from_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let name: DnsName = "a.test".parse().unwrap();
        let directories = [
            AcmeSettings::LETS_ENCRYPT,
            AcmeSettings::LETS_ENCRYPT_STAGING,
        ];
        for directory in directories {
            let Pair { chain, key } = pair(&["a.test"], 30);
            disk.save_certificate(&name, directory, &key, &chain)
                .unwrap();
        }
        for directory in directories {
            let store = Arc::new(CertificateStore::new().unwrap());
            let settings = AcmeSettings {
                directory: directory.to_owned(),
                ..AcmeSettings::new(dir.path())
            };
            let acme = Acme::open(settings, Arc::clone(&store)).unwrap();
            assert!(store.covers("a.test"));
            let is_trusted = directory == AcmeSettings::LETS_ENCRYPT;
            assert_eq!(store.vouches_for("a.test"), is_trusted, "{directory}");
            assert!(acme.shared.current(std::slice::from_ref(&name)).is_some());
        }
    }

    #[tokio::test]
    async fn so_does_the_one_for_tests() {
        check_certifier(&MemoryCertifier::new()).await;
    }
}
