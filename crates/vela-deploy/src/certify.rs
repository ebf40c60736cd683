//! The certificate of an app's hosts, as a part of its deploys.
//!
//! The certifier is told at the commit, and by recovery: so that a host which was never deployed is never ordered for,
//! whatever is undone, and a rollback takes its own hosts back. The order goes on while the old instances are drained.

use std::time::{Duration, Instant};

use vela_manifest::Manifest;
use vela_protocol::{Event, Report, Step};
use vela_proxy::RouteId;
use vela_proxy::acme::{Certified, CertifierState};
use vela_proxy::tls::DnsName;

use crate::app::App;
use crate::certificates::timestamp;
use crate::failpoint::Moment;
use crate::journal::recording;
use crate::operation::{Operation, millis};
use crate::routing;
use crate::step_error::StepError;

/// How long a deploy waits for a certificate: an authority takes a few seconds. The app is held by the deploy
/// meanwhile, and its traffic has long moved.
const PATIENCE: Duration = Duration::from_secs(30);

impl App {
    /// Whether hosts of the manifest may have to get a certificate.
    pub(crate) fn lacks_certificate(&self, manifest: &Manifest) -> bool {
        let Some(certifier) = &self.stack.certifier else {
            return false;
        };
        let names = names(manifest);
        let is_given = |name: &DnsName| {
            let store = self.stack.certificates.as_ref();
            store.is_some_and(|store| store.covers_statically(name.as_str()))
        };
        if names.iter().all(is_given) {
            return false;
        }
        let id = self.route_id();
        let is_settled = |one: &Certified| {
            use CertifierState::{NotNeeded, Valid};
            one.id == id && one.names == names && matches!(one.state, NotNeeded | Valid { .. })
        };
        !certifier.status().iter().any(is_settled)
    }

    /// From now on the app's hosts are those of the manifest.
    pub(crate) fn want_certificate(&self, manifest: &Manifest) {
        if let Some(certifier) = &self.stack.certifier {
            certifier.want(&self.route_id(), &routing::hosts(manifest));
        }
    }

    /// The app has no hosts any more.
    pub(crate) fn forget_certificate(&self) {
        if let Some(certifier) = &self.stack.certifier {
            certifier.forget(&self.route_id());
        }
    }

    fn route_id(&self) -> RouteId {
        self.name.as_str().into()
    }
}

impl Operation<'_> {
    /// Waits a while for the certificate, and tells what came of it. Whatever that is, the deploy goes on.
    pub(crate) async fn certify(&mut self) -> Result<(), StepError> {
        let Some(certifier) = self.app.stack.certifier.clone() else {
            return Ok(());
        };
        let began = self.certified_since.unwrap_or_else(Instant::now);
        let (id, shared) = (self.app.route_id(), self.app.shared.clone());
        let settled = async {
            let left = PATIENCE.saturating_sub(began.elapsed());
            tokio::select! {
                settled = tokio::time::timeout(left, certifier.settled(&id)) => settled.ok(),
                () = shared.hurried() => None,
            }
        };
        let settled = recording(&mut self.journal, &mut self.from_background, settled).await;
        let ms = millis(began);
        let delayed = |names: &[DnsName], error, retry_at| Event::CertificateDelayed {
            hosts: names.iter().map(ToString::to_string).collect(),
            error,
            retry_at,
            ms,
        };
        let event = match settled {
            None => Some(delayed(&names(&self.request.manifest), None, None)),
            Some(Some(certified)) => match (certified.state, certified.not_after) {
                (CertifierState::Valid { .. }, Some(not_after)) => {
                    Some(Event::CertificateObtained {
                        hosts: certified.names.iter().map(ToString::to_string).collect(),
                        not_after: timestamp(not_after),
                        ms,
                    })
                }
                (
                    CertifierState::Failing {
                        error,
                        hint,
                        retry_at,
                        ..
                    },
                    _,
                ) => {
                    let report = Report {
                        message: error,
                        causes: Vec::new(),
                        hint,
                        output: Vec::new(),
                    };
                    let retry_at = Some(timestamp(retry_at));
                    Some(delayed(&certified.names, Some(report), retry_at))
                }
                _ => None,
            },
            // It was told of the app at the commit, and nothing else speaks for the app.
            Some(None) => None,
        };
        if let Some(event) = event {
            self.record(event).await;
        }
        self.app.stack.hit(Step::Certify, Moment::Inside)
    }
}

/// The names of a manifest that can be in a certificate.
fn names(manifest: &Manifest) -> Vec<DnsName> {
    let hosts = routing::hosts(manifest);
    let names = hosts.iter().filter_map(|host| DnsName::try_from(host).ok());
    names.collect()
}
