use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vela_manifest::{AppName, Domain, Manifest, RoutePath};

/// Which app has which place: one registry, so that two apps can never both get one.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    owners: Mutex<BTreeMap<Place, AppName>>,
}

/// What only one app can have: a path of a host name or wildcard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    host: Domain,
    path: RoutePath,
}

/// A place that another app has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) place: Place,
    pub(crate) by: AppName,
}

impl Place {
    /// Those that a manifest asks for.
    pub(crate) fn all_of(manifest: &Manifest) -> Vec<Place> {
        let place = |host: &Domain| Place {
            host: host.clone(),
            path: manifest.proxy.path.clone(),
        };
        manifest.app.hosts().map(place).collect()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_root() {
            true => self.host.fmt(f),
            false => write!(f, "{}{}", self.host, self.path),
        }
    }
}

impl Hosts {
    /// Claims all of `places` for `app`, beside those it has, or none of them.
    pub(crate) fn claim(&self, app: &AppName, places: &[Place]) -> Result<(), Taken> {
        let mut owners = self.lock();
        for place in places {
            if let Some(by) = owners.get(place).filter(|by| *by != app) {
                return Err(Taken {
                    place: place.clone(),
                    by: by.clone(),
                });
            }
        }
        owners.extend(places.iter().map(|place| (place.clone(), app.clone())));
        Ok(())
    }

    /// Releases what `app` has, except `places`.
    pub(crate) fn keep_only(&self, app: &AppName, places: &[Place]) {
        self.lock()
            .retain(|place, by| by != app || places.contains(place));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, AppName>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::parse(name).unwrap()
    }

    fn place(host: &str, path: &str) -> Place {
        Place {
            host: Domain::parse(host).unwrap(),
            path: RoutePath::parse(path).unwrap(),
        }
    }

    #[test]
    fn apps_share_a_host_and_never_a_place() {
        let hosts = Hosts::default();
        hosts.claim(&app("shop"), &[place("a.test", "/")]).unwrap();
        let api = [place("a.test", "/api"), place("*.a.test", "/api")];
        hosts.claim(&app("api"), &api).unwrap();
        let wanted = [place("b.test", "/api"), place("*.a.test", "/api")];
        let taken = hosts.claim(&app("shop"), &wanted).unwrap_err();
        assert_eq!(taken.place.to_string(), "*.a.test/api");
        assert_eq!(taken.by, app("api"));
        // Nothing of what was refused is taken.
        hosts.claim(&app("other"), &wanted[..1]).unwrap();
        hosts.keep_only(&app("api"), &api[..1]);
        hosts.claim(&app("shop"), &wanted[1..]).unwrap();
        assert_eq!(place("a.test", "/").to_string(), "a.test");
    }
}
