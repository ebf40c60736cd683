//! What operators are told of certificates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use vela_protocol::{
    AppStatus, AppTls, CertificateDetails, CertificateOrigin, CertificateState, CertificateStatus,
};
use vela_proxy::RouteId;
use vela_proxy::acme::{Certified, CertifierState};
use vela_proxy::tls::{self, CertificateStore, Details, Origin};

use crate::engine::Engine;
use crate::error::EngineError;

/// How long a renewal is waited for: as long as an authority may take to verify a name, and to sign.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(180);

impl Engine {
    /// Every certificate: of the apps, given as files, and the self-signed one that is there for hosts without any.
    /// None where HTTPS is not served. Never waits.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let Some(tls) = self.tls() else {
            return Vec::new();
        };
        tls.all(&self.apps())
    }

    /// Renews the certificate of an app now, and waits for the result, which may be a failure: that is in its state.
    ///
    /// # Errors
    /// When the app is unknown, its certificate is not the daemon's to renew, or the authority takes too long: then
    /// the renewal goes on.
    pub async fn renew_certificate(&self, app: &str) -> Result<CertificateStatus, EngineError> {
        let (name, _) = self.existing(app)?;
        let app = || name.to_string();
        let Some(certifier) = &self.inner.stack.certifier else {
            return Err(EngineError::ObtainsNoCertificates { app: app() });
        };
        let id = RouteId::new(name.as_str());
        let renewed = tokio::time::timeout(RENEWAL_PATIENCE, certifier.renew(&id)).await;
        let Ok(renewed) = renewed else {
            return Err(EngineError::RenewalTakesLong { app: app() });
        };
        let is_its = |one: &CertificateStatus| {
            one.origin == CertificateOrigin::Acme
                && one.apps.iter().any(|app| *app == *name.as_str())
        };
        let needs_one = renewed.is_some_and(|one| one.state != CertifierState::NotNeeded);
        self.certificates()
            .into_iter()
            .find(|one| needs_one && is_its(one))
            .ok_or_else(|| EngineError::NothingToRenew { app: app() })
    }

    pub(crate) fn tls(&self) -> Option<View<'_>> {
        let stack = &self.inner.stack;
        let store = stack.certificates.as_deref()?;
        let certifier = stack.certifier.as_ref();
        Some(View {
            store,
            served: store.status(),
            certified: certifier.map_or_else(Vec::new, |certifier| certifier.status()),
            obtains: certifier.is_some(),
            now: SystemTime::now(),
        })
    }
}

/// All that is known at one time.
pub(crate) struct View<'a> {
    store: &'a CertificateStore,
    served: Vec<tls::CertificateStatus>,
    certified: Vec<Certified>,
    obtains: bool,
    now: SystemTime,
}

impl View<'_> {
    /// How the hosts of an app are served; nothing for an app without hosts.
    pub(crate) fn of_app(&self, app: &AppStatus) -> Option<AppTls> {
        let hosts = hosts(app);
        if hosts.is_empty() {
            return None;
        }
        let mut warnings = Vec::new();
        let mut first: Option<&Details> = None;
        let mut missing = Vec::new();
        for host in &hosts {
            let serving = self.store.serving(host);
            let Some(details) = serving.and_then(|(origin, id)| self.details(origin, &id)) else {
                missing.push(host.as_str());
                continue;
            };
            if first.is_none_or(|first| details.not_after < first.not_after) {
                first = Some(details);
            }
        }
        let certified = self
            .certified
            .iter()
            .find(|one| one.id.as_str() == app.name);
        match certified.map(|one| &one.state) {
            Some(CertifierState::Failing {
                error,
                hint,
                retry_at,
                ..
            }) => {
                warnings.push(failing(error, hint.as_deref(), timestamp(*retry_at)));
            }
            Some(CertifierState::Obtaining) if !missing.is_empty() => {
                warnings.push("its certificate is being obtained".to_owned());
            }
            _ => {}
        }
        if !missing.is_empty() {
            warnings.push(self.lack(&missing));
        }
        warnings.extend(first.and_then(|first| self.age(first)));
        Some(AppTls {
            not_after: first.map(|first| timestamp(first.not_after)),
            days_left: first.map(|first| first.days_left(self.now)),
            warnings,
        })
    }

    fn all(&self, apps: &[AppStatus]) -> Vec<CertificateStatus> {
        let mut users: BTreeMap<(Origin, String), Vec<String>> = BTreeMap::new();
        let mut without = Vec::new();
        for app in apps {
            for host in hosts(app) {
                let key = self.store.serving(&host).unwrap_or_else(|| {
                    without.push(host);
                    (Origin::SelfSigned, SELF_SIGNED.to_owned())
                });
                let users = users.entry(key).or_default();
                if users.last() != Some(&app.name) {
                    users.push(app.name.clone());
                }
            }
        }
        let mut found: Vec<CertificateStatus> = Vec::new();
        for one in &self.served {
            let key = (one.origin, one.id.clone());
            let apps = users.remove(&key).unwrap_or_default();
            found.push(self.one(one, apps, &without));
        }
        // Those that there is no certificate for yet.
        for certified in &self.certified {
            let id = certified.id.as_str();
            let is_its = |one: &CertificateStatus| {
                one.origin == CertificateOrigin::Acme && one.apps.iter().any(|app| app == id)
            };
            let lacks = !matches!(certified.state, CertifierState::NotNeeded);
            if lacks && !found.iter().any(is_its) {
                let state = state(&certified.state);
                found.push(CertificateStatus {
                    origin: CertificateOrigin::Acme,
                    id: certified
                        .names
                        .first()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    apps: vec![id.to_owned()],
                    names: certified.names.iter().map(ToString::to_string).collect(),
                    certificate: None,
                    warnings: warning_of(&state).into_iter().collect(),
                    state,
                });
            }
        }
        // The one that nothing trusts stands at the end.
        found.sort_by_key(|one| one.origin == CertificateOrigin::SelfSigned);
        found
    }

    fn one(
        &self,
        one: &tls::CertificateStatus,
        apps: Vec<String>,
        without: &[String],
    ) -> CertificateStatus {
        let origin = match one.origin {
            Origin::Static => CertificateOrigin::Static,
            Origin::Managed => CertificateOrigin::Acme,
            _ => CertificateOrigin::SelfSigned,
        };
        let details = one.details.as_ref();
        let is_valid = details.is_some_and(|of| (of.not_before..of.not_after).contains(&self.now));
        let certified = self.certified.iter().find(|certified| {
            one.origin == Origin::Managed
                && certified.names.iter().any(|name| *name.as_str() == *one.id)
        });
        let state = match (&one.problem, certified) {
            (Some(problem), _) => CertificateState::Refused {
                error: problem.clone(),
            },
            // One that was obtained once, and is not needed any more.
            (None, Some(certified))
                if certified.state == CertifierState::NotNeeded && !is_valid =>
            {
                CertificateState::Invalid
            }
            (None, Some(certified)) => state(&certified.state),
            (None, None) if is_valid => CertificateState::Valid { renewal_at: None },
            (None, None) => CertificateState::Invalid,
        };
        let mut warnings: Vec<String> = warning_of(&state).into_iter().collect();
        let is_used = !apps.is_empty();
        match origin {
            CertificateOrigin::SelfSigned if is_used => {
                let without: Vec<&str> = without.iter().map(String::as_str).collect();
                warnings.push(self.lack(&without));
            }
            CertificateOrigin::SelfSigned => {}
            _ if is_used => warnings.extend(details.and_then(|details| self.age(details))),
            CertificateOrigin::Acme if certified.is_none() => {
                warnings.push("no app has its names any more: it is not renewed".to_owned());
            }
            _ => {}
        }
        let names = details.map_or(&[][..], |details| &details.names);
        CertificateStatus {
            origin,
            id: one.id.clone(),
            apps,
            names: names.iter().map(ToString::to_string).collect(),
            certificate: details.map(|details| CertificateDetails {
                issuer: details.issuer.clone(),
                serial: details.serial.clone(),
                key: details.key.clone(),
                not_before: timestamp(details.not_before),
                not_after: timestamp(details.not_after),
                days_left: details.days_left(self.now),
            }),
            state,
            warnings,
        }
    }

    fn details(&self, origin: Origin, id: &str) -> Option<&Details> {
        let one = self
            .served
            .iter()
            .find(|one| one.origin == origin && one.id == id);
        one?.details.as_ref()
    }

    /// What clients of hosts without a certificate get.
    fn lack(&self, hosts: &[&str]) -> String {
        let is_given =
            |one: &tls::CertificateStatus| one.origin == Origin::Static && one.details.is_some();
        let get = match self.served.iter().any(is_given) {
            true => "one that is for other names",
            false => "a self-signed one, which nothing trusts",
        };
        let hint = match self.obtains {
            true => "",
            false => "; set `acme_email`, or `cert` and `key`, in [tls] of server.toml",
        };
        format!(
            "no certificate for {}: clients get {get}{hint}",
            hosts.join(", ")
        )
    }

    fn age(&self, details: &Details) -> Option<String> {
        match details.days_left(self.now) {
            days if days < 0 => Some(format!("the certificate expired {} ago", day_count(-days))),
            days if details.expires_soon(self.now) => {
                Some(format!("the certificate expires in {}", day_count(days)))
            }
            _ => None,
        }
    }
}

const SELF_SIGNED: &str = "self-signed";

fn hosts(app: &AppStatus) -> Vec<String> {
    let hosts = app.domain.iter().chain(&app.aliases);
    hosts.map(|host| host.to_ascii_lowercase()).collect()
}

fn state(of: &CertifierState) -> CertificateState {
    match of {
        CertifierState::Valid { renewal_at } => CertificateState::Valid {
            renewal_at: Some(timestamp(*renewal_at)),
        },
        CertifierState::Failing {
            error,
            hint,
            failures,
            retry_at,
        } => CertificateState::Failing {
            error: error.clone(),
            hint: hint.clone(),
            failures: *failures,
            retry_at: timestamp(*retry_at),
        },
        CertifierState::Obtaining => CertificateState::Obtaining,
        _ => CertificateState::Valid { renewal_at: None },
    }
}

fn warning_of(state: &CertificateState) -> Option<String> {
    match state {
        CertificateState::Failing {
            error,
            hint,
            retry_at,
            ..
        } => Some(failing(error, hint.as_deref(), *retry_at)),
        CertificateState::Refused { error } => Some(error.clone()),
        _ => None,
    }
}

fn failing(error: &str, hint: Option<&str>, retry_at: Timestamp) -> String {
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("no new certificate: {error}{hint}; next try {retry_at:.0}")
}

fn day_count(days: i64) -> String {
    match days {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// The nearest time that there is a word for.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use vela_proxy::acme::Certifier;
    use vela_proxy::test_util::MemoryCertifier;
    use vela_proxy::tls::Certificate;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Valid for two days, from that many days ago.
    fn certificate(age: u32) -> Certificate {
        let begin = SystemTime::now() - age * DAY;
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (begin.into(), (begin + 2 * DAY).into());
        let key = KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        Certificate::from_pem(chain.as_bytes(), key.as_bytes(), begin + DAY).unwrap()
    }

    #[test]
    fn what_is_not_needed_and_has_expired_is_not_valid() {
        for (age, expected) in [(1, "valid"), (9, "invalid")] {
            let store = CertificateStore::new().unwrap();
            store.put(Origin::Managed, "a.test", certificate(age));
            // There is one for it that was given, say.
            let certifier = MemoryCertifier::new();
            certifier.want(&"shop".into(), &["a.test".parse().unwrap()]);
            let view = View {
                store: &store,
                served: store.status(),
                certified: certifier.status(),
                obtains: true,
                now: SystemTime::now(),
            };
            let all = view.all(&[]);
            assert_eq!(all[0].id, "a.test");
            assert_eq!(all[0].state.as_str(), expected);
        }
    }
}
