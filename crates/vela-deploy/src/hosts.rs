use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vela_manifest::{AppName, Domain};

/// Which app has which host name: one registry, so that two apps can never both get one.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    owners: Mutex<BTreeMap<Domain, AppName>>,
}

/// A host name that another app has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) host: Domain,
    pub(crate) by: AppName,
}

impl Hosts {
    /// Claims all of `hosts` for `app`, beside those it has, or none of them.
    pub(crate) fn claim(&self, app: &AppName, hosts: &[Domain]) -> Result<(), Taken> {
        let mut owners = self.lock();
        for host in hosts {
            if let Some(by) = owners.get(host).filter(|by| *by != app) {
                return Err(Taken {
                    host: host.clone(),
                    by: by.clone(),
                });
            }
        }
        owners.extend(hosts.iter().map(|host| (host.clone(), app.clone())));
        Ok(())
    }

    /// Releases what `app` has, except `hosts`.
    pub(crate) fn keep_only(&self, app: &AppName, hosts: &[Domain]) {
        self.lock()
            .retain(|host, by| by != app || hosts.contains(host));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Domain, AppName>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
