//! Every key of both files is read into what it says, and what is not said has its default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vela_manifest::{
    Destination, Domain, Health, JetStream, Kind, Listen, Manifest, Method, Output, ProxySection,
    Schedule, ServerConfig, ServicesSection, StopSignal, Strategy, Template, Variable,
};

fn parse(text: &str) -> Manifest {
    Manifest::parse("Vela.toml", text).unwrap_or_else(|error| panic!("{}", error.report()))
}

fn deploy(lines: &str) -> vela_manifest::Deploy {
    parse(&format!("[app]\nname = 'my-app'\n[deploy]\n{lines}")).deploy
}

fn server(text: &str) -> ServerConfig {
    ServerConfig::parse("server.toml", text).unwrap_or_else(|error| panic!("{}", error.report()))
}

const EVERYTHING: &str = r#"
x-note = "my own"

[app]
name = "my-app"
domain = "My-App.com"
aliases = ["www.my-app.com", "my-app.org"]
user = "deploy"
listen = "::1"

[deploy]
server = "root@1.2.3.4"
type = "beam"
binary = "./bin/my_app"
args = ["--port", "${port}", "-c$${x}"]
health = { path = "/health?full=1", port = 9000, method = "HEAD", host = "my-app.com:81", expect = 204, interval = "500ms", timeout = 2, retries = 3, grace = "1m", follow_redirects = true }
drain = "1m30s"
stop_timeout = 20
stop_signal = "SIGQUIT"
strategy = "sequential"
instances = 2
keep_releases = 9
pre_start = "bin/migrate"
pre_switch = "bin/smoke"
post_deploy = "bin/notify"
hook_timeout = "1h"
x-y = { anything = [1] }

[proxy]
path = "/shop/"
strip_path = true
redirect_aliases = true
max_body = "10M"
response_timeout = "2m"
response_body_timeout = "1h"
stream_drain = 30
error_pages = "priv/errors/"

[env]
DATABASE_PATH = "${data_dir}/${app}.db"
SECRET_KEY_BASE = "${secret:SECRET_KEY_BASE}"
WORKERS = 4
DEBUG = false

[resources]
memory = "512M"
cpu_weight = 200

[services.postgres]
version = "17"
databases = ["my_app", "my_app_jobs"]
extensions = ["pg_trgm", "uuid-ossp"]
url = "${secret:DATABASE_URL}"

[services.nats]
version = "2.10"
jetstream = { storage = "1G", memory = "64M" }
subjects = ["orders.>", "mail.*.sent"]

[services.x-redis]
version = "7"
max_clients = 100
persist = true
databases = ["cache", "sessions"]
x-note = "mine"

[build]
remote = true
command = "mix release"
output = "_build/prod/rel/my_app"
timeout = "1h"

[build.env]
MIX_ENV = "prod"

[x-mine]
whatever = true
"#;

#[test]
fn everything_that_can_be_set() {
    let manifest = parse(EVERYTHING);
    assert_eq!(manifest.source(), EVERYTHING);

    let app = &manifest.app;
    assert_eq!(app.name.as_str(), "my-app");
    let hosts: Vec<_> = app.hosts().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["my-app.com", "www.my-app.com", "my-app.org"]);
    assert_eq!(app.user.as_deref(), Some("deploy"));
    assert_eq!(app.listen, Listen::Ipv6);

    let deploy = &manifest.deploy;
    assert_eq!(deploy.server.as_deref(), Some("root@1.2.3.4"));
    assert_eq!(deploy.kind, Kind::Beam);
    assert_eq!(deploy.binary.as_path(), Path::new("bin/my_app"));
    let args: Result<Vec<_>, ()> = deploy
        .args
        .iter()
        .map(|arg| arg.render(|_| Ok("8080".to_owned())))
        .collect();
    assert_eq!(
        args,
        Ok(vec!["--port".into(), "8080".into(), "-c${x}".into()])
    );
    let Health::Http {
        path,
        port,
        method,
        host,
        expect,
        follow_redirects,
        timing,
    } = &deploy.health
    else {
        panic!("{:?}", deploy.health)
    };
    assert_eq!(
        (path.as_str(), *port, *method),
        ("/health?full=1", Some(9000), Method::Head)
    );
    assert_eq!(
        (host.as_deref(), *expect, *follow_redirects),
        (Some("my-app.com:81"), 204, true)
    );
    assert_eq!(timing.interval, Duration::from_millis(500));
    assert_eq!(timing.timeout, Duration::from_secs(2));
    assert_eq!(timing.retries, 3);
    assert_eq!(timing.grace, Duration::from_secs(60));
    assert_eq!(deploy.drain, Duration::from_secs(90));
    assert_eq!(deploy.stop_timeout, Duration::from_secs(20));
    assert_eq!(deploy.stop_signal, StopSignal::Quit);
    assert_eq!(deploy.strategy, Strategy::Sequential);
    assert_eq!((deploy.instances, deploy.keep_releases), (2, 9));
    assert_eq!(deploy.pre_start.as_deref(), Some("bin/migrate"));
    assert_eq!(deploy.pre_switch.as_deref(), Some("bin/smoke"));
    assert_eq!(deploy.post_deploy.as_deref(), Some("bin/notify"));
    assert_eq!(deploy.hook_timeout, Duration::from_secs(3600));

    let proxy = &manifest.proxy;
    assert_eq!(proxy.path.as_str(), "/shop");
    assert!(proxy.strip_path && proxy.redirect_aliases);
    assert_eq!(proxy.max_body, Some(10 << 20));
    assert_eq!(proxy.response_timeout, Some(Duration::from_secs(120)));
    assert_eq!(proxy.response_body_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(proxy.stream_drain, Some(Duration::from_secs(30)));
    let error_pages = proxy.error_pages.as_ref().expect("set");
    assert_eq!(error_pages.as_str(), "priv/errors");

    let env =
        |name: &str| manifest.env[name].render(|variable| Ok::<_, ()>(format!("<{variable}>")));
    assert_eq!(env("DATABASE_PATH"), Ok("<${data_dir}>/<${app}>.db".into()));
    assert_eq!(env("WORKERS"), Ok("4".into()));
    assert_eq!(env("DEBUG"), Ok("false".into()));
    let secret: Vec<_> = manifest.env["SECRET_KEY_BASE"].variables().collect();
    assert_eq!(secret, [&Variable::Secret("SECRET_KEY_BASE".into())]);

    assert_eq!(manifest.resources.memory, Some(512 << 20));
    assert_eq!(manifest.resources.cpu_weight, Some(200));

    let postgres = manifest.services.postgres.as_ref().expect("set");
    assert_eq!(postgres.version.as_deref(), Some("17"));
    assert_eq!(postgres.databases, ["my_app", "my_app_jobs"]);
    assert_eq!(postgres.extensions, ["pg_trgm", "uuid-ossp"]);
    assert!(postgres.url.is_some());
    let nats = manifest.services.nats.as_ref().expect("set");
    assert_eq!(nats.version.as_deref(), Some("2.10"));
    let limits = nats.jetstream.expect("set");
    assert_eq!(
        (limits.storage, limits.memory),
        (Some(1 << 30), Some(64 << 20))
    );
    assert_eq!(nats.subjects, ["orders.>", "mail.*.sent"]);
    let redis: Vec<_> = manifest.services.others["redis"]
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        redis,
        [
            ("databases", "cache,sessions"),
            ("max_clients", "100"),
            ("persist", "true"),
            ("version", "7")
        ]
    );

    let build = manifest.build.as_ref().expect("set");
    assert!(build.remote);
    assert_eq!(build.command.as_deref(), Some("mix release"));
    assert!(
        matches!(&build.output, Some(Output::Path(path)) if path.as_str() == "_build/prod/rel/my_app")
    );
    assert!(build.env.contains_key("MIX_ENV"));
    assert_eq!(build.timeout, Duration::from_secs(3600));
}

#[test]
fn defaults() {
    let manifest = parse("[app]\nname = 'my-app'");
    let deploy = &manifest.deploy;
    assert_eq!(manifest.app.hosts().count(), 0);
    assert_eq!(manifest.app.listen, Listen::Ipv4);
    assert_eq!(deploy.kind, Kind::Binary);
    assert_eq!(deploy.binary.as_str(), "my-app");
    assert_eq!(deploy.health, Health::default());
    assert!(matches!(deploy.health, Health::Tcp(_)));
    assert_eq!(deploy.health.timing().interval, Duration::from_secs(1));
    assert_eq!(deploy.health.timing().timeout, Duration::from_secs(5));
    assert_eq!(deploy.health.timing().retries, 30);
    assert_eq!(deploy.health.timing().grace, Duration::ZERO);
    assert_eq!(deploy.drain, Duration::from_secs(5));
    assert_eq!(deploy.stop_timeout, Duration::from_secs(10));
    assert_eq!(deploy.stop_signal, StopSignal::Term);
    assert_eq!(deploy.strategy, Strategy::BlueGreen);
    assert_eq!((deploy.instances, deploy.keep_releases), (1, 5));
    assert_eq!(deploy.hook_timeout, Duration::from_secs(600));
    assert!(manifest.proxy.path.is_root());
    assert!(!manifest.proxy.strip_path && !manifest.proxy.redirect_aliases);
    assert_eq!(
        (manifest.proxy.max_body, manifest.proxy.response_timeout),
        (None, None)
    );
    assert_eq!(manifest.proxy.response_body_timeout, None);
    assert_eq!(manifest.proxy.stream_drain, None);
    assert_eq!(manifest.proxy.error_pages, None);
    assert!(manifest.build.is_none());
    assert!(manifest.not_yet_deployable().is_empty());
}

#[test]
fn an_app_may_listen_on_a_unix_socket_and_be_told_which() {
    let text = "[app]\nname = 'a'\nlisten = 'unix'\n[deploy]\nargs = ['--bind', 'unix:${socket}']\n[env]\nAT = '${socket}'";
    let manifest = parse(text);
    assert_eq!(manifest.app.listen, Listen::Unix);
    let render =
        |template: &Template| template.render(|variable| Ok::<_, ()>(variable.to_string()));
    assert_eq!(
        render(&manifest.deploy.args[1]),
        Ok("unix:${socket}".into())
    );
    assert_eq!(render(&manifest.env["AT"]), Ok("${socket}".into()));
}

#[test]
fn wildcards_are_hosts_too() {
    let hosts = |lines: &str| {
        let app = parse(&format!("[app]\nname = 'a'\n{lines}")).app;
        let shown = |host: &Domain| (host.to_string(), host.is_wildcard());
        app.hosts().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(
        hosts("domain = '*.Example.com'\naliases = ['example.com']"),
        [
            ("*.example.com".into(), true),
            ("example.com".into(), false)
        ]
    );
    assert_eq!(
        hosts("domain = 'a.b'\naliases = ['*.a.b']\n[proxy]\nredirect_aliases = true"),
        [("a.b".into(), false), ("*.a.b".into(), true)]
    );
}

#[test]
fn health_has_many_spellings() {
    assert!(matches!(
        deploy("health = '/up'").health,
        Health::Http {
            expect: 200,
            port: None,
            ..
        }
    ));
    assert!(matches!(
        deploy("health = { tcp = true }").health,
        Health::Tcp(_)
    ));
    assert!(matches!(
        deploy("health.path = '/up'\nhealth.expect = 204").health,
        Health::Http { expect: 204, .. }
    ));
    assert!(matches!(
        deploy("[deploy.health]\nexec = 'bin/ready'").health,
        Health::Exec { .. }
    ));
    let slow = deploy("health = { retries = 100, interval = 2 }").health;
    assert!(
        matches!(&slow, Health::Tcp(timing) if timing.retries == 100 && timing.interval.as_secs() == 2)
    );
}

#[test]
fn keys_without_behaviour_are_named_with_their_lines() {
    let listed: Vec<_> = parse(EVERYTHING)
        .not_yet_deployable()
        .into_iter()
        .map(|u| (u.line, u.key))
        .collect();
    let line = |start: &str| {
        1 + EVERYTHING
            .lines()
            .position(|line| line.starts_with(start))
            .expect("in the text")
    };
    let expected = [
        (line("instances ="), "deploy.instances"),
        (line("memory ="), "resources.memory"),
        (line("cpu_weight ="), "resources.cpu_weight"),
    ];
    assert_eq!(listed, expected.map(|(line, key)| (line, key.to_owned())));
}

#[test]
fn what_is_deployable() {
    let keys = |text: &str| {
        let manifest = parse(&format!("[app]\nname = 'a'\n{text}"));
        manifest
            .not_yet_deployable()
            .into_iter()
            .map(|u| u.key)
            .collect::<Vec<_>>()
    };
    for text in [
        "[deploy]\nstrategy = 'sequential'\ninstances = 1\ntype = 'beam'",
        "[resources]\n[services]\n[build]\nremote = true\n[build.env]\nA = 'b'",
        "[services.postgres]\nurl = 'postgres://me:${secret:PW}@localhost/db'",
        "[services.postgres]\nversion = 17\ndatabases = ['a']\nextensions = ['b']",
        "domain = '*.a.b'\naliases = ['a.b', '*.c.d']",
        "domain = 'a.b'\n[proxy]\npath = '/api'\nmax_body = 1",
        "[services]\npostgres = {}\nnats = { jetstream = true }\nx-redis = {}\nx-note = 'mine'",
    ] {
        assert_eq!(keys(text), [""; 0], "{text}");
    }
    for strategy in ["rolling", "canary", "immediate"] {
        assert_eq!(
            keys(&format!("[deploy]\nstrategy = '{strategy}'")),
            ["deploy.strategy"]
        );
    }
}

#[test]
fn jetstream_has_many_spellings() {
    let nats = |lines: &str| {
        let manifest = parse(&format!("[app]\nname = 'a'\n[services.nats]\n{lines}"));
        manifest.services.nats.expect("set").jetstream
    };
    assert_eq!(nats(""), None);
    assert_eq!(nats("jetstream = false"), None);
    for all_defaults in ["jetstream = true", "jetstream = {}"] {
        assert_eq!(nats(all_defaults), Some(JetStream::default()));
    }
    let limits = nats("[services.nats.jetstream]\nmemory = 1024").expect("wanted");
    assert_eq!((limits.storage, limits.memory), (None, Some(1024)));
}

#[test]
fn a_manifest_of_the_project_it_is_named_after() {
    let manifest = parse(
        r#"
[app]
name = "my-app"
domain = "my-app.example.com"

[deploy]
server = "root@your-server.example.com"
type = "beam"
binary = "bin/server"
health = "/health"
strategy = "sequential"
drain = 10
pre_start = "bin/my_app eval 'MyApp.Release.migrate()'"

[env]
DATABASE_PATH = "${data_dir}/my-app.db"
PHX_SERVER = "true"

[resources]
# memory = "512M"

[build]
remote = true
command = "mix release"
[build.env]
MIX_ENV = "prod"
"#,
    );
    assert_eq!(manifest.deploy.binary.as_str(), "bin/server");
}

#[test]
fn a_beam_release_starts_by_the_script_that_mix_makes() {
    let binary = |deploy: &str| {
        let manifest = parse(&format!("[app]\nname = 'my-app-2'\n[deploy]\n{deploy}"));
        assert!(manifest.not_yet_deployable().is_empty());
        manifest.deploy.binary.as_str().to_owned()
    };
    assert_eq!(binary("type = 'beam'"), "bin/my_app_2");
    assert_eq!(binary("type = 'beam'\nbinary = 'bin/server'"), "bin/server");
    assert_eq!(binary("type = 'binary'"), "my-app-2");
    assert_eq!(binary(""), "my-app-2");
}

#[test]
fn debug_shows_no_value_of_the_environment() {
    let manifest = parse(
        "[app]\nname = 'a'\n[env]\nA = 'hunter2'\n[services.postgres]\nurl = 'postgres://a:hunter2@b/c'\n\
         [services.x-redis]\npassword = 'hunter2'",
    );
    assert!(!format!("{manifest:?}").contains("hunter2"));
}

#[test]
fn everything_of_a_server() {
    let config = server(
        r#"
data_dir = "/srv/vela"
socket = "/run/vela.sock"
[proxy]
bind = ["0.0.0.0", "::1"]
http_port = 80
https_port = 443
workers = 4
trusted_proxies = ["10.0.0.0/8", "2001:db8::7"]
client_ip_header = "CF-Connecting-IP"
metrics = "127.0.0.1:9180"
error_pages = "/etc/vela/errors"
[proxy.limits]
head = "32K"
headers = 50
target = 8000
body = "2G"
connections = 1000
connections_per_address = 20
idle_upstream_connections = 0
parked = 5000
[proxy.timeouts]
header = 10
keep_alive = "1m"
body = 11
write = 12
connect = "500ms"
response = 13
response_body = "2m"
linger = 15
linger_idle = "1500ms"
upstream_idle = 14
tunnel_linger = 0
parked = 15
stop = 16
stop_streams = "250ms"
[proxy.access_log]
path = "/var/log/vela/access.log"
max_size = "1M"
keep = 1
[apps]
isolate = false
first_port = 30000
last_port = 30099
[services.nats]
url = "https://mirror.example.com/nats-{version}-{arch}.tar.gz"
version = "2.10.29"
sha256 = { amd64 = "AB12345678901234567890123456789012345678901234567890123456789012" }
[services.postgres]
programs = "/opt/pg"
[tls]
acme_email = "ops@example.com"
directory = "https://localhost:14000/dir"
cert = "/etc/vela/cert.pem"
key = "/etc/vela/key.pem"
directory_ca = "/etc/vela/pebble.pem"
eab_kid = "kid-1"
eab_key = "/etc/vela/eab"
dns_hook = "/etc/vela/dns"
client_ca = "/etc/vela/ca.pem"
redirect = false
hsts = "30d"
[[tls.certificates]]
cert = "/etc/vela/shop.pem"
key = "/etc/vela/shop.key"
[backup]
schedule = "12h"
retain = 3
destination = "s3://bucket/some/prefix/"
[backup.include]
secrets = false
"#,
    );
    assert_eq!(config.data_dir, Some(PathBuf::from("/srv/vela")));
    assert_eq!(config.socket, Some(PathBuf::from("/run/vela.sock")));
    assert_eq!(
        config.proxy.bind,
        [[0, 0, 0, 0].into(), std::net::Ipv6Addr::LOCALHOST.into()] as [std::net::IpAddr; 2]
    );
    assert_eq!(
        (config.proxy.http_port, config.proxy.https_port),
        (Some(80), Some(443))
    );
    let proxy = &config.proxy;
    assert_eq!(proxy.workers.map(|workers| workers.get()), Some(4));
    let trusted: Vec<_> = proxy
        .trusted_proxies
        .iter()
        .map(|network| (network.address(), network.prefix()))
        .collect();
    let alone: std::net::Ipv6Addr = "2001:db8::7".parse().expect("an address");
    assert_eq!(trusted, [([10, 0, 0, 0].into(), 8), (alone.into(), 128)]);
    let header = proxy.client_ip_header.as_ref().expect("set");
    assert_eq!(header.as_str(), "cf-connecting-ip");
    assert_eq!(proxy.metrics, Some(([127, 0, 0, 1], 9180).into()));
    assert_eq!(proxy.error_pages, Some(PathBuf::from("/etc/vela/errors")));
    let limits = &proxy.limits;
    assert_eq!(
        (limits.head, limits.headers, limits.target),
        (Some(32 << 10), Some(50), Some(8000))
    );
    assert_eq!(
        (limits.body, limits.connections),
        (Some(2 << 30), Some(1000))
    );
    assert_eq!(
        (
            limits.connections_per_address,
            limits.idle_upstream_connections
        ),
        (Some(20), Some(0))
    );
    assert_eq!(limits.parked, Some(5000));
    let timeouts = &proxy.timeouts;
    let seconds = |timeout: Option<Duration>| timeout.map(|timeout| timeout.as_secs_f64());
    assert_eq!(seconds(timeouts.header), Some(10.0));
    assert_eq!(seconds(timeouts.keep_alive), Some(60.0));
    assert_eq!(seconds(timeouts.body), Some(11.0));
    assert_eq!(seconds(timeouts.write), Some(12.0));
    assert_eq!(seconds(timeouts.connect), Some(0.5));
    assert_eq!(seconds(timeouts.response), Some(13.0));
    assert_eq!(seconds(timeouts.response_body), Some(120.0));
    assert_eq!(seconds(timeouts.linger), Some(15.0));
    assert_eq!(seconds(timeouts.linger_idle), Some(1.5));
    assert_eq!(seconds(timeouts.upstream_idle), Some(14.0));
    assert_eq!(seconds(timeouts.tunnel_linger), Some(0.0));
    assert_eq!(seconds(timeouts.parked), Some(15.0));
    assert_eq!(seconds(timeouts.stop), Some(16.0));
    assert_eq!(seconds(timeouts.stop_streams), Some(0.25));
    let log = proxy.access_log.as_ref().expect("set");
    assert_eq!(log.path, Path::new("/var/log/vela/access.log"));
    assert_eq!((log.max_size, log.keep), (1 << 20, 1));
    assert_eq!(
        (config.apps.isolate, config.apps.ports()),
        (Some(false), 30_000..=30_099)
    );
    let nats = &config.services.nats;
    assert_eq!(
        nats.url.as_deref(),
        Some("https://mirror.example.com/nats-{version}-{arch}.tar.gz")
    );
    assert_eq!(nats.version.as_deref(), Some("2.10.29"));
    let sha256 = nats.sha256.as_ref().expect("set");
    assert_eq!(
        sha256.amd64.as_deref(),
        Some("ab12345678901234567890123456789012345678901234567890123456789012")
    );
    assert_eq!(sha256.arm64, None);
    assert_eq!(
        config.services.postgres.programs,
        Some(PathBuf::from("/opt/pg"))
    );
    let tls = config.tls.as_ref().expect("set");
    assert_eq!(tls.acme_email.as_deref(), Some("ops@example.com"));
    assert_eq!(
        tls.directory.as_deref(),
        Some("https://localhost:14000/dir")
    );
    assert_eq!(tls.client_ca, Some(PathBuf::from("/etc/vela/ca.pem")));
    let ca = PathBuf::from("/etc/vela/pebble.pem");
    assert_eq!(tls.directory_ca, Some(ca));
    assert_eq!(tls.eab_kid.as_deref(), Some("kid-1"));
    assert_eq!(tls.eab_key, Some(PathBuf::from("/etc/vela/eab")));
    assert_eq!(tls.dns_hook.as_deref(), Some("/etc/vela/dns"));
    let certificates = tls.certificates.iter();
    let certificates: Vec<_> = certificates
        .map(|pair| {
            (
                pair.cert.to_str().expect("ASCII"),
                pair.key.to_str().expect("ASCII"),
            )
        })
        .collect();
    assert_eq!(
        certificates,
        [
            ("/etc/vela/cert.pem", "/etc/vela/key.pem"),
            ("/etc/vela/shop.pem", "/etc/vela/shop.key")
        ]
    );
    assert_eq!(tls.hsts, Some(Duration::from_secs(30 * 24 * 3600)));
    assert!(!tls.redirect);
    let backup = config.backup.as_ref().expect("set");
    assert_eq!(
        backup.schedule,
        Some(Schedule::Every(Duration::from_secs(12 * 3600)))
    );
    assert_eq!(backup.retain, 3);
    let s3 = Destination::S3 {
        bucket: "bucket".into(),
        prefix: "some/prefix".into(),
    };
    assert_eq!(backup.destination, Some(s3));
    assert!(backup.include.app_data && !backup.include.secrets && backup.include.postgres);
    let keys: Vec<_> = config
        .not_yet_supported()
        .into_iter()
        .map(|u| u.key)
        .collect();
    assert_eq!(keys, ["backup"]);
}

#[test]
fn defaults_of_a_server() {
    let config = server("");
    assert_eq!(
        (config.data_dir.as_ref(), config.socket.as_ref()),
        (None, None)
    );
    assert_eq!((config.proxy.http_port, config.apps.isolate), (None, None));
    assert!(config.proxy.bind.is_empty() && config.tls.is_none() && config.backup.is_none());
    assert_eq!(config.proxy, ProxySection::default());
    assert_eq!(config.apps.ports(), 10_000..=20_000);
    assert_eq!(config.services, ServicesSection::default());
    assert_eq!(
        server("[proxy]\nbind = '127.0.0.1'\nhttp_port = 0")
            .proxy
            .http_port,
        Some(0)
    );
    let proxy = server(
        "[proxy]\ntrusted_proxies = '::1'\nmetrics = '[::1]:0'\n[proxy.access_log]\npath = '/log'",
    )
    .proxy;
    assert_eq!(proxy.trusted_proxies[0].to_string(), "::1/128");
    assert_eq!(
        proxy.metrics,
        Some((std::net::Ipv6Addr::LOCALHOST, 0).into())
    );
    let log = proxy.access_log.expect("set");
    assert_eq!((log.max_size, log.keep), (100 << 20, 5));
    let backup = server("[backup]\nschedule = 'daily'\ndestination = '/b'")
        .backup
        .expect("set");
    assert_eq!((backup.schedule, backup.retain), (Some(Schedule::Daily), 7));
    assert_eq!(
        backup.destination,
        Some(Destination::Directory("/b".into()))
    );
}
