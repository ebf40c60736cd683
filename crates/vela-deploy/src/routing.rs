//! What a manifest and the user want of an app's route, in the words of the router.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;
use vela_manifest::{AppName, Manifest};
use vela_proxy::{
    DrainLimits, ErrorPages, HostPattern, Maintenance, Park, ParkLimits, Replaced, RouteError,
    RouteId, RouteOptions, RouteSpec, Router, StreamDrain, Upstream,
};

use crate::step_error::StepError;

/// An app's way into the router's table, and its only one: what holds for every route of the app, whatever is done to
/// it, can't be forgotten.
#[derive(Debug)]
pub(crate) struct AppRoute {
    id: RouteId,
    router: Arc<dyn Router>,
    /// What may wait while there is no instance.
    parking: ParkLimits,
    /// Held while the route is changed: a route without what is decided meanwhile must not come after it.
    maintenance: Mutex<Option<Maintenance>>,
}

impl AppRoute {
    pub(crate) fn new(app: &AppName, router: Arc<dyn Router>, parking: ParkLimits) -> AppRoute {
        AppRoute {
            id: RouteId::new(app.as_str()),
            router,
            parking,
            maintenance: Mutex::default(),
        }
    }

    /// Points the route at these upstreams.
    pub(crate) async fn apply(
        &self,
        spec: RouteSpec,
        upstreams: Vec<Upstream>,
    ) -> Result<Option<Replaced>, RouteError> {
        let maintenance = self.maintenance.lock().await;
        let spec = RouteSpec { upstreams, ..spec };
        self.router.apply(complete(spec, &maintenance)).await
    }

    /// Holds the route's requests.
    pub(crate) async fn park(
        &self,
        park: &dyn Park,
        spec: RouteSpec,
    ) -> Result<Option<Replaced>, RouteError> {
        let maintenance = self.maintenance.lock().await;
        let spec = complete(spec, &maintenance);
        park.park(spec, self.parking).await
    }

    /// Takes the route out of the table.
    pub(crate) async fn remove(&self) -> Result<Option<Replaced>, RouteError> {
        let _changing = self.maintenance.lock().await;
        self.router.remove(&self.id).await
    }

    /// From now on this holds for the route as it is, and for every one that comes.
    pub(crate) async fn maintain(
        &self,
        maintenance: Option<Maintenance>,
    ) -> Result<(), RouteError> {
        let mut current = self.maintenance.lock().await;
        current.clone_from(&maintenance);
        self.router.maintain(&self.id, maintenance).await
    }
}

fn complete(spec: RouteSpec, maintenance: &Option<Maintenance>) -> RouteSpec {
    let options = RouteOptions {
        maintenance: maintenance.clone(),
        ..spec.options
    };
    RouteSpec { options, ..spec }
}

/// The route of an app as its manifest wants it, to nothing.
pub(crate) fn spec(
    app: &AppName,
    manifest: &Manifest,
    error_pages: Option<Arc<ErrorPages>>,
) -> RouteSpec {
    let proxy = &manifest.proxy;
    let domain = manifest.app.domain.as_ref();
    let canonical = domain.filter(|_| proxy.redirect_aliases).map(|domain| {
        let host = domain.as_str().parse();
        host.expect("a domain that aliases redirect to is no wildcard")
    });
    let path = proxy.path.as_str().parse();
    RouteSpec {
        path: path.expect("a path of a manifest is a prefix"),
        options: RouteOptions {
            strip_path: proxy.strip_path,
            canonical,
            max_body: proxy.max_body,
            response_timeout: proxy.response_timeout,
            response_body_timeout: proxy.response_body_timeout,
            maintenance: None,
            error_pages,
        },
        ..RouteSpec::new(app.as_str(), hosts(manifest), Vec::new())
    }
}

/// How long what is replaced may go on, as its own manifest has it.
pub(crate) fn patience(manifest: &Manifest) -> DrainLimits {
    DrainLimits {
        requests: manifest.deploy.drain,
        streams: match manifest.proxy.stream_drain {
            // The app's own good-bye is the better one.
            None => StreamDrain::Await(manifest.deploy.drain),
            Some(limit) => StreamDrain::End(limit),
        },
    }
}

/// The pages that a release brings with it.
pub(crate) fn error_pages(
    release: &Path,
    manifest: &Manifest,
) -> Result<Option<Arc<ErrorPages>>, StepError> {
    let Some(relative) = &manifest.proxy.error_pages else {
        return Ok(None);
    };
    let dir = release.join(relative.as_path());
    // What can't be resolved can't be read either, which says more.
    if let (Ok(resolved), Ok(release)) = (dir.canonicalize(), release.canonicalize())
        && !resolved.starts_with(release)
    {
        let dir = relative.as_str().to_owned();
        return Err(StepError::ErrorPagesOutside { dir });
    }
    let pages = ErrorPages::load(&dir).map_err(StepError::ErrorPages)?;
    Ok(Some(Arc::new(pages)))
}

/// The same where nothing can be undone any more: an app without its pages is better than none.
pub(crate) fn error_pages_if_any(
    app: &AppName,
    release: &Path,
    manifest: &Manifest,
) -> Option<Arc<ErrorPages>> {
    error_pages(release, manifest).unwrap_or_else(|error| {
        tracing::warn!(%app, error = %error.report(), "the app goes without its error pages");
        None
    })
}

pub(crate) fn hosts(manifest: &Manifest) -> Vec<HostPattern> {
    let parse = |domain: &vela_manifest::Domain| {
        domain
            .as_str()
            .parse()
            .expect("a domain of a manifest is a host or a wildcard")
    };
    manifest.app.hosts().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vela_proxy::test_util::MemoryRouter;

    use super::*;

    fn manifest(text: &str) -> Manifest {
        let head = "[app]\nname = \"shop\"\ndomain = \"shop.test\"\naliases = [\"*.shop.test\"]\n";
        Manifest::parse("Vela.toml", &format!("{head}{text}")).unwrap()
    }

    fn route(router: &MemoryRouter) -> RouteSpec {
        router.route(&RouteId::new("shop")).unwrap()
    }

    #[test]
    fn every_key_reaches_the_route() {
        let manifest = manifest(
            "[deploy]\nbinary = \"shop\"\ndrain = \"4s\"\n[proxy]\npath = \"/api\"\nstrip_path = true\n\
             redirect_aliases = true\nmax_body = \"10M\"\nresponse_timeout = \"7s\"\n\
             response_body_timeout = \"8s\"\nstream_drain = \"9s\"\n",
        );
        let pages = Arc::new(ErrorPages::default());
        let spec = spec(&manifest.app.name, &manifest, Some(Arc::clone(&pages)));
        let hosts: Vec<_> = spec.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["shop.test", "*.shop.test"]);
        assert_eq!(spec.path.as_str(), "/api");
        assert_eq!(
            spec.options,
            RouteOptions {
                strip_path: true,
                canonical: Some("shop.test".parse().unwrap()),
                max_body: Some(10 << 20),
                response_timeout: Some(Duration::from_secs(7)),
                response_body_timeout: Some(Duration::from_secs(8)),
                maintenance: None,
                error_pages: Some(pages),
            }
        );
        let patience = patience(&manifest);
        assert_eq!(patience.requests, Duration::from_secs(4));
        assert_eq!(patience.streams, StreamDrain::End(Duration::from_secs(9)));
    }

    #[tokio::test]
    async fn maintenance_is_in_every_route_from_when_it_is_decided() {
        let router = Arc::new(MemoryRouter::new());
        let manifest = manifest("[deploy]\nbinary = \"shop\"\n");
        let spec = spec(&manifest.app.name, &manifest, None);
        let own = AppRoute::new(&manifest.app.name, router.clone(), ParkLimits::default());
        let on = Some(Maintenance {
            message: Some("later".to_owned()),
            allow: Vec::new(),
        });
        own.maintain(on.clone()).await.unwrap();
        for _ in 0..2 {
            own.apply(spec.clone(), Vec::new()).await.unwrap();
            assert_eq!(route(&router).options.maintenance, on);
            own.park(&*router, spec.clone()).await.unwrap();
            assert_eq!(route(&router).options.maintenance, on);
        }
        own.maintain(None).await.unwrap();
        assert!(router.is_parked(&RouteId::new("shop")));
        assert_eq!(route(&router).options.maintenance, None);
        own.apply(spec, Vec::new()).await.unwrap();
        assert_eq!(route(&router).options.maintenance, None);
    }

    #[derive(Debug, Default)]
    struct Noting(std::sync::Mutex<Vec<ParkLimits>>);

    #[async_trait::async_trait]
    impl Park for Noting {
        async fn park(
            &self,
            _spec: RouteSpec,
            limits: ParkLimits,
        ) -> Result<Option<Replaced>, RouteError> {
            self.0.lock().unwrap().push(limits);
            Ok(None)
        }
    }

    #[tokio::test]
    async fn what_may_wait_is_as_the_stack_has_it() {
        let limits = ParkLimits {
            max_wait: Duration::from_secs(5),
            max_requests: 7,
        };
        let manifest = manifest("[deploy]\nbinary = \"shop\"\n");
        let own = AppRoute::new(&manifest.app.name, Arc::new(MemoryRouter::new()), limits);
        let park = Noting::default();
        let spec = spec(&manifest.app.name, &manifest, None);
        own.park(&park, spec).await.unwrap();
        assert_eq!(*park.0.lock().unwrap(), [limits]);
    }

    #[test]
    fn pages_come_from_the_release_alone() {
        let release = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let manifest =
            manifest("[deploy]\nbinary = \"shop\"\n[proxy]\nerror_pages = \"web/errors\"\n");
        let read = || error_pages(release.path(), &manifest);
        let missing = read().unwrap_err().report();
        assert!(missing.to_string().contains("web/errors"), "{missing}");
        assert!(missing.hint.unwrap().contains("error_pages"));
        let web = release.path().join("web");
        std::os::unix::fs::symlink(elsewhere.path(), &web).unwrap();
        std::fs::create_dir(elsewhere.path().join("errors")).unwrap();
        assert!(matches!(read(), Err(StepError::ErrorPagesOutside { .. })));
        std::fs::remove_file(&web).unwrap();
        std::fs::create_dir_all(web.join("errors")).unwrap();
        std::fs::write(web.join("errors/503.html"), "closed").unwrap();
        let pages = read().unwrap().unwrap();
        assert_eq!(format!("{pages:?}"), "{Status(503)}");
    }
}
