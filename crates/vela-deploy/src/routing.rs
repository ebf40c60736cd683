use vela_manifest::{AppName, Manifest};
use vela_proxy::{HostPattern, RouteSpec, Upstream};

/// The route of an app as its manifest wants it, to these upstreams.
pub(crate) fn route(app: &AppName, manifest: &Manifest, upstreams: Vec<Upstream>) -> RouteSpec {
    RouteSpec::new(app.as_str(), hosts(manifest), upstreams)
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
