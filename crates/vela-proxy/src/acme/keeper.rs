use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use instant_acme::CertificateIdentifier;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::attempt::Attempt;
use super::disk::Failures;
use super::shared::Shared;
use super::{AcmeError, AcmeEvent, CertifierState, courier, schedule};
use crate::tls::{Certificate, DnsName, with_causes};

/// Keeps one certificate valid: from the first order on, for as long as it is polled.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Vec<DnsName>,
    pub(super) status: watch::Sender<Told>,
    pub(super) call: Arc<Call>,
    /// What the authority says about the renewal.
    pub(super) advice: Option<Advice>,
    /// When the last certificate was installed.
    pub(super) installed_at: Option<Instant>,
}

/// What a keeper tells.
#[derive(Debug)]
pub(super) struct Told {
    /// Until when the certificate that there is is valid.
    pub(super) not_after: Option<SystemTime>,
    pub(super) state: CertifierState,
    /// The number of the last call that was answered by an attempt.
    pub(super) answered: u64,
}

/// How a keeper is called from outside.
#[derive(Debug, Default)]
pub(super) struct Call {
    notify: Notify,
    asked: AtomicU64,
}

impl Call {
    /// Asks for an attempt, and gives the number of the call.
    pub(super) fn renew(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        self.notify.notify_one();
        number
    }
}

/// A renewal window that an authority suggests: RFC 9773.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    /// None from an authority that gives no advice.
    renewal_at: Option<SystemTime>,
    ask_again: SystemTime,
}

impl Advice {
    /// What it has said before holds while it cannot be asked.
    fn after(earlier: Option<Advice>, error: &AcmeError, now: SystemTime) -> Advice {
        Advice {
            renewal_at: earlier.and_then(|earlier| earlier.renewal_at),
            ask_again: now + error.at_least(now).max(LOOK_AGAIN),
        }
    }
}

/// Clocks are set and machines sleep: how long to trust a timer.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// How often an attempt is repeated because of nonces.
const NONCES: usize = 3;

impl Keeper {
    pub(super) async fn keep(mut self) {
        loop {
            // What is asked for during the look is seen at the next.
            let asked = self.call.asked.load(Ordering::Relaxed);
            let renew = asked > self.status.borrow().answered;
            let looked = AssertUnwindSafe(self.look(renew)).catch_unwind().await;
            let due = looked.unwrap_or_else(|_| self.panicked());
            if renew {
                self.status.send_modify(|told| told.answered = asked);
            }
            let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::select! {
                () = sleep(wait.min(LOOK_AGAIN)) => {}
                () = self.call.notify.notified() => {}
            }
        }
    }

    /// What has gone wrong is in the log, with its place.
    fn panicked(&mut self) -> SystemTime {
        let retry_at = SystemTime::now() + LOOK_AGAIN;
        self.status.send_modify(|told| {
            told.state = CertifierState::Failing {
                error: "what keeps this certificate has panicked".to_owned(),
                hint: None,
                failures: 1,
                retry_at,
            };
        });
        self.ended();
        retry_at
    }

    /// Does what is due now, or asked for. Gives when to look again.
    async fn look(&mut self, renew: bool) -> SystemTime {
        let shared = Arc::clone(&self.shared);
        let now = SystemTime::now();
        // Those with a static certificate need no other.
        let statically = |name: &&DnsName| !shared.store.covers_statically(name.as_str());
        let names: Vec<DnsName> = self.names.iter().filter(statically).cloned().collect();
        let Some(name) = names.first() else {
            self.say(None, CertifierState::NotNeeded);
            return now + LOOK_AGAIN;
        };
        let current = shared.current(&names);
        let failures = shared.disk.failures(name, &shared.settings.directory);
        let mut failures = failures.ok().flatten().unwrap_or_default();
        let longest = schedule::longest(&shared.settings.pace);
        let retry_at = |failures: &Failures| failures.retry_at(now, longest);
        let due = match &current {
            Some(certificate) => {
                // To ask the authority for its advice may take a while.
                if self.status.borrow().state == CertifierState::Obtaining {
                    let state = match failures.count > 0 && failures.is_for(&names) {
                        true => failures.state(retry_at(&failures)),
                        false => CertifierState::Valid {
                            renewal_at: self.by_life(certificate),
                        },
                    };
                    self.say(current.as_ref(), state);
                }
                self.renewal(certificate, now).await
            }
            None => now,
        };
        if due > now && failures.count > 0 && !failures.is_for(&names) {
            // It lacked names that are not wanted, or not yet: after a restart routes come one by one.
            failures = Failures::default();
        }
        // One that has failed is not forgotten in the meantime. One that was asked for long before
        // its time is tried again too.
        let due_at = match failures.count {
            0 => due,
            _ => retry_at(&failures),
        };
        if due_at > now && !renew {
            let state = match failures.count {
                0 => CertifierState::Valid { renewal_at: due_at },
                _ => failures.state(due_at),
            };
            self.say(current.as_ref(), state);
            return due_at;
        }
        let Ok(_permit) = shared.permits.acquire().await else {
            return now + LOOK_AGAIN; // it is never closed
        };
        let replaces = current.clone().filter(|_| self.advised().is_some());
        match self.attempt(&names, failures.count, replaces, true).await {
            Ok(certificate) => {
                self.installed(&names, &certificate);
                let renewal_at = self.by_life(&certificate);
                self.say(Some(&certificate), CertifierState::Valid { renewal_at });
                self.ended();
                // To hear what the authority advises.
                SystemTime::now()
            }
            Err(mut error) => {
                let rest = self.rest(&names, &mut error, failures.count).await;
                let (rest, at_least) = match rest {
                    Ok(rest) => (rest, Duration::ZERO),
                    Err(error) => (None, error.at_least(SystemTime::now())),
                };
                let current = current.or(rest);
                let retry_at = self.failed(&names, current, &mut failures, &error, at_least);
                self.ended();
                retry_at
            }
        }
    }

    async fn attempt(
        &self,
        names: &[DnsName],
        failures: u32,
        replaces: Option<Certificate>,
        is_whole: bool,
    ) -> Result<Certificate, AcmeError> {
        // The authority need not be asked to know that.
        let has_hook = self.shared.settings.dns_hook.is_some();
        let without = names.iter().filter(|name| name.is_wildcard() && !has_hook);
        let failed: Vec<(String, AcmeError)> = without
            .map(ToString::to_string)
            .map(|name| (name.clone(), AcmeError::NoChallenge { name }))
            .collect();
        if !failed.is_empty() {
            return Err(AcmeError::Names { failed });
        }
        let attempt = Attempt {
            shared: &self.shared,
            names,
            failures,
            replaces,
            courier: self.shared.courier.fresh(),
            is_whole,
        };
        // The library repeats a request whose nonce is refused twice. Where that is not enough, the
        // same order goes on at once.
        for _ in 0..NONCES {
            match attempt.run().await {
                Err(error) if error.problem() == Some("badNonce") => {}
                ended => return ended,
            }
        }
        attempt.run().await
    }

    /// A certificate without the names that cannot be verified: an alias that leads elsewhere must
    /// not keep the others from having one, though it may cost nobody a good one.
    async fn rest(
        &mut self,
        names: &[DnsName],
        error: &mut AcmeError,
        failures: u32,
    ) -> Result<Option<Certificate>, AcmeError> {
        let mut rest = names.to_vec();
        let mut culprits = error.culprits();
        // One order more than the one that failed: who fails then has failed, and authorities count
        // failures. A star without a hook has failed without an order.
        let has_hook = self.shared.settings.dns_hook.is_some();
        let is_star = |name: &String| name.starts_with("*.");
        let mut orders = 1 + usize::from(!has_hook && culprits.iter().any(is_star));
        loop {
            let before = rest.len();
            rest.retain(|name| culprits.iter().all(|one| one != name.as_str()));
            if rest.is_empty() || rest.len() == before {
                return Ok(None);
            }
            let now = SystemTime::now();
            let current = self.shared.current(&rest);
            if current
                .as_ref()
                .is_some_and(|one| !is_near_its_end(one, now))
            {
                return Ok(current);
            }
            let failed = match self.attempt(&rest, failures, None, false).await {
                Ok(certificate) => {
                    self.installed(&rest, &certificate);
                    return Ok(Some(certificate));
                }
                Err(failed) => failed,
            };
            let text = with_causes(&failed);
            tracing::warn!(host = %rest[0], error = %text, "none for the other names either");
            orders -= 1;
            culprits = failed.culprits();
            if orders == 0 || culprits.is_empty() {
                return Err(failed);
            }
            error.add(failed);
        }
    }

    fn installed(&mut self, names: &[DnsName], certificate: &Certificate) {
        let shared = &self.shared;
        let not_after = certificate.details().not_after;
        shared.install(&names[0], certificate.clone());
        self.installed_at = Some(Instant::now());
        tracing::info!(host = %names[0], names = names.len(), "has a new certificate");
        shared.tell(&AcmeEvent::CertificateInstalled { names, not_after });
        self.advice = None;
    }

    fn failed(
        &mut self,
        names: &[DnsName],
        current: Option<Certificate>,
        failures: &mut Failures,
        error: &AcmeError,
        at_least: Duration,
    ) -> SystemTime {
        let shared = &self.shared;
        let now = SystemTime::now();
        if error.problem() == Some("accountDoesNotExist") {
            // An authority that has forgotten it gets another one.
            if let Err(error) = shared.disk.remove_account(&shared.settings.directory) {
                tracing::warn!(error = %with_causes(&error), "a useless account stays");
            }
        }
        failures.count = failures.count.saturating_add(1);
        failures.error = with_causes(error);
        failures.hint = error.hint();
        failures.names = names.iter().map(DnsName::to_string).collect();
        failures.directory = shared.settings.directory.clone();
        let pace = &shared.settings.pace;
        let pause = schedule::pause(pace, error, failures.count, now, schedule::chance());
        let pause = pause.max(at_least);
        let retry_at = now + pause;
        let since = retry_at.duration_since(SystemTime::UNIX_EPOCH);
        failures.retry_at = since.unwrap_or_default().as_secs();
        if let Err(error) = shared.disk.save_failures(&names[0], failures) {
            tracing::warn!(error = %with_causes(&error), "a failure is not on disk");
        }
        tracing::warn!(
            host = %names[0], error = %failures.error, retry_in = ?pause,
            "no new certificate"
        );
        shared.tell(&AcmeEvent::AttemptFailed {
            names,
            error,
            retry_at,
        });
        self.say(current.as_ref(), failures.state(retry_at));
        retry_at
    }

    fn advised(&self) -> Option<SystemTime> {
        self.advice?.renewal_at
    }

    /// When to renew it: when the authority says, else with a third of its life left.
    async fn renewal(&mut self, certificate: &Certificate, now: SystemTime) -> SystemTime {
        // Far off is what a clock that was ahead has said.
        let is_over =
            |advice: Advice| advice.ask_again <= now || advice.ask_again > now + courier::LONGEST;
        if self.advice.is_none_or(is_over) {
            self.advice = Some(self.ask(certificate, now).await);
        }
        let not_after = certificate.details().not_after;
        match self.advised() {
            // An authority that would let it expire is not listened to, nor one that never has
            // enough.
            Some(renewal_at) if renewal_at < not_after => {
                let earliest = schedule::earliest(certificate.details());
                self.rested(certificate, renewal_at.max(earliest))
            }
            _ => self.by_life(certificate),
        }
    }

    /// When it is renewed if nobody says anything else.
    fn by_life(&self, certificate: &Certificate) -> SystemTime {
        let chance = schedule::chance_of(certificate);
        self.rested(
            certificate,
            schedule::renewal(certificate.details(), chance),
        )
    }

    /// That time, or when it has been there for a while.
    fn rested(&self, certificate: &Certificate, at: SystemTime) -> SystemTime {
        let rest = schedule::rest(certificate.details());
        let left = self
            .installed_at
            .and_then(|since| rest.checked_sub(since.elapsed()));
        left.map_or(at, |left| at.max(SystemTime::now() + left))
    }

    async fn ask(&self, certificate: &Certificate, now: SystemTime) -> Advice {
        const SELDOM: Duration = Duration::from_secs(24 * 3600);
        let none = |ask_again| Advice {
            renewal_at: None,
            ask_again: now + ask_again,
        };
        let Ok(id) = CertificateIdentifier::try_from(certificate.own()) else {
            return none(SELDOM);
        };
        let courier = self.shared.courier.fresh();
        let asked = async {
            let _permit = self.shared.permits.acquire().await.ok();
            let account = self.shared.account(&courier).await?;
            let failed = |error| AcmeError::of(error, courier.retry_after());
            account.renewal_info(&id).await.map_err(failed)
        };
        match asked.await {
            Ok((info, ask_again)) => {
                let window = info.suggested_window;
                let chance = schedule::chance_of(certificate);
                let renewal_at = schedule::within(window.start.into(), window.end.into(), chance);
                Advice {
                    renewal_at: Some(renewal_at),
                    ask_again: now + ask_again.clamp(LOOK_AGAIN, SELDOM),
                }
            }
            Err(AcmeError::Unreachable {
                source: instant_acme::Error::Unsupported(_),
                ..
            }) => none(SELDOM),
            Err(error) => {
                tracing::debug!(error = %with_causes(&error), "no advice on renewal");
                Advice::after(self.advice, &error, now)
            }
        }
    }

    fn ended(&self) {
        // Fails when nobody watches.
        drop(self.shared.ended.send(self.names[0].clone()));
    }

    fn say(&self, certificate: Option<&Certificate>, state: CertifierState) {
        self.status.send_modify(|told| {
            told.not_after = certificate.map(|one| one.details().not_after);
            told.state = state;
        });
    }
}

/// Half of the time for renewals has gone.
fn is_near_its_end(certificate: &Certificate, now: SystemTime) -> bool {
    let details = certificate.details();
    let life = details.not_after.duration_since(details.not_before);
    details.remaining(now) < life.unwrap_or_default() / 6
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::acme::{Acme, AcmeSettings};
    use crate::tls::CertificateStore;
    use crate::tls::testing::certificate;

    /// With an authority that is not there.
    fn keeper(dir: &std::path::Path) -> Keeper {
        let settings = AcmeSettings {
            directory: "https://127.0.0.1:1/dir".to_owned(),
            ..AcmeSettings::new(dir)
        };
        let store = Arc::new(CertificateStore::new().unwrap());
        let told = Told {
            not_after: None,
            state: CertifierState::Obtaining,
            answered: 0,
        };
        Keeper {
            shared: Acme::open(settings, store).unwrap().shared(),
            names: vec!["a.test".parse().unwrap()],
            status: watch::channel(told).0,
            call: Arc::default(),
            advice: None,
            installed_at: None,
        }
    }

    #[tokio::test]
    async fn what_is_too_old_at_once_is_left_alone_for_a_while() {
        const DAY: Duration = Duration::from_secs(86_400);
        const HOUR: Duration = Duration::from_secs(3600);
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let now = SystemTime::now();
        // As one of today is to a clock that is months ahead.
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        (params.not_before, params.not_after) = ((now - 80 * DAY).into(), (now + 10 * DAY).into());
        let key = KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let old = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), now).unwrap();
        assert!(keeper.renewal(&old, now).await < now);
        keeper.installed_at = Some(Instant::now());
        // Whether its authority has an opinion or not.
        for renewal_at in [None, Some(now - DAY)] {
            keeper.advice = Some(Advice {
                renewal_at,
                ask_again: now + HOUR,
            });
            let at = keeper.renewal(&old, now).await;
            let left = at.duration_since(now).unwrap();
            assert!((HOUR..2 * HOUR).contains(&left), "{left:?}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_that_of_the_names_that_it_was_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(dir.path());
        let name = keeper.names[0].clone();
        let shared = Arc::clone(&keeper.shared);
        shared.install(&name, certificate(&["a.test"], 60));
        let now = SystemTime::now();
        let retry_at = now + Duration::from_secs(3600);
        let retry_at = retry_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        for (names, is_failing) in [(&["a.test", "www.a.test"][..], false), (&["a.test"], true)] {
            let failures = Failures {
                count: 1,
                retry_at: retry_at.as_secs(),
                names: names.iter().map(ToString::to_string).collect(),
                ..Failures::default()
            };
            shared.disk.save_failures(&name, &failures).unwrap();
            let due = keeper.look(false).await;
            let state = keeper.status.borrow().state.clone();
            match state {
                CertifierState::Failing { retry_at, .. } => assert_eq!(retry_at, due),
                _ => assert!(due > now + Duration::from_secs(86_400)),
            }
            let fails = matches!(state, CertifierState::Failing { .. });
            assert_eq!(fails, is_failing, "{state:?}");
        }
    }

    #[test]
    fn advice_outlasts_an_authority_that_is_down() {
        const DAY: Duration = Duration::from_secs(86_400);
        let now = SystemTime::now();
        let earlier = Advice {
            renewal_at: Some(now + 9 * DAY),
            ask_again: now,
        };
        let down = AcmeError::of(instant_acme::Error::Str("down"), Some(now + DAY));
        let advice = Advice::after(Some(earlier), &down, now);
        assert_eq!(advice.renewal_at, earlier.renewal_at);
        assert_eq!(advice.ask_again, now + DAY);
        let down = AcmeError::of(instant_acme::Error::Str("down"), None);
        let advice = Advice::after(None, &down, now);
        assert_eq!(advice.renewal_at, None);
        assert_eq!(advice.ask_again, now + LOOK_AGAIN);
    }
}
