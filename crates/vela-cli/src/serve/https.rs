use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use vela_manifest::TlsSection;
use vela_proxy::Listener;
use vela_proxy::acme::{Acme, AcmeError, AcmeSettings, Certifier, ExternalAccount};
use vela_proxy::tls::{
    CertificateFiles, CertificateStore, FileCertificates, Tls, TlsError, TlsSettings,
};

use super::listeners::{Bound, PortKey};
use crate::failure::Failure;

/// How often to look whether certificate files have changed.
const LOOK: Duration = Duration::from_secs(5);

/// HTTPS as `[tls]` of server.toml asks for it.
#[derive(Debug)]
pub(super) struct Https {
    tls: Tls,
    files: Arc<FileCertificates>,
    acme: Option<Arc<Acme>>,
    redirect: bool,
    hsts: Option<Duration>,
    /// Clients must have a certificate, which they can only show by HTTPS.
    verifies_clients: bool,
}

impl Https {
    /// Loads the certificates that there are. One that is bad is logged, and does not keep the
    /// others away. Call it on a runtime.
    pub(super) fn open(section: &TlsSection, data_dir: &Path) -> Result<Https, Failure> {
        let store = Arc::new(CertificateStore::new().map_err(|error| unset(&error))?);
        let pairs = section.certificates.iter();
        let pairs = pairs.map(|pair| CertificateFiles {
            certificate: pair.cert.clone(),
            key: pair.key.clone(),
        });
        let files = FileCertificates::load(Arc::clone(&store), pairs.collect());
        let settings = TlsSettings {
            client_ca: section.client_ca.clone(),
            ..TlsSettings::default()
        };
        let tls = Tls::new(Arc::clone(&store), settings).map_err(|error| unset(&error))?;
        let acme = match acme_settings(section, data_dir)? {
            Some(settings) => {
                if settings.directory == AcmeSettings::LETS_ENCRYPT_STAGING {
                    warn!(
                        "certificates are from an authority for tests, which nothing trusts: \
                         hosts with one are not redirected to HTTPS, and have no HSTS"
                    );
                }
                Some(Arc::new(open_acme(settings, store)?))
            }
            None => None,
        };
        if acme.is_none() && section.certificates.is_empty() {
            warn!(
                "HTTPS has a self-signed certificate, which nothing trusts: set `acme_email`, or \
                 `cert` and `key`, in [tls] of server.toml"
            );
        }
        Ok(Https {
            tls,
            files: Arc::new(files),
            acme,
            redirect: section.redirect,
            hsts: section.hsts,
            verifies_clients: section.client_ca.is_some(),
        })
    }

    /// What is told which hosts there are.
    pub(super) fn certifier(&self) -> Option<Arc<dyn Certifier>> {
        self.acme
            .as_ref()
            .map(|acme| Arc::clone(acme) as Arc<dyn Certifier>)
    }

    /// What is served.
    pub(super) fn certificates(&self) -> Arc<CertificateStore> {
        Arc::clone(self.tls.store())
    }

    /// Watches the files, for as long as the runtime lives.
    pub(super) fn watch(&self) {
        tokio::spawn(Arc::clone(&self.files).watch(LOOK));
        let tls = self.tls.clone();
        tokio::spawn(async move {
            let mut last = None;
            loop {
                tokio::time::sleep(LOOK).await;
                let tls = tls.clone();
                let reloaded = tokio::task::spawn_blocking(move || tls.reload_client_ca()).await;
                let problem = match reloaded {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if problem != last
                    && let Some(problem) = &problem
                {
                    warn!("clients are verified as before: {problem}");
                }
                last = problem;
            }
        });
    }

    /// What is spoken on a socket. `port` is that of HTTPS, where HTTP leads to.
    pub(super) fn listener(&self, bound: Bound, port: Option<u16>) -> Listener {
        let challenges = self.acme.as_ref().map(|acme| acme.http_challenges());
        let listener = match bound.key {
            PortKey::Http => Listener::http(bound.socket),
            PortKey::Https => Listener::https(bound.socket, self.tls.clone()),
        };
        let listener = match challenges {
            Some(challenges) => listener.answering(challenges),
            None => listener,
        };
        let listener = match bound.key {
            PortKey::Http if self.verifies_clients => listener.closed(),
            _ => listener,
        };
        match (bound.key, port, self.hsts) {
            (PortKey::Http, Some(port), _) if self.redirect => {
                listener.redirecting(self.tls.clone(), port)
            }
            (PortKey::Https, _, Some(hsts)) => listener.with_hsts(hsts),
            _ => listener,
        }
    }
}

fn acme_settings(section: &TlsSection, data_dir: &Path) -> Result<Option<AcmeSettings>, Failure> {
    let Some(contact) = section.acme_email.clone() else {
        return Ok(None);
    };
    let directory = match (&section.directory, section.staging) {
        (Some(directory), _) => directory.clone(),
        (None, true) => AcmeSettings::LETS_ENCRYPT_STAGING.to_owned(),
        (None, false) => AcmeSettings::LETS_ENCRYPT.to_owned(),
    };
    let external_account = match (&section.eab_kid, &section.eab_key) {
        (Some(kid), Some(path)) => Some(ExternalAccount {
            kid: kid.clone(),
            key: secret(path)?,
        }),
        _ => None,
    };
    Ok(Some(AcmeSettings {
        directory,
        contact: Some(contact),
        directory_ca: section.directory_ca.clone(),
        external_account,
        dns_hook: section.dns_hook.clone(),
        ..AcmeSettings::new(data_dir.join("tls"))
    }))
}

fn secret(path: &PathBuf) -> Result<secrecy::SecretString, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::because(format!("cannot read `eab_key` {}", path.display()), &error)
    })?;
    Ok(text.into())
}

fn open_acme(settings: AcmeSettings, store: Arc<CertificateStore>) -> Result<Acme, Failure> {
    Acme::open(settings, store).map_err(|error: AcmeError| {
        let failure = Failure::because("cannot obtain certificates", &error);
        match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

fn unset(error: &TlsError) -> Failure {
    let failure = Failure::because("cannot serve HTTPS", error);
    match error {
        TlsError::ClientCa { .. } | TlsError::Read { .. } => failure
            .with_hint("`client_ca` in [tls] of server.toml names a PEM file of certificates"),
        _ => failure,
    }
}
