//! A proxy whose certificates come from a pebble of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use vela_proxy::acme::{
    Acme, AcmeEvent, AcmeSettings, Certified, Certifier, CertifierState, CertifyingRouter, Pace,
};
use vela_proxy::tls::{CertificateStore, Origin, Tls, TlsSettings};
use vela_proxy::{Listener, Proxy, ProxyConfig, RouteId, RouteSpec, Router, Serving};
use x509_parser::prelude::FromDer;

use crate::pebble::Pebble;

pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) pebble: Pebble,
    pub(crate) state: TempDir,
}

/// A daemon, so to speak.
pub(crate) struct Running {
    pub(crate) acme: Arc<Acme>,
    /// Without a word to the certifier.
    pub(crate) proxy: Proxy,
    pub(crate) router: CertifyingRouter<Proxy>,
    pub(crate) store: Arc<CertificateStore>,
    pub(crate) tls: Tls,
    /// The names of the events so far.
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    serving: Serving,
}

impl World {
    pub(crate) fn start() -> World {
        World::with(Pebble::start())
    }

    pub(crate) fn with(pebble: Pebble) -> World {
        World {
            pebble,
            state: tempfile::tempdir().unwrap(),
        }
    }

    /// Orders that pebble has taken.
    pub(crate) fn orders(&self) -> usize {
        self.pebble.logged("Added order ")
    }

    pub(crate) fn settings(&self) -> AcmeSettings {
        AcmeSettings {
            directory: self.pebble.directory(),
            directory_ca: Some(self.pebble.authority()),
            contact: Some("ops@example.com".to_owned()),
            dns_hook: Some(self.pebble.dns_hook()),
            pace: Pace {
                unreachable: Duration::from_millis(100),
                refused: Duration::from_millis(100),
                longest: Duration::from_secs(1),
                patience: Duration::from_secs(30),
            },
            ..AcmeSettings::new(self.state.path())
        }
    }

    pub(crate) fn run(&self) -> Running {
        self.run_with(self.settings(), true)
    }

    /// With port 80, or without.
    pub(crate) fn run_with(&self, settings: AcmeSettings, has_http: bool) -> Running {
        let ports = self.pebble.ports;
        Running::new(settings, has_http.then_some(ports.http), ports.https)
    }
}

impl Running {
    pub(crate) fn new(settings: AcmeSettings, http: Option<u16>, https: u16) -> Running {
        Running::observed(settings, http, https, |_| {})
    }

    pub(crate) fn observed(
        settings: AcmeSettings,
        http: Option<u16>,
        https: u16,
        observer: impl Fn(&AcmeEvent<'_>) + Send + Sync + 'static,
    ) -> Running {
        let store = Arc::new(CertificateStore::new().unwrap());
        let tls = Tls::new(Arc::clone(&store), TlsSettings::default()).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let observe = move |event: &AcmeEvent<'_>| {
            let name = format!("{event:?}");
            let name = name.split([' ', '{']).next().unwrap().to_owned();
            told.lock().unwrap().push(name);
            observer(event);
        };
        let store_of_acme = Arc::clone(&store);
        let acme = Acme::observed(settings, store_of_acme, Some(Box::new(observe))).unwrap();
        let acme = Arc::new(acme);
        let proxy = Proxy::new(ProxyConfig {
            workers: NonZeroUsize::MIN,
            ..ProxyConfig::default()
        });
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let mut listeners = vec![Listener::https(bind(https), tls.clone())];
        listeners.extend(http.map(|port| {
            Listener::http(bind(port))
                .answering(acme.http_challenges())
                .redirecting(tls.clone(), https)
        }));
        Running {
            serving: proxy.serve(listeners).unwrap(),
            router: CertifyingRouter::new(proxy.clone(), acme.clone()),
            proxy,
            acme,
            store,
            tls,
            events,
        }
    }

    /// Ends, and gives its ports back.
    pub(crate) async fn stop(self) {
        self.serving.shutdown(Duration::ZERO).await;
    }

    /// Makes a route, as a deploy does.
    pub(crate) async fn route(&self, id: &str, hosts: &[&str]) {
        self.router.apply(spec(id, hosts)).await.unwrap();
    }

    pub(crate) async fn settled(&self, id: &str) -> Certified {
        let id: RouteId = id.into();
        let settled = tokio::time::timeout(LONG, self.acme.settled(&id)).await;
        settled.unwrap().unwrap()
    }

    pub(crate) async fn obtained(&self, id: &str) -> Certified {
        let certified = self.settled(id).await;
        let is_valid = matches!(certified.state, CertifierState::Valid { .. });
        assert!(is_valid, "{certified:?} {:?}", self.events.lock().unwrap());
        certified
    }

    /// Waits for the state of a route.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LONG, waiting).await.is_err() {
            let events = self.events.lock().unwrap();
            panic!("not reached: {what}: {:?} {events:?}", self.acme.status());
        }
    }

    pub(crate) fn happened(&self, event: &str) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|one| *one == event).count()
    }

    /// The names of the certificate that was obtained.
    pub(crate) fn names(&self, id: &str) -> Vec<String> {
        let status = self.store.status();
        let one = status
            .iter()
            .find(|one| one.id == id && one.origin == Origin::Managed);
        let details = one.unwrap().details.as_ref().unwrap();
        let mut names: Vec<_> = details.names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }
}

pub(crate) fn spec(id: &str, hosts: &[&str]) -> RouteSpec {
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    RouteSpec::new(id, hosts, Vec::new())
}

/// Where a certificate is on disk: all are from one authority.
pub(crate) fn kept(state: &Path, name: &str) -> PathBuf {
    let mut dirs = std::fs::read_dir(state.join("certificates")).unwrap();
    let dir = dirs.next().unwrap().unwrap().path();
    dir.join(format!("{name}.pem"))
}

/// The serial number of a certificate on disk.
pub(crate) fn serial(state: &Path, name: &str) -> String {
    let pem = std::fs::read(kept(state, name)).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    certificate.tbs_certificate.raw_serial_as_string()
}
