use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

use super::{Certificate, CertificateStatus, DnsName, Origin, TlsError, self_signed};

/// Which certificate is served to whom. Read without a lock by each handshake; changed as a whole.
///
/// A handshake gets a certificate for its name, else the first static one, else a self-signed one
/// that no client trusts. Of several for its name a valid one goes before an expired one, then a
/// static one before one that is managed, then one of the exact name before that of a wildcard,
/// then the one that is valid for longer.
pub struct CertificateStore {
    current: ArcSwap<Table>,
    /// Serialises the writers.
    sources: Mutex<Sources>,
    fallback: Certificate,
}

#[derive(Default)]
struct Sources {
    certificates: BTreeMap<(Origin, Arc<str>), Certificate>,
    problems: BTreeMap<(Origin, Arc<str>), String>,
    challenges: HashMap<DnsName, Arc<CertifiedKey>>,
    /// The ids of static ones, the first one first.
    order: Vec<Arc<str>>,
}

#[derive(Default)]
struct Table {
    /// By name; wildcards with their star.
    by_name: HashMap<DnsName, Entry>,
    default: Option<Certificate>,
    challenges: HashMap<DnsName, Arc<CertifiedKey>>,
}

#[derive(Clone)]
struct Entry {
    origin: Origin,
    id: Arc<str>,
    certificate: Certificate,
    /// The wildcard's that is for the same name.
    wild: Option<Box<Entry>>,
}

impl CertificateStore {
    /// A store with nothing but a self-signed certificate, made now.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn new() -> Result<CertificateStore, TlsError> {
        Ok(CertificateStore {
            current: ArcSwap::default(),
            sources: Mutex::default(),
            fallback: self_signed::fallback()?,
        })
    }

    /// Serves a certificate from the next handshake on, in place of the one that was put under the
    /// same origin and id.
    pub fn put(&self, origin: Origin, id: &str, certificate: Certificate) {
        self.put_all(origin, [(id.to_owned(), certificate)]);
    }

    /// The same for many at once, which is quicker than one by one.
    pub fn put_all(
        &self,
        origin: Origin,
        certificates: impl IntoIterator<Item = (String, Certificate)>,
    ) {
        let mut sources = self.sources();
        for (id, certificate) in certificates {
            let key = (origin, Arc::from(id));
            sources.problems.remove(&key);
            sources.certificates.insert(key, certificate);
        }
        self.publish(&sources);
    }

    /// Which static one is the first: that of the first of these ids that is there. Others come
    /// after them, by their ids.
    pub(super) fn put_in_order(&self, ids: impl IntoIterator<Item = String>) {
        let mut sources = self.sources();
        sources.order = ids.into_iter().map(Arc::from).collect();
        self.publish(&sources);
    }

    /// Serves it no longer. What was handshaken with it goes on.
    pub fn remove(&self, origin: Origin, id: &str) {
        let mut sources = self.sources();
        let key = (origin, Arc::from(id));
        sources.problems.remove(&key);
        if sources.certificates.remove(&key).is_some() {
            self.publish(&sources);
        }
    }

    /// Notes for the status why what should be served under this origin and id is not. The next
    /// [`CertificateStore::put`] takes it back.
    pub fn note_problem(&self, origin: Origin, id: &str, problem: String) {
        self.sources()
            .problems
            .insert((origin, Arc::from(id)), problem);
    }

    /// Whether a handshake for this host, in lower case, gets a valid certificate that is for it.
    /// The self-signed one is for nobody.
    pub fn covers(&self, host: &str) -> bool {
        self.is_covered(host, |_| true)
    }

    /// The same, but for certificates of an authority that is there for tests.
    pub(crate) fn vouches_for(&self, host: &str) -> bool {
        self.is_covered(host, |entry| !entry.certificate.is_for_tests())
    }

    /// Whether a static certificate does. For a name with a star, one of the same name.
    pub fn covers_statically(&self, name: &str) -> bool {
        self.is_covered(name, |entry| entry.origin == Origin::Static)
    }

    /// Answers the challenge `tls-alpn-01` of a certificate authority for a name, until it is taken
    /// back: with a certificate that carries the digest of the key authorization. Other handshakes
    /// do not see it.
    ///
    /// # Errors
    /// When that certificate cannot be made.
    pub fn put_challenge(&self, name: DnsName, digest: &[u8]) -> Result<(), TlsError> {
        let certificate = self_signed::challenge(&name, digest)?;
        let mut sources = self.sources();
        sources.challenges.insert(name, certificate);
        self.publish(&sources);
        Ok(())
    }

    /// Takes the answer to a challenge back.
    pub fn remove_challenge(&self, name: &DnsName) {
        let mut sources = self.sources();
        if sources.challenges.remove(name).is_some() {
            self.publish(&sources);
        }
    }

    /// What is served, for the operator: by origin, then by id; the self-signed one, which is
    /// always there, at the end.
    pub fn status(&self) -> Vec<CertificateStatus> {
        let sources = self.sources();
        let served = sources.certificates.keys();
        let keys: BTreeSet<_> = served.chain(sources.problems.keys()).collect();
        let status = |key: &(Origin, Arc<str>)| CertificateStatus {
            origin: key.0,
            id: key.1.to_string(),
            details: sources
                .certificates
                .get(key)
                .map(|one| one.details().clone()),
            problem: sources.problems.get(key).cloned(),
        };
        keys.into_iter()
            .map(status)
            .chain([CertificateStatus {
                origin: Origin::SelfSigned,
                id: "self-signed".to_owned(),
                details: Some(self.fallback.details().clone()),
                problem: None,
            }])
            .collect()
    }

    /// Under which origin and id the certificate is that is served to clients of this host, in
    /// lower case, and is for it; none where they get one that is for nobody, or for others.
    pub fn serving(&self, host: &str) -> Option<(Origin, String)> {
        let table = self.current.load();
        let entry = table.find(host)?;
        Some((entry.origin, entry.id.to_string()))
    }

    /// The certificate for a handshake that names a host in lower case.
    pub(super) fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let table = self.current.load();
        let certificate = name
            .and_then(|name| table.find(name))
            .map(|entry| &entry.certificate)
            .or(table.default.as_ref())
            .unwrap_or(&self.fallback);
        Arc::clone(&certificate.key)
    }

    /// The certificate for a certificate authority that checks who answers for a name.
    pub(super) fn challenge(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let table = self.current.load();
        table.challenges.get(name).cloned()
    }

    fn is_covered(&self, host: &str, which: impl Fn(&Entry) -> bool) -> bool {
        let table = self.current.load();
        table
            .find(host)
            .is_some_and(|entry| which(entry) && entry.is_valid(SystemTime::now()))
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        // A panic while it was held has left two maps that are whole.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, sources: &Sources) {
        let now = SystemTime::now();
        let mut table = Table {
            challenges: sources.challenges.clone(),
            ..Table::default()
        };
        for ((origin, id), certificate) in &sources.certificates {
            for name in &certificate.details().names {
                let entry = Entry {
                    origin: *origin,
                    id: Arc::clone(id),
                    certificate: certificate.clone(),
                    wild: None,
                };
                let rank = |entry: &Entry| (entry.rank(now), entry.certificate.details().not_after);
                match table.by_name.get_mut(name) {
                    Some(old) if rank(&entry) <= rank(old) => {}
                    Some(old) => *old = entry,
                    None => {
                        table.by_name.insert(name.clone(), entry);
                    }
                }
            }
        }
        table.default = sources.default();
        table.pair_wildcards();
        self.current.store(Arc::new(table));
    }
}

impl Sources {
    /// The first static one.
    fn default(&self) -> Option<Certificate> {
        let given = self
            .certificates
            .iter()
            .filter(|((origin, _), _)| *origin == Origin::Static);
        let place = |id: &Arc<str>| self.order.iter().position(|one| one == id);
        let first = given.min_by_key(|((_, id), _)| place(id).unwrap_or(usize::MAX));
        first.map(|(_, certificate)| certificate.clone())
    }
}

impl Table {
    fn find(&self, host: &str) -> Option<&Entry> {
        let Some(exact) = self.by_name.get(host) else {
            let wildcard = wildcard_of(host)?;
            return self.by_name.get(wildcard.as_str());
        };
        match &exact.wild {
            Some(wild) => {
                let now = SystemTime::now();
                let is_better = wild.rank(now) > exact.rank(now);
                Some(if is_better { wild } else { exact })
            }
            None => Some(exact),
        }
    }

    /// Which of the two serves changes when one expires; to look for the other is done here, and
    /// not by each handshake.
    fn pair_wildcards(&mut self) {
        let wild: HashMap<DnsName, Entry> = self
            .by_name
            .iter()
            .filter(|(name, _)| name.is_wildcard())
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        if wild.is_empty() {
            return;
        }
        for (name, entry) in &mut self.by_name {
            let wildcard = wildcard_of(name.as_str());
            let found = wildcard.and_then(|wildcard| wild.get(wildcard.as_str()));
            entry.wild = found.cloned().map(Box::new);
        }
    }
}

impl Entry {
    fn is_valid(&self, now: SystemTime) -> bool {
        self.certificate.details().not_after > now
    }

    fn rank(&self, now: SystemTime) -> (bool, bool) {
        (self.is_valid(now), self.origin == Origin::Static)
    }
}

/// The name with a star that is for a host.
fn wildcard_of(host: &str) -> Option<String> {
    let (first, rest) = host.split_once('.')?;
    (first != "*").then(|| format!("*.{rest}"))
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.current.load().by_name.len();
        f.debug_struct("CertificateStore")
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::certificate;
    use super::*;

    fn is(store: &CertificateStore, name: Option<&str>, expected: &Certificate) -> bool {
        Arc::ptr_eq(&store.find(name), &expected.key)
    }

    #[test]
    fn the_best_name_wins() {
        let store = CertificateStore::new().unwrap();
        let exact = certificate(&["a.test.example"], 30);
        let wild = certificate(&["*.test.example"], 30);
        store.put(Origin::Managed, "exact", exact.clone());
        store.put(Origin::Managed, "wild", wild.clone());
        assert!(is(&store, Some("a.test.example"), &exact));
        assert!(is(&store, Some("b.test.example"), &wild));
        for name in [Some("x.b.test.example"), Some("test.example"), None] {
            assert!(is(&store, name, &store.fallback), "{name:?}");
        }
        assert!(store.covers("b.test.example") && !store.covers("test.example"));
        assert!(store.covers("*.test.example") && !store.covers("*.a.test.example"));
        store.remove(Origin::Managed, "exact");
        assert!(is(&store, Some("a.test.example"), &wild));
    }

    #[test]
    fn static_goes_before_managed_but_expired_behind_all() {
        let store = CertificateStore::new().unwrap();
        let managed = certificate(&["a.test"], 60);
        let given = certificate(&["a.test"], 30);
        let expired = certificate(&["a.test"], -3);
        store.put(Origin::Managed, "a", managed.clone());
        store.put(Origin::Static, "expired", expired);
        assert!(is(&store, Some("a.test"), &managed));
        assert!(!store.covers_statically("a.test"));
        store.put(Origin::Static, "given", given.clone());
        assert!(is(&store, Some("a.test"), &given));
        assert!(store.covers_statically("a.test"));
    }

    #[test]
    fn who_names_no_host_of_ours_gets_the_first_static_one() {
        let store = CertificateStore::new().unwrap();
        let given = certificate(&["a.test"], 30);
        store.put(Origin::Managed, "b", certificate(&["b.test"], 30));
        store.put(Origin::Static, "1", given.clone());
        store.put(Origin::Static, "2", certificate(&["c.test"], 30));
        assert!(is(&store, None, &given));
        assert!(is(&store, Some("other.test"), &given));
        assert!(!store.covers("other.test"));
    }

    #[test]
    fn a_static_wildcard_goes_before_what_was_obtained_and_what_has_expired() {
        let store = CertificateStore::new().unwrap();
        let wild = certificate(&["*.test.example"], 30);
        let obtained = certificate(&["a.test.example"], 60);
        store.put(Origin::Static, "wild", wild.clone());
        store.put(Origin::Managed, "a", obtained.clone());
        assert!(is(&store, Some("a.test.example"), &wild));
        assert!(store.covers_statically("a.test.example"));
        assert!(!store.covers_statically("b.a.test.example"));
        let serving = store.serving("a.test.example");
        assert_eq!(serving, Some((Origin::Static, "wild".to_owned())));

        let given = certificate(&["a.test.example"], 9);
        store.put(Origin::Static, "a", given.clone());
        assert!(is(&store, Some("a.test.example"), &given), "the exact name");
        store.remove(Origin::Static, "a");
        store.remove(Origin::Static, "wild");
        assert!(is(&store, Some("a.test.example"), &obtained));

        store.put(Origin::Managed, "wild", wild.clone());
        assert!(is(&store, Some("a.test.example"), &obtained));
        let expired = certificate(&["a.test.example"], -1);
        store.put(Origin::Managed, "a", expired);
        assert!(is(&store, Some("a.test.example"), &wild));
        assert!(store.covers("a.test.example"));
    }

    #[test]
    fn one_that_becomes_worse_gives_way_by_itself() {
        let (exact, wild) = (["a.test.example"], ["*.test.example"]);
        let entry = |names: &[&str], days| Entry {
            origin: Origin::Managed,
            id: "one".into(),
            certificate: certificate(names, days),
            wild: None,
        };
        let mut table = Table::default();
        for (names, entry) in [(exact, entry(&exact, -1)), (wild, entry(&wild, 30))] {
            table.by_name.insert(names[0].parse().unwrap(), entry);
        }
        table.pair_wildcards();
        let found = table.find(exact[0]).unwrap();
        assert!(found.certificate.covers("b.test.example"));
    }

    #[test]
    fn the_status_says_what_is_self_signed() {
        let store = CertificateStore::new().unwrap();
        store.put(Origin::Managed, "shop", certificate(&["a.test"], 30));
        store.note_problem(Origin::Static, "/b.pem", "it is not there".into());
        let now = SystemTime::now();
        let lines = |store: &CertificateStore| -> Vec<_> {
            let days = |one: &CertificateStatus| one.details.as_ref().map(|of| of.days_left(now));
            let status = store.status().into_iter();
            status
                .map(|one| (one.origin, days(&one), one.id, one.problem.is_some()))
                .collect()
        };
        let managed = (Origin::Managed, Some(29), "shop".to_owned(), false);
        let own = "self-signed".to_owned();
        let own = (Origin::SelfSigned, Some(3649), own, false);
        let file = "/b.pem".to_owned();
        assert_eq!(
            lines(&store),
            [
                (Origin::Static, None, file.clone(), true),
                managed.clone(),
                own.clone()
            ]
        );
        store.put(Origin::Static, "/b.pem", certificate(&["b.test"], 9));
        let given = (Origin::Static, Some(8), file.clone(), false);
        assert_eq!(lines(&store), [given, managed, own]);
        assert_eq!(store.serving("b.test"), Some((Origin::Static, file)));
        assert_eq!(store.serving("c.test"), None, "the default is for others");
    }
}
