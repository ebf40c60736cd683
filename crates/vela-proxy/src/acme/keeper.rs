use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use instant_acme::CertificateIdentifier;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::attempt::Attempt;
use super::disk::Failures;
use super::shared::Shared;
use super::{AcmeError, AcmeEvent, CertifierState, schedule};
use crate::tls::{Certificate, DnsName, with_causes};

/// Keeps one certificate valid: from the first order on, for as long as it is polled.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Vec<DnsName>,
    pub(super) status: watch::Sender<Told>,
    pub(super) call: Arc<Call>,
    /// What the authority says about the renewal.
    pub(super) advice: Option<Advice>,
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
            let due = self.look(renew).await;
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
        let mut failures = shared
            .disk
            .failures(name)
            .ok()
            .flatten()
            .unwrap_or_default();
        let due = match &current {
            Some(certificate) => {
                if self.status.borrow().state == CertifierState::Obtaining {
                    let renewal_at = by_life(certificate);
                    self.say(current.as_ref(), CertifierState::Valid { renewal_at });
                }
                self.renewal(certificate, now).await
            }
            None => now,
        };
        // One that has failed is not forgotten in the meantime.
        let due_at = match failures.count {
            0 => due,
            _ => due.max(failures.retry_at()),
        };
        if due_at > now && !renew {
            let state = match failures.count {
                0 => CertifierState::Valid { renewal_at: due_at },
                count => CertifierState::Failing {
                    error: failures.error,
                    hint: failures.hint,
                    failures: count,
                    retry_at: due_at,
                },
            };
            self.say(current.as_ref(), state);
            return due_at;
        }
        let Ok(_permit) = shared.permits.acquire().await else {
            return now + LOOK_AGAIN; // it is never closed
        };
        let replaces = current.clone().filter(|_| self.advised().is_some());
        match self.attempt(&names, failures.count, replaces).await {
            Ok(certificate) => {
                self.installed(&names, &certificate);
                let renewal_at = by_life(&certificate);
                self.say(Some(&certificate), CertifierState::Valid { renewal_at });
                self.ended();
                // To hear what the authority advises.
                SystemTime::now()
            }
            Err(error) => {
                let rest = self.rest(&names, &error, failures.count).await;
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
    ) -> Result<Certificate, AcmeError> {
        // The authority need not be asked to know that.
        let has_hook = self.shared.settings.dns_hook.is_some();
        if let Some(name) = names.iter().find(|name| name.is_wildcard() && !has_hook) {
            let name = name.to_string();
            return Err(AcmeError::NoChallenge { name });
        }
        let attempt = Attempt {
            shared: &self.shared,
            names,
            failures,
            replaces,
            courier: self.shared.courier.fresh(),
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
        error: &AcmeError,
        failures: u32,
    ) -> Result<Option<Certificate>, AcmeError> {
        let culprits = error.culprits();
        let is_sound = |name: &&DnsName| culprits.iter().all(|one| one != name.as_str());
        let rest: Vec<DnsName> = names.iter().filter(is_sound).cloned().collect();
        if rest.is_empty() || rest.len() == names.len() {
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
        // Once: who fails now has failed, and authorities count failures.
        let obtained = self.attempt(&rest, failures, None).await;
        if let Err(error) = &obtained {
            let error = with_causes(error);
            tracing::warn!(host = %rest[0], %error, "no certificate for the other names either");
        }
        let certificate = obtained?;
        self.installed(&rest, &certificate);
        Ok(Some(certificate))
    }

    fn installed(&mut self, names: &[DnsName], certificate: &Certificate) {
        let shared = &self.shared;
        let not_after = certificate.details().not_after;
        shared.install(&names[0], certificate.clone());
        if let Err(error) = shared.disk.remove_failures(&names[0]) {
            tracing::warn!(error = %with_causes(&error), "an old failure stays on disk");
        }
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
        self.say(
            current.as_ref(),
            CertifierState::Failing {
                error: failures.error.clone(),
                hint: failures.hint.clone(),
                failures: failures.count,
                retry_at,
            },
        );
        retry_at
    }

    fn advised(&self) -> Option<SystemTime> {
        self.advice?.renewal_at
    }

    /// When to renew it: when the authority says, else with a third of its life left.
    async fn renewal(&mut self, certificate: &Certificate, now: SystemTime) -> SystemTime {
        if self.advice.is_none_or(|advice| advice.ask_again <= now) {
            self.advice = Some(self.ask(certificate, now).await);
        }
        let not_after = certificate.details().not_after;
        match self.advised() {
            // An authority that would let it expire is not listened to, nor one that never has
            // enough.
            Some(renewal_at) if renewal_at < not_after => {
                renewal_at.max(schedule::earliest(certificate.details()))
            }
            _ => by_life(certificate),
        }
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
                // What it has said before holds.
                Advice {
                    renewal_at: self.advised(),
                    ask_again: now + error.at_least(now).max(LOOK_AGAIN),
                }
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

fn by_life(certificate: &Certificate) -> SystemTime {
    schedule::renewal(certificate.details(), schedule::chance_of(certificate))
}
