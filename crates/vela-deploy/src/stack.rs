use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use vela_manifest::{AppName, ServicesSection};
use vela_protocol::Step;
use vela_proxy::acme::Certifier;
use vela_proxy::tls::CertificateStore;
use vela_proxy::{Park, ParkLimits, Router};
use vela_release::{DirStore, Owner, ReleaseError, ReleaseStore, StoreOptions};
use vela_services::{InvalidDownload, Provisioner, Runner};
use vela_supervisor::users::{User, UserError};
use vela_supervisor::{Ports, Supervisor};

use crate::clock::{Clock, SystemClock};
use crate::dirs::Dirs;
#[cfg(feature = "test-util")]
use crate::failpoint::Failpoints;
use crate::failpoint::Moment;
use crate::service_runner::ServiceRunner;
use crate::step_error::StepError;

/// What the lifecycle is done with: a plain struct of trait objects. Swap one with struct update:
/// `Stack { router: Arc::new(MyNginx), park: None, ..Stack::local(options) }`.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Where state is kept.
    pub dirs: Dirs,
    /// Opens the release store of an app.
    pub stores: Arc<dyn OpenStore>,
    /// Runs the processes.
    pub supervisor: Arc<dyn Supervisor>,
    /// Where ports come from.
    pub ports: Ports,
    /// Switches the traffic.
    pub router: Arc<dyn Router>,
    /// Holds requests, if the router can: the `sequential` strategy needs it.
    pub park: Option<Arc<dyn Park>>,
    /// How many requests of one app may be held, and for how long.
    pub parking: ParkLimits,
    /// Gets certificates for the hosts of the apps, if anybody does. It is told of what has committed, never of what
    /// may still be undone.
    pub certifier: Option<Arc<dyn Certifier>>,
    /// The certificates that HTTPS is served with, if it is served: for `status` and `vela certs`.
    pub certificates: Option<Arc<CertificateStore>>,
    /// Runs the servers of services, by the supervisor above.
    pub runner: Arc<dyn Runner>,
    /// Provisions services, each for its own kind.
    pub provisioners: Vec<Arc<dyn Provisioner>>,
    /// Whom an app runs as.
    pub users: Arc<dyn Users>,
    /// Names releases and dates events.
    pub clock: Arc<dyn Clock>,
    /// What the apps inherit of this process's environment.
    pub inherited: BTreeMap<String, String>,
    /// Where tests make steps fail.
    #[cfg(feature = "test-util")]
    pub failpoints: Option<Arc<dyn Failpoints>>,
}

impl Stack {
    /// The stack of `vela serve`: release directories, Postgres and NATS, and what is given. Binds, locks and spawns
    /// nothing.
    ///
    /// Servers of services run by `supervisor` too. Who swaps it in the result swaps `runner` and `provisioners` as
    /// well.
    pub fn local(
        dirs: Dirs,
        supervisor: Arc<dyn Supervisor>,
        ports: Ports,
        proxy: vela_proxy::Proxy,
    ) -> Stack {
        let services = dirs.services();
        let runner: Arc<dyn Runner> =
            Arc::new(ServiceRunner::new(Arc::clone(&supervisor), services));
        Stack {
            stores: Arc::new(DirStores),
            supervisor,
            ports,
            router: Arc::new(proxy.clone()),
            park: Some(Arc::new(proxy)),
            parking: ParkLimits::default(),
            certifier: None,
            certificates: None,
            provisioners: crate::provisioners::local(&dirs, &runner, &ServicesSection::default())
                .expect("nothing is configured that could be wrong"),
            runner,
            dirs,
            users: Arc::new(SameUser),
            clock: Arc::new(SystemClock),
            inherited: crate::env::inherited_env(),
            #[cfg(feature = "test-util")]
            failpoints: None,
        }
    }

    /// The same with the programs of services from where `section`, of server.toml, says. Its provisioners replace those
    /// that there were.
    ///
    /// # Errors
    /// When what is to be downloaded is described wrongly, which a parsed server.toml never is.
    pub fn with_services(self, section: &ServicesSection) -> Result<Stack, InvalidDownload> {
        Ok(Stack {
            provisioners: crate::provisioners::local(&self.dirs, &self.runner, section)?,
            ..self
        })
    }

    /// Where tests make a step fail or the process die; nothing without the feature `test-util`.
    pub(crate) fn hit(&self, step: Step, moment: Moment) -> Result<(), StepError> {
        #[cfg(feature = "test-util")]
        if let Some(failpoints) = &self.failpoints {
            return Ok(failpoints.hit(step, moment)?);
        }
        tracing::trace!(%step, ?moment, "passing a failpoint");
        Ok(())
    }
}

/// Opens the store of one app.
pub trait OpenStore: std::fmt::Debug + Send + Sync {
    /// Opens the store in the app's directory, made when missing; releases belong to `owner` until they are sealed.
    /// Leftovers of a crash are swept.
    ///
    /// # Errors
    /// When the directory can't be made or swept.
    fn open(
        &self,
        app_dir: &Path,
        owner: Option<Owner>,
    ) -> Result<Arc<dyn ReleaseStore>, ReleaseError>;
}

/// Stores of [`DirStore`].
#[derive(Debug, Clone, Copy, Default)]
pub struct DirStores;

impl OpenStore for DirStores {
    fn open(
        &self,
        app_dir: &Path,
        owner: Option<Owner>,
    ) -> Result<Arc<dyn ReleaseStore>, ReleaseError> {
        let options = StoreOptions {
            owner,
            ..StoreOptions::default()
        };
        Ok(Arc::new(DirStore::open(app_dir.to_owned(), options)?))
    }
}

/// Says whom an app, its hooks and its files belong to.
#[async_trait]
pub trait Users: std::fmt::Debug + Send + Sync {
    /// The user of `app`, made when missing; `None` for the user of this process. `wanted` is the manifest's
    /// `[app] user`, `home` the app's data directory. Idempotent.
    ///
    /// # Errors
    /// When the user is wanted but does not exist, or can't be made.
    async fn user(
        &self,
        app: &AppName,
        wanted: Option<&str>,
        home: &Path,
    ) -> Result<Option<User>, UserError>;
}

/// Every app runs as the user of this process: all that can be had without root. A wanted user is refused unless it
/// is that one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SameUser;

#[async_trait]
impl Users for SameUser {
    async fn user(
        &self,
        _: &AppName,
        wanted: Option<&str>,
        _: &Path,
    ) -> Result<Option<User>, UserError> {
        let Some(wanted) = wanted.map(str::to_owned) else {
            return Ok(None);
        };
        blocking(move || match vela_supervisor::users::lookup(&wanted)? {
            Some(user) if user.uid == rustix::process::geteuid().as_raw() => Ok(None),
            Some(user) if rustix::process::geteuid().is_root() => Ok(Some(user)),
            _ => Err(UserError::NotRoot { name: wanted }),
        })
        .await
    }
}

/// Each app runs as a system user of its own, `vela-<app>`; needs root.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemUsers;

#[async_trait]
impl Users for SystemUsers {
    async fn user(
        &self,
        app: &AppName,
        wanted: Option<&str>,
        home: &Path,
    ) -> Result<Option<User>, UserError> {
        let (wanted, own, home) = (
            wanted.map(str::to_owned),
            system_user_name(app),
            home.to_owned(),
        );
        blocking(move || match wanted {
            None => vela_supervisor::users::ensure_system_user(&own, &home).map(Some),
            Some(name) => match vela_supervisor::users::lookup(&name)? {
                Some(user) => Ok(Some(user)),
                None => Err(UserError::Lookup {
                    name,
                    source: std::io::ErrorKind::NotFound.into(),
                }),
            },
        })
        .await
    }
}

/// `vela-<app>`, or a prefix of it with a checksum where that exceeds the 32 bytes that Linux allows.
fn system_user_name(app: &AppName) -> String {
    use sha2::{Digest, Sha256};
    let name = format!("vela-{app}");
    if name.len() <= 32 {
        return name;
    }
    let digest: String = Sha256::digest(app.as_str())
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}-{digest}", name[..23].trim_end_matches('-'))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("looking up a user does not panic, nor is it cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_fit_and_stay_apart() {
        let name = |app: &str| system_user_name(&app.parse().unwrap());
        assert_eq!(name("shop"), "vela-shop");
        let (one, two) = (name(&"a".repeat(40)), name(&"a".repeat(41)));
        assert!(one.len() <= 32 && two.len() <= 32);
        assert_ne!(one, two);
    }
}
