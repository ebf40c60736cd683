use std::time::{Duration, Instant};

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeStatus,
    ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::sleep;

use super::answers::Answers;
use super::courier::Courier;
use super::disk::{PendingOrder, issued};
use super::shared::Shared;
use super::{AcmeError, AcmeEvent, Challenge};
use crate::tls::{Certificate, DnsName, with_causes};

/// One attempt to get a certificate, which goes on where an earlier one was broken off: at any
/// point the disk holds what it needs for that.
pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    /// What the certificate is for; what it is kept under is the first.
    pub(super) names: &'a [DnsName],
    /// How many attempts have failed before.
    pub(super) failures: u32,
    /// The certificate that is to be renewed.
    pub(super) replaces: Option<Certificate>,
    pub(super) courier: Courier,
    /// Whether it is for all names that are wanted: earlier failures are over with it.
    pub(super) is_whole: bool,
}

impl Attempt<'_> {
    pub(super) async fn run(&self) -> Result<Certificate, AcmeError> {
        let shared = self.shared;
        let account = shared.account(&self.courier).await?;
        let (mut pending, order) = self.order(&account).await?;
        let mut order = match order {
            Some(order) => order,
            None => {
                let order = self.place(&account).await?;
                pending.url = Some(order.url().to_owned());
                shared.disk.save_order(self.name(), &pending)?;
                order
            }
        };
        shared.tell(&AcmeEvent::OrderPlaced { names: self.names });
        let result = self.finish(&mut order, &pending).await;
        if let Err(error) = &result
            && error.spoils_order()
        {
            shared.disk.remove_order(self.name())?;
        }
        result
    }

    fn name(&self) -> &DnsName {
        &self.names[0]
    }

    /// The order that was begun, if the authority still has it; else what is to be one, with a key
    /// that is on disk before anything is signed for it.
    async fn order(&self, account: &Account) -> Result<(PendingOrder, Option<Order>), AcmeError> {
        let Shared { disk, settings, .. } = self.shared;
        let names: Vec<String> = self.names.iter().map(DnsName::to_string).collect();
        let begun = disk.order(self.name()).unwrap_or_else(|error| {
            let error = with_causes(&error);
            tracing::warn!(%error, "an order is begun anew");
            None
        });
        let begun = begun.filter(|begun| {
            begun.directory == settings.directory
                && begun.names == names
                // It has ended with the certificate that there is.
                && !disk.has_key(self.name(), &begun.directory, &begun.key)
        });
        if let Some(begun) = begun
            && let Some(url) = begun.url.clone()
        {
            match account.order(url).await {
                Ok(mut order) => {
                    if order.state().status != OrderStatus::Invalid {
                        return Ok((begun, Some(order)));
                    }
                }
                Err(error) => {
                    let error = self.failed(error);
                    if !error.is_unknown() {
                        return Err(error);
                    }
                }
            }
        }
        let key = KeyPair::generate().map_err(|source| AcmeError::Request { source })?;
        let pending = PendingOrder {
            directory: settings.directory.clone(),
            names,
            key: key.serialize_pem(),
            url: None,
        };
        disk.save_order(self.name(), &pending)?;
        Ok((pending, None))
    }

    async fn place(&self, account: &Account) -> Result<Order, AcmeError> {
        let names = self.names.iter();
        let names: Vec<_> = names
            .map(|name| Identifier::Dns(name.to_string()))
            .collect();
        let order = NewOrder::new(&names);
        let replaced = self.replaces.as_ref().and_then(|old| {
            CertificateIdentifier::try_from(old.own())
                .ok()
                .map(CertificateIdentifier::into_owned)
        });
        if let Some(replaced) = replaced {
            match account
                .new_order(&NewOrder::new(&names).replaces(replaced))
                .await
            {
                Ok(order) => return Ok(order),
                Err(error) => {
                    let is_ignored = match &error {
                        instant_acme::Error::Unsupported(_) => true,
                        // It does not repeat it.
                        instant_acme::Error::Other(source) => {
                            source.to_string().starts_with("replaces field mismatch")
                        }
                        _ => false,
                    };
                    let error = self.failed(error);
                    // It knows no such thing, or not this certificate, or has replaced it.
                    let is_about_it = is_ignored
                        || error.is_unknown()
                        || matches!(error.problem(), Some("alreadyReplaced" | "conflict"));
                    if !is_about_it || error.problem() == Some("accountDoesNotExist") {
                        return Err(error);
                    }
                    let error = with_causes(&error);
                    tracing::debug!(%error, "an order that replaces none is placed");
                }
            }
        }
        account
            .new_order(&order)
            .await
            .map_err(|error| self.failed(error))
    }

    async fn finish(
        &self,
        order: &mut Order,
        pending: &PendingOrder,
    ) -> Result<Certificate, AcmeError> {
        if order.state().status == OrderStatus::Pending {
            self.verify(order).await?;
        }
        self.shared
            .tell(&AcmeEvent::NamesVerified { names: self.names });
        if order.state().status == OrderStatus::Ready {
            let request = self.request(&pending.key)?;
            let finalized = order.finalize_csr(&request).await;
            finalized.map_err(|error| self.failed(error))?;
        }
        self.shared
            .tell(&AcmeEvent::CertificateRequested { names: self.names });
        let chain = match order.state().status {
            OrderStatus::Valid => order.certificate().await,
            _ => order.poll_certificate(&self.patience()).await.map(Some),
        };
        let chain = chain.map_err(|error| self.failed(error))?;
        let chain = chain.ok_or(AcmeError::TooSlow { retry_after: None })?;
        self.shared
            .tell(&AcmeEvent::CertificateDownloaded { names: self.names });
        let key = pending.key.as_bytes();
        let certificate = issued(chain.as_bytes(), key, &pending.directory)
            .map_err(|source| AcmeError::Issued { source })?;
        if let Some(name) = self
            .names
            .iter()
            .find(|name| !certificate.covers(name.as_str()))
        {
            let name = name.clone();
            return Err(AcmeError::NameMissing { name });
        }
        let disk = &self.shared.disk;
        disk.complete(self.name(), pending, &chain, self.is_whole)?;
        Ok(certificate)
    }

    /// Answers the challenges and waits for the authority to look.
    async fn verify(&self, order: &mut Order) -> Result<(), AcmeError> {
        let shared = self.shared;
        let hook = shared.settings.dns_hook.clone();
        let mut answers = Answers::new(shared.http.clone(), shared.store.clone(), hook);
        let verified = self.verify_by(order, &mut answers).await;
        answers.withdraw().await;
        verified
    }

    /// Finds all the names that cannot be verified, and not just one of them: each further order
    /// would have the authority look at the others again, and it does not look often.
    async fn verify_by(&self, order: &mut Order, answers: &mut Answers) -> Result<(), AcmeError> {
        let mut proof = Proof::default();
        let answered = self.answer(order, answers, &mut proof).await;
        let until = Instant::now() + self.shared.settings.pace.patience;
        if let Err(error) = answered {
            self.settle(order, &mut proof, until).await;
            return Err(error);
        }
        let polled = match proof.failed.is_empty() {
            true => order.poll_ready(&self.patience()).await,
            false => Ok(OrderStatus::Pending),
        };
        match polled {
            Ok(OrderStatus::Ready) => return Ok(()),
            // One that an earlier attempt has got further.
            Err(instant_acme::Error::Timeout(_)) if order.state().status == OrderStatus::Valid => {
                return Ok(());
            }
            _ => {}
        }
        let failure = polled.map_err(|error| self.failed(error));
        // What the order does not say, its authorizations do.
        self.settle(order, &mut proof, until).await;
        let failed = proof.failed;
        match failure {
            _ if !failed.is_empty() => Err(AcmeError::Names { failed }),
            Err(error) => Err(error),
            Ok(_) => Err(AcmeError::NotVerified {
                name: self.name().to_string(),
                reason: "the order is invalid".to_owned(),
            }),
        }
    }

    async fn answer(
        &self,
        order: &mut Order,
        answers: &mut Answers,
        proof: &mut Proof,
    ) -> Result<(), AcmeError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization.map_err(|error| self.failed(error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            match self.answer_one(authorization, &name, answers).await {
                Ok(()) => proof.asked.push(name),
                Err(
                    error @ (AcmeError::NoChallenge { .. }
                    | AcmeError::DnsHook { .. }
                    | AcmeError::NotVerified { .. }),
                ) => proof.failed.push((name, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn answer_one(
        &self,
        mut authorization: AuthorizationHandle<'_>,
        name: &str,
        answers: &mut Answers,
    ) -> Result<(), AcmeError> {
        let offered = |way: &Challenge| {
            let of = kind(*way);
            authorization.challenges.iter().any(|one| one.r#type == of)
        };
        let ways = answers.ways(name.starts_with("*."), self.failures);
        let way = ways.into_iter().find(offered);
        let no_challenge = || AcmeError::NoChallenge {
            name: name.to_owned(),
        };
        let way = way.ok_or_else(no_challenge)?;
        let mut challenge = authorization
            .challenge(kind(way))
            .ok_or_else(no_challenge)?;
        answers.give(way, name, &challenge).await?;
        self.shared.tell(&AcmeEvent::ChallengeAnswered {
            name,
            challenge: way,
        });
        // One that was begun before is being looked at already.
        if challenge.status == ChallengeStatus::Pending {
            challenge
                .set_ready()
                .await
                .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Looks at all authorizations that have not failed yet. Waits for those that the authority is
    /// looking at: their answers must stay until then.
    async fn settle(&self, order: &mut Order, proof: &mut Proof, until: Instant) {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let name = authorization.identifier().to_string();
            if proof.failed.iter().any(|(failed, _)| *failed == name) {
                continue;
            }
            let mut pause = FIRST_LOOK;
            loop {
                match authorization.refresh().await {
                    Ok(_) => {}
                    Err(error @ instant_acme::Error::Api(_)) => {
                        let is_nonce = self.failed(error).problem() == Some("badNonce");
                        if is_nonce && Instant::now() < until {
                            continue;
                        }
                        break;
                    }
                    Err(_) => return, // the others cannot be asked either
                }
                let is_looked_at = authorization.status == AuthorizationStatus::Pending
                    && proof.asked.contains(&name);
                if !is_looked_at || Instant::now() >= until {
                    break;
                }
                sleep(pause).await;
                pause = pause.mul_f32(BACKOFF);
            }
            let challenges = authorization.challenges.iter();
            let problem = challenges.filter_map(|one| one.error.as_ref()).next();
            let reason = match (authorization.status, problem) {
                (AuthorizationStatus::Valid, _) | (AuthorizationStatus::Pending, None) => continue,
                (_, Some(problem)) => problem
                    .detail
                    .clone()
                    .unwrap_or_else(|| problem.to_string()),
                (status, None) => format!("its authorization is {status:?}").to_lowercase(),
            };
            let error = AcmeError::NotVerified {
                name: name.clone(),
                reason,
            };
            proof.failed.push((name, error));
        }
    }

    fn request(&self, key: &str) -> Result<Vec<u8>, AcmeError> {
        let failed = |source| AcmeError::Request { source };
        let key = KeyPair::from_pem(key).map_err(failed)?;
        let names: Vec<String> = self.names.iter().map(DnsName::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(failed)?;
        Ok(request.der().to_vec())
    }

    fn patience(&self) -> RetryPolicy {
        RetryPolicy::new()
            .initial_delay(FIRST_LOOK)
            .backoff(BACKOFF)
            .timeout(self.shared.settings.pace.patience)
    }

    fn failed(&self, error: instant_acme::Error) -> AcmeError {
        AcmeError::of(error, self.courier.retry_after())
    }
}

/// How the names of an order fare.
#[derive(Default)]
struct Proof {
    /// Those that the authority has been told to look at.
    asked: Vec<String>,
    failed: Vec<(String, AcmeError)>,
}

/// How soon to look whether the authority is done, and how much later each time.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const BACKOFF: f32 = 1.5;

fn kind(way: Challenge) -> ChallengeType {
    match way {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}
