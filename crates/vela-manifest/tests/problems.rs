//! What is wrong with a file is said with its place, a caret and a hint, and all of it at once.

use insta::assert_snapshot;
use miette::{GraphicalReportHandler, GraphicalTheme};
use vela_manifest::{Manifest, ManifestError, ServerConfig};

/// A manifest's errors as plain text.
fn report(text: &str) -> String {
    Manifest::parse("Vela.toml", text).expect_err(text).report()
}

/// Those of a manifest that is fine but for these lines of `[deploy]`.
fn deploy(lines: &str) -> String {
    report(&format!("[app]\nname = 'a'\n[deploy]\n{lines}"))
}

fn server(text: &str) -> String {
    ServerConfig::parse("server.toml", text)
        .expect_err(text)
        .report()
}

/// One line for each problem: where, what, and the hint.
fn brief(error: &ManifestError) -> String {
    let line = |p: &vela_manifest::Problem| {
        format!(
            "{}:{} {} ({})",
            p.line,
            p.column,
            p.message,
            p.hint.as_deref().unwrap_or("-")
        )
    };
    error
        .problems()
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

fn brief_deploy(lines: &str) -> String {
    let text = format!("[app]\nname = 'a'\n[deploy]\n{lines}");
    brief(&Manifest::parse("Vela.toml", &text).expect_err(lines))
}

fn brief_manifest(lines: &str) -> String {
    brief(&Manifest::parse("Vela.toml", &format!("[app]\nname = 'a'\n{lines}")).expect_err(lines))
}

fn brief_server(text: &str) -> String {
    brief(&ServerConfig::parse("server.toml", text).expect_err(text))
}

#[test]
fn an_unknown_key() {
    assert_snapshot!(deploy("drian = 5"), @"
    Vela.toml:4:1: unknown key `drian` in [deploy]
       |
     4 | drian = 5
       | ^^^^^
       = hint: did you mean `drain`?
    ");
    assert_snapshot!(report("[app]\nname = 'a'\n[sevices.nats]"), @"
    Vela.toml:3:2: unknown key `sevices`
       |
     3 | [sevices.nats]
       |  ^^^^^^^
       = hint: did you mean `services`?
    ");
    assert_snapshot!(deploy("replicas = 5"), @"
    Vela.toml:4:1: unknown key `replicas` in [deploy]
       |
     4 | replicas = 5
       | ^^^^^^^^
    ");
}

#[test]
fn a_key_in_the_wrong_table() {
    assert_snapshot!(deploy("domain = 'a.b'"), @"
    Vela.toml:4:1: unknown key `domain` in [deploy]
       |
     4 | domain = 'a.b'
       | ^^^^^^
       = hint: `domain` belongs in [app]
    ");
    assert_snapshot!(report("name = 'a'"), @r#"
    Vela.toml:1:1: `name` is missing in [app]
       |
     1 | name = 'a'
       | ^
       = hint: add `name = "my-app"` under `[app]`

    Vela.toml:1:1: unknown key `name`
       |
     1 | name = 'a'
       | ^^^^
       = hint: `name` belongs in [app]
    "#);
    assert_snapshot!(brief_manifest("[deploy.env]\nA = 'b'"), @"3:9 unknown key `env` in [deploy] (`env` belongs at the top level)");
}

#[test]
fn everything_at_once() {
    let text = r#"
[app]
name = "../x"
domain = "https://my-app.com/"
aliases = "www.my-app.com"

[deploy]
strategy = "bluegreen"
instances = 0
drain = "5 seconds"
binary = "../bin/sh"

[env]
DATABASE = "${datadir}/my-app.db"
PORT = 80

[services.postgrs]
"#;
    assert_snapshot!(report(text), @r#"
    Vela.toml:3:8: `../x` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not '.'
       |
     3 | name = "../x"
       |        ^^^^^^

    Vela.toml:4:10: `https://my-app.com/` is not a host name: ':' is not allowed
       |
     4 | domain = "https://my-app.com/"
       |          ^^^^^^^^^^^^^^^^^^^^^
       = hint: did you mean `my-app.com`?

    Vela.toml:5:11: expected an array, found a string
       |
     5 | aliases = "www.my-app.com"
       |           ^^^^^^^^^^^^^^^^
       = hint: did you mean ["www.my-app.com"]?

    Vela.toml:8:12: unknown strategy `bluegreen`
       |
     8 | strategy = "bluegreen"
       |            ^^^^^^^^^^^
       = hint: did you mean `blue-green`?

    Vela.toml:9:13: expected a whole number from 1 to 1000
       |
     9 | instances = 0
       |             ^

    Vela.toml:10:9: `5 seconds` is not a duration
        |
     10 | drain = "5 seconds"
        |         ^^^^^^^^^^^
        = hint: seconds, or units of d, h, m, s and ms, as in "1m30s"

    Vela.toml:11:10: `../bin/sh` is not a path inside the release: `..` could leave it
        |
     11 | binary = "../bin/sh"
        |          ^^^^^^^^^^^

    Vela.toml:14:13: unknown variable `datadir`
        |
     14 | DATABASE = "${datadir}/my-app.db"
        |             ^^^^^^^^^^
        = hint: did you mean `${data_dir}`?

    Vela.toml:15:1: `PORT` is set by vela itself
        |
     15 | PORT = 80
        | ^^^^

    Vela.toml:17:11: unknown key `postgrs` in [services]
        |
     17 | [services.postgrs]
        |           ^^^^^^^
        = hint: did you mean `postgres`?
    "#);
    let error = Manifest::parse("Vela.toml", text).expect_err("all of it is wrong");
    assert_snapshot!(error.to_string(), @"Vela.toml:3:8: `../x` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not '.' (and 9 more problems)");
    assert_eq!(error.hint(), None);
}

#[test]
fn names() {
    let app = |text: &str| brief(&Manifest::parse("Vela.toml", text).expect_err(text));
    assert_snapshot!(app(""), @r#"1:1 `name` is missing in [app] (add `name = "my-app"` under `[app]`)"#);
    assert_snapshot!(app("[app]\ndomain = 'a.b'"), @r#"1:2 `name` is missing in [app] (add `name = "my-app"` under `[app]`)"#);
    assert_snapshot!(app("app = 'my-app'"), @"1:7 expected a table, found a string (-)");
    assert_snapshot!(app("[app]\nname = 5"), @r#"2:8 expected a string, found an integer (did you mean "5"?)"#);
    assert_snapshot!(app("[app]\nname = 'My_App'"), @"2:8 `My_App` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not 'M' (did you mean `my-app`?)");
    assert_snapshot!(app("[app]\nname = ''"), @"2:8 `` cannot be an app's name: it is empty (-)");
    assert_snapshot!(app("[app]\nname = '../x'"), @"2:8 `../x` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not '.' (-)");
    assert_snapshot!(brief_manifest("domain = 'a.b:80'"), @"3:10 `a.b:80` is not a host name: ':' is not allowed (did you mean `a.b`?)");
    assert_snapshot!(brief_manifest("aliases = ['a.b']"), @"3:11 `aliases` without `domain` (make the first of them the `domain`)");
    assert_snapshot!(brief_manifest("domain = 'a.b'\naliases = ['c.d', 'A.B', 5, 'c.d']"), @r#"
    4:19 `a.b` is listed twice (-)
    4:26 expected a string, found an integer (did you mean "5"?)
    4:29 `c.d` is listed twice (-)
    "#);
    assert_snapshot!(brief_manifest("listen = 'localhost'"), @"3:10 unknown listen `localhost` (one of `127.0.0.1`, `::1`, `unix`)");
    assert_snapshot!(brief_deploy("args = ['${socket}']"), @r#"4:9 `${socket}` without `listen` of a Unix socket (set listen = "unix" in [app])"#);
    assert_snapshot!(brief_manifest("[env]\nAT = '${socket}'\n[build.env]\nAT = '${socket}'"), @r#"
    4:6 `${socket}` without `listen` of a Unix socket (set listen = "unix" in [app])
    6:6 a build has no socket (-)
    "#);
    assert_snapshot!(brief_manifest("user = '-rf'"), @"3:8 not the name of a system user (a-z, 0-9, `_` and `-`, starting with a letter, at most 32)");
}

#[test]
fn values_of_deploy() {
    assert_snapshot!(brief_deploy("server = ''"), @"4:10 not the address of a server (`user@host`, an alias of ~/.ssh/config, `ssh://user@host:port` or `local`)");
    assert_snapshot!(brief_deploy("server = '-oProxyCommand=x'"), @"4:10 not the address of a server (`user@host`, an alias of ~/.ssh/config, `ssh://user@host:port` or `local`)");
    assert_snapshot!(brief_deploy("type = 'beem'"), @"4:8 unknown type `beem` (did you mean `beam`?)");
    assert_snapshot!(brief_deploy("type = 'docker'"), @"4:8 unknown type `docker` (one of `binary`, `beam`)");
    assert_snapshot!(brief_deploy("binary = '/bin/sh'"), @"4:10 `/bin/sh` is not a path inside the release: it starts with `/` (-)");
    assert_snapshot!(brief_deploy("binary = 'bin/'"), @"4:10 `bin/` is not a path inside the release: it names a directory (-)");
    assert_snapshot!(brief_deploy("args = '-v'"), @"4:8 expected an array, found a string (did you mean ['-v']?)");
    assert_snapshot!(brief_deploy("args = ['a', 5, '${prot}', '${']"), @r#"
    4:14 expected a string, found an integer (did you mean "5"?)
    4:18 unknown variable `prot` (did you mean `${port}`?)
    4:29 `${` is never closed (write `$$` for a plain `$`)
    "#);
    assert_snapshot!(brief_deploy("drain = '5'"), @r#"4:9 `5` is not a duration (did you mean "5s"?)"#);
    assert_snapshot!(brief_deploy("drain = -1"), @"4:9 expected a whole number from 0 to 31536000 (-)");
    assert_snapshot!(brief_deploy("drain = 0.5"), @r#"4:9 expected seconds, or a duration such as "1m30s", found a float (-)"#);
    assert_snapshot!(brief_deploy("drain = '400d'"), @"4:9 `400d` is longer than a year (-)");
    assert_snapshot!(brief_deploy("stop_signal = 'sigterm'"), @"4:15 unknown stop_signal `sigterm` (did you mean `TERM`?)");
    assert_snapshot!(brief_deploy("stop_signal = 'STOP'"), @"4:15 unknown stop_signal `STOP` (one of `TERM`, `HUP`, `INT`, `QUIT`, `KILL`, `USR1`, `USR2`)");
    assert_snapshot!(brief_deploy("instances = '2'"), @"4:13 expected a whole number from 1 to 1000, found a string (did you mean 2, without quotes?)");
    assert_snapshot!(brief_deploy("keep_releases = 0"), @"4:17 expected a whole number from 1 to 1000 (-)");
    assert_snapshot!(brief_deploy("pre_start = ' '"), @"4:13 not a command (leave the key out if there is none)");
    assert_snapshot!(brief_deploy("hook_timeout = 0"), @"4:16 must be longer than zero (-)");
    assert_snapshot!(brief_deploy("instances = 99999999999999999999"), @"4:13 expected a whole number from 1 to 1000 (-)");
}

#[test]
fn health() {
    assert_snapshot!(brief_deploy("health = 'health'"), @"4:10 a health path starts with `/` (did you mean `/health`?)");
    assert_snapshot!(brief_deploy("health = 'http://localhost/health'"), @"4:10 a health path starts with `/` (give the path only; the instance's own port is probed)");
    assert_snapshot!(brief_deploy("health = '/a b'"), @"4:10 a path has no spaces, `#` or non-ASCII characters (percent-encode them, as in `%20`)");
    assert_snapshot!(brief_deploy("health = true"), @r#"4:10 expected a path such as "/health", or a table, found a boolean (-)"#);
    assert_snapshot!(brief_deploy("health = { path = '/', tcp = true }"), @"4:24 `tcp` beside `path` (a health check is one of `path`, `tcp` and `exec`)");
    assert_snapshot!(brief_deploy("health = { tcp = true, port = 80, expect = 200 }"), @r#"
    4:24 `port` is for HTTP checks (give the `path` to request, as in path = "/health")
    4:35 `expect` is for HTTP checks (give the `path` to request, as in path = "/health")
    "#);
    assert_snapshot!(brief_deploy("health = { path = '/', port = 0, method = 'get', host = 'a b', expect = 999 }"), @r#"
    4:31 expected a whole number from 1 to 65535 (-)
    4:43 unknown method `get` (did you mean `GET`?)
    4:57 not a host (as in host = "my-app.com")
    4:73 expected a whole number from 100 to 599 (-)
    "#);
    assert_snapshot!(brief_deploy("health = { exec = '', tcp = 'yes', intervall = 5 }"), @"
    4:19 not a command (leave the key out if there is none)
    4:29 expected true or false, found a string (did you mean true, without quotes?)
    4:36 unknown key `intervall` in [deploy.health] (did you mean `interval`?)
    ");
    assert_snapshot!(brief_deploy("health = { retries = 0, interval = 0, timeout = '0s' }"), @"
    4:22 expected a whole number from 1 to 100000 (-)
    4:36 must be longer than zero (-)
    4:49 must be longer than zero (-)
    ");
}

#[test]
fn the_environment() {
    let text = "[env]\nPORT = 1\nVELA_X = 'a'\n'a b' = 'c'\n1A = 'b'\nF = 1.5\nT = 2026-01-01\nB = { c = 1 }\n\
        U = \"${prot}\"\nE = \"\\t${prot}\"\nS = '${secret:a-b}'\nN = \"\\u0000\"";
    assert_snapshot!(brief_manifest(text), @r#"
    4:1 `PORT` is set by vela itself (-)
    5:1 `VELA_X` is set by vela itself (-)
    6:1 `a b` cannot be an environment variable's name (letters, digits and `_`, not starting with a digit)
    7:1 `1A` cannot be an environment variable's name (letters, digits and `_`, not starting with a digit)
    8:5 expected a string, found a float (did you mean "1.5"?)
    9:5 expected a string, found a date (-)
    10:5 expected a string, found a table (-)
    11:6 unknown variable `prot` (did you mean `${port}`?)
    12:5 unknown variable `prot` (did you mean `${port}`?)
    13:6 `a-b` cannot be a secret's name (a secret is named like an environment variable: `${secret:MY_KEY}`)
    14:5 a NUL character cannot be passed to a program (-)
    "#);
}

#[test]
fn resources_services_and_build() {
    assert_snapshot!(brief_manifest("[resources]\nmemory = 512\ncpu_weight = 0"), @r#"
    4:10 512 bytes is too little for any program (did you mean "512M"?)
    5:14 expected a whole number from 1 to 10000 (-)
    "#);
    assert_snapshot!(brief_manifest("[resources]\nmemory = '512MB'"), @r#"4:10 `512MB` is not a size (did you mean "512M"? Units are powers of 1024)"#);
    assert_snapshot!(brief_manifest("[resources]\nmemory = '99999999T'"), @"4:10 `99999999T` is too large (-)");
    assert_snapshot!(brief_manifest("[services.redis]"), @"3:11 unknown key `redis` in [services] (known here: `postgres`, `nats`)");
    assert_snapshot!(
        brief_manifest("[services.postgres]\nversion = 'new'\ndatabases = ['a;b', 'a-b', 'a_b']\nurl = 'mysql://x'"),
        @r#"
    4:11 not a version (numbers and dots, as in "17" or "2.10")
    5:13 two databases would share DATABASE_URL_A_B (-)
    5:14 `a;b` cannot be a database's name (letters, digits, `_` and `-`, starting with a letter, at most 63)
    6:7 not the URL of a Postgres database (as in `postgres://user:${secret:DB_PASSWORD}@host/database`, or `${secret:DATABASE_URL}`)
    "#
    );
    assert_snapshot!(brief_manifest("[services]\nnats = true"), @"4:8 expected a table, found a boolean (-)");
    assert_snapshot!(
        brief_manifest("[services.nats]\njetstream = 'on'\nsubjects = ['a.*.b.>', '>']"),
        @r#"
    4:13 expected true, false or a table of limits, found a string (-)
    5:24 `>` is not a subject of an app (names of letters, digits, `_` and `-`, joined by dots, as in "orders.created"; after the first also `*`, and `>` as the last)
    "#
    );
    assert_snapshot!(brief_manifest("[services.nats.jetstream]\nstorage = 0\nmemory = '1GB'\nmax = 1"), @r#"
    4:11 must be more than zero (-)
    5:10 `1GB` is not a size (did you mean "1G"? Units are powers of 1024)
    6:1 unknown key `max` in [services.nats.jetstream] (known here: `storage`, `memory`)
    "#);
    assert_snapshot!(
        brief_manifest("[services.x-Redis]\n[services.x-redis]\na = 1.5\nb = ['a,b']\nc = [['a']]\nd = {}"),
        @"
    3:11 `Redis` cannot be a kind of service (a-z, 0-9 and `-`, starting with a letter, at most 32)
    5:5 expected a string, a whole number, or true or false, found a float (-)
    "
    );
    assert_snapshot!(brief_manifest("[build]\nremote = true\noutput = '../x'\ntimeout = 0\n[build.env]\nP = '${port}'"), @"
    5:10 `../x` is not a path inside the source: `..` could leave it (-)
    6:11 must be longer than zero (-)
    8:5 a build has no port (-)
    ");
    assert_snapshot!(brief_manifest("[build]\noutput = 'a['"), @"4:10 `a[` is not a pattern: unclosed character class; missing ']' (-)");
    assert_snapshot!(brief_manifest("[build]\noutput = ['dist', '.', '/x', 1]"), @r#"
    4:19 `.` is the whole tree already (output = ".")
    4:24 `/x` is not a path inside the source: it starts with `/` (-)
    4:30 expected a string, found an integer (did you mean "1"?)
    "#);
    assert_snapshot!(brief_manifest("[build]\noutput = []"), @"4:10 a release of nothing (leave the key out for what the build makes)");
    assert_snapshot!(brief_manifest("[build]\noutput = true"), @"4:10 expected a path, a pattern, or an array of them, found a boolean (-)");
}

#[test]
fn the_proxy_of_an_app() {
    assert_snapshot!(report("[app]\nname = 'a'\ndomain = '*.com'\n[proxy]\nstrip_paht = true\npath = '/a/../b'"), @"
    Vela.toml:3:10: `*.com` is not a host name: a wildcard needs at least two parts after `*.`
       |
     3 | domain = '*.com'
       |          ^^^^^^^
       = hint: a wildcard is `*.` and at least two parts, as in `*.example.com`

    Vela.toml:5:1: unknown key `strip_paht` in [proxy]
       |
     5 | strip_paht = true
       | ^^^^^^^^^^
       = hint: did you mean `strip_path`?

    Vela.toml:6:8: `/a/../b` is not a path to route by: `.` and `..` are not allowed
       |
     6 | path = '/a/../b'
       |        ^^^^^^^^^
    ");
    assert_snapshot!(brief_manifest("domain = '*'\naliases = ['https://*.a.b/']"), @"
    3:10 `*` is not a host name: '*' is not allowed (a wildcard is `*.` and at least two parts, as in `*.example.com`)
    4:12 `https://*.a.b/` is not a host name: ':' is not allowed (did you mean `*.a.b`?)
    ");
    let paths = [
        "api",
        "//api",
        "/api/*",
        "/api?x",
        "/a%20b",
        "/a b",
        "/./a",
        "https://a.b/api",
    ];
    let paths = paths.map(|path| brief_manifest(&format!("[proxy]\npath = '{path}'")));
    assert_snapshot!(paths.join("\n"), @"
    4:8 `api` is not a path to route by: it does not start with `/` (did you mean `/api`?)
    4:8 `//api` is not a path to route by: it contains `//` (did you mean `/api`?)
    4:8 `/api/*` is not a path to route by: '*' is not allowed (did you mean `/api`?)
    4:8 `/api?x` is not a path to route by: '?' is not allowed (did you mean `/api`?)
    4:8 `/a%20b` is not a path to route by: nothing in it may be percent-encoded (-)
    4:8 `/a b` is not a path to route by: ' ' is not allowed (-)
    4:8 `/./a` is not a path to route by: `.` and `..` are not allowed (-)
    4:8 `https://a.b/api` is not a path to route by: it does not start with `/` (did you mean `/api`?)
    ");
    assert_snapshot!(brief_manifest("[proxy]\npath = true\nstrip_path = 'yes'\nmax_body = 0\nresponse_timeout = 0\nresponse_body_timeout = 0\nstream_drain = -1"), @r#"
    4:8 expected a string, found a boolean (did you mean "true"?)
    5:14 expected true or false, found a string (did you mean true, without quotes?)
    6:12 must be more than zero (leave the key out if this is to set no limit)
    7:20 must be longer than zero (-)
    8:25 must be longer than zero (-)
    9:16 expected a whole number from 0 to 31536000 (-)
    "#);
    assert_snapshot!(brief_manifest("[proxy]\nmax_body = '10MB'\nerror_pages = '../errors'\naccess_log = true"), @r#"
    4:12 `10MB` is not a size (did you mean "10M"? Units are powers of 1024)
    5:15 `../errors` is not a path inside the release: `..` could leave it (-)
    6:1 unknown key `access_log` in [proxy] (known here: `path`, `strip_path`, `redirect_aliases`, `max_body`, `response_timeout`, `response_body_timeout`, `stream_drain`, `error_pages`)
    "#);
    assert_snapshot!(brief_manifest("[proxy]\nerror_pages = '/'"), @"4:15 `/` is not a path inside the release: it starts with `/` (-)");
    assert_snapshot!(brief_manifest("[proxy]\nstrip_path = true\nredirect_aliases = true"), @r#"
    4:1 `strip_path` without `path` (say what to strip, as in path = "/api")
    5:1 `redirect_aliases` without `aliases` (list the hosts that redirect to `domain` as `aliases` in [app])
    "#);
    assert_snapshot!(brief_manifest("domain = '*.a.b'\naliases = ['a.b']\n[proxy]\nredirect_aliases = true"), @"6:1 `redirect_aliases` beside a `domain` that is a wildcard (make the host to redirect to the `domain`, and the wildcard one of the `aliases`)");
    // What is wrong with the hosts is not said twice.
    assert_snapshot!(brief_manifest("domain = 'a.b'\naliases = 'c.d'\n[proxy]\nredirect_aliases = true"), @"4:11 expected an array, found a string (did you mean ['c.d']?)");
    assert_snapshot!(brief_manifest("domain = 'a.b'\naliases = ['c d']\n[proxy]\nredirect_aliases = true"), @"4:12 `c d` is not a host name: ' ' is not allowed (-)");
}

#[test]
fn the_proxy_of_a_server() {
    assert_snapshot!(server("[proxy]\nworkrs = 2\n[proxy.limit]\n[proxy.limits]\nheadr = '1K'\nhead = 512"), @r#"
    server.toml:2:1: unknown key `workrs` in [proxy]
       |
     2 | workrs = 2
       | ^^^^^^
       = hint: did you mean `workers`?

    server.toml:3:8: unknown key `limit` in [proxy]
       |
     3 | [proxy.limit]
       |        ^^^^^
       = hint: did you mean `limits`?

    server.toml:5:1: unknown key `headr` in [proxy.limits]
       |
     5 | headr = '1K'
       | ^^^^^
       = hint: did you mean `head`?

    server.toml:6:8: expected a size from 1K to 16M
       |
     6 | head = 512
       |        ^^^
       = hint: did you mean "512K"?
    "#);
    assert_snapshot!(brief_server("[proxy]\nworkers = 0\ntrusted_proxies = ['10.1.0.0/8', 'lan', '10.0.0.0/64', '::ffff:10.0.0.0/104', 5]\nclient_ip_header = 'X-IP: '\nerror_pages = 'errors'"), @r#"
    2:11 expected a whole number from 1 to 1024 (-)
    3:20 `10.1.0.0/8` is not a range of addresses: its address is not the first of the range (did you mean `10.0.0.0/8`?)
    3:34 `lan` is not a range of addresses: it does not begin with an IP address (as in "10.0.0.0/8" or "2001:db8::/32")
    3:41 `10.0.0.0/64` is not a range of addresses: after the `/` comes a number from 0 to 32 (-)
    3:56 `::ffff:10.0.0.0/104` is not a range of addresses: it is a range of IPv4 in the form of IPv6 (did you mean `10.0.0.0/8`?)
    3:79 expected a string, found an integer (did you mean "5"?)
    4:20 `X-IP: ` is not the name of a header (did you mean `X-IP`?)
    5:15 expected an absolute path without `..` (as in "/var/vela")
    "#);
    assert_snapshot!(brief_server("[proxy]\nworkers = 1025\nclient_ip_header = 'X-IP'"), @"
    2:11 expected a whole number from 1 to 1024 (-)
    3:1 `client_ip_header` without `trusted_proxies` (anybody could send it: say whose word counts)
    ");
    assert_snapshot!(brief_server("[proxy]\ntrusted_proxies = []\nclient_ip_header = 'X-IP'"), @"3:1 `client_ip_header` without `trusted_proxies` (anybody could send it: say whose word counts)");
    assert_snapshot!(brief_server("[proxy]\ntrusted_proxies = 'x'\nclient_ip_header = 'X-IP'"), @r#"2:19 `x` is not a range of addresses: it does not begin with an IP address (as in "10.0.0.0/8" or "2001:db8::/32")"#);
    let metrics = [
        "9180",
        "'localhost:9180'",
        "'127.0.0.1'",
        "'0.0.0.0:9180'",
        "'[::]:80'",
        "true",
    ];
    let metrics = metrics.map(|address| brief_server(&format!("[proxy]\nmetrics = {address}")));
    assert_snapshot!(metrics.join("\n"), @r#"
    2:11 not an IP address with a port (as in "127.0.0.1:9180" or "[::1]:9180")
    2:11 not an IP address with a port (as in "127.0.0.1:9180" or "[::1]:9180")
    2:11 not an IP address with a port (as in "127.0.0.1:9180" or "[::1]:9180")
    2:11 not a loopback address (metrics are for this machine alone: did you mean "127.0.0.1:9180"?)
    2:11 not a loopback address (metrics are for this machine alone: did you mean "127.0.0.1:80"?)
    2:11 expected a string, found a boolean (did you mean "true"?)
    "#);
    assert_snapshot!(brief_server("[proxy.limits]\nhead = 64\nheaders = 0\ntarget = 255\nbody = 0\nconnections = 0\nconnections_per_address = 0\nidle_upstream_connections = -1\nparked = -1"), @r#"
    2:8 expected a size from 1K to 16M (did you mean "64K"?)
    3:11 expected a whole number from 1 to 1000 (-)
    4:10 expected a size from 256 to 16M (did you mean "255K"?)
    5:8 must be more than zero (leave the key out if this is to set no limit)
    6:15 expected a whole number from 1 to 10000000 (-)
    7:27 expected a whole number from 1 to 10000000 (-)
    8:29 expected a whole number from 0 to 10000000 (-)
    9:10 expected a whole number from 0 to 10000000 (-)
    "#);
    assert_snapshot!(brief_server("[proxy.limits]\nhead = '8K'\ntarget = '16K'\nheaders = 1001"), @"
    3:1 `target` is more than `head`, of which it is a part (-)
    4:11 expected a whole number from 1 to 1000 (-)
    ");
    assert_snapshot!(brief_server("[proxy.limits]\nhead = '1G'\ntarget = '1T'\nbody = -1\nidle_upstream = 1"), @"
    2:8 expected a size from 1K to 16M (-)
    3:10 expected a size from 256 to 16M (-)
    4:8 expected a whole number from 0 to 9223372036854775807 (-)
    5:1 unknown key `idle_upstream` in [proxy.limits] (known here: `head`, `headers`, `target`, `body`, `connections`, `connections_per_address`, `idle_upstream_connections`, `parked`)
    ");
    assert_snapshot!(brief_server("[proxy.timeouts]\nheader = 0\nkeep_alive = 0\nbody = 0\nwrite = 0\nconnect = 0\nresponse = 0\nresponse_body = 0\nlinger = 0\nlinger_idle = 0\nupstream_idle = 0\ntunnel_linger = '1'\nidle = 5\nparked = 0\nstop = -1\nstop_streams = '2'"), @r#"
    2:10 must be longer than zero (-)
    3:14 must be longer than zero (-)
    4:8 must be longer than zero (-)
    5:9 must be longer than zero (-)
    6:11 must be longer than zero (-)
    7:12 must be longer than zero (-)
    8:17 must be longer than zero (-)
    9:10 must be longer than zero (-)
    10:15 must be longer than zero (-)
    11:17 must be longer than zero (-)
    12:17 `1` is not a duration (did you mean "1s"?)
    13:1 unknown key `idle` in [proxy.timeouts] (-)
    14:10 must be longer than zero (-)
    15:8 expected a whole number from 0 to 31536000 (-)
    16:16 `2` is not a duration (did you mean "2s"?)
    "#);
    assert_snapshot!(brief_server("[proxy.access_log]\nmax_size = 100\nkeep = 0\npaths = '/x'"), @r#"
    1:8 `path` is missing in [proxy.access_log] (add `path = "/var/log/vela/access.log"` under `[proxy.access_log]`)
    2:12 expected a size of at least 1M (did you mean "100M"?)
    3:8 expected a whole number from 1 to 1000 (-)
    4:1 unknown key `paths` in [proxy.access_log] (did you mean `path`?)
    "#);
    assert_snapshot!(brief_server("[proxy.access_log]\npath = 'access.log'\nmax_size = '1023K'\nkeep = 1001"), @r#"
    2:8 expected an absolute path without `..` (as in "/var/vela")
    3:12 expected a size of at least 1M (-)
    4:8 expected a whole number from 1 to 1000 (-)
    "#);
    assert_snapshot!(brief_server("[proxy]\naccess_log = '/x'"), @"2:14 expected a table, found a string (-)");
    assert_snapshot!(brief_server("[proxy.access_log]\npath = '/var/log/'"), @"2:8 expected a file, not a directory (-)");
}

#[test]
fn syntax() {
    assert_snapshot!(deploy("server = root@1.2.3.4\nstrategy = blue-green\ndrain = 1m"), @r#"
    Vela.toml:4:10: a string must be quoted
       |
     4 | server = root@1.2.3.4
       |          ^^^^^^^^^^^^
       = hint: did you mean "root@1.2.3.4"?

    Vela.toml:5:12: a string must be quoted
       |
     5 | strategy = blue-green
       |            ^^^^^^^^^^
       = hint: did you mean "blue-green"?

    Vela.toml:6:9: a string must be quoted
       |
     6 | drain = 1m
       |         ^^
       = hint: did you mean "1m"?
    "#);
    assert_snapshot!(deploy("args = ['a', 'b'\ndrain = 5\n\n# a comment\ninstances = 1"), @"
    Vela.toml:5:1: missing comma between array elements
       |
     5 | drain = 5
       | ^
       = hint: or is a `]` missing before?
    ");
    assert_snapshot!(report("[app\nname = 'a'\n[deploy]\ndrian = 5"), @"
    Vela.toml:1:5: unclosed table, expected `]`
       |
     1 | [app
       |     ^

    Vela.toml:4:1: unknown key `drian` in [deploy]
       |
     4 | drian = 5
       | ^^^^^
       = hint: did you mean `drain`?
    ");
    assert_snapshot!(report("[app]\nname = 'a'\nname = 'b'\n[app]\n"), @"
    Vela.toml:3:1: `name` is given twice
       |
     3 | name = 'b'
       | ^^^^

    Vela.toml:4:2: `app` is given twice
       |
     4 | [app]
       |  ^^^
    ");
    assert_snapshot!(report("[app]\nname = \"a\n"), @r#"
    Vela.toml:2:10: a string is not closed
       |
     2 | name = "a
       |          ^
    "#);
    assert_snapshot!(report("[app]\nname = '''a\n[deploy]\n"), @"
    Vela.toml:4:1: a multi-line string is not closed
       |
     4 | 
       | ^
    ");
}

#[test]
fn a_servers_file() {
    assert_snapshot!(server("data_dri = '/x'"), @"
    server.toml:1:1: unknown key `data_dri`
       |
     1 | data_dri = '/x'
       | ^^^^^^^^
       = hint: did you mean `data_dir`?
    ");
    assert_snapshot!(brief_server("data_dir = 'var'\nsocket = '/a/../b'"), @r#"
    1:12 expected an absolute path without `..` (as in "/var/vela")
    2:10 expected an absolute path without `..` (as in "/var/vela")
    "#);
    assert_snapshot!(brief_server(&format!("socket = '/{}'", "s".repeat(107))), @"1:10 the path of a socket has at most 107 bytes, and this has 108 (-)");
    assert_snapshot!(brief_server("[proxy]\nbind = '0.0.0.0:80'\nhttp_port = 65536\n"), @r#"
    2:8 not an IP address (without a port, as in "0.0.0.0" or "::1")
    3:13 expected a whole number from 0 to 65535 (-)
    "#);
    assert_snapshot!(brief_server("[proxy]\nhttp_port = 80\nhttps_port = 80"), @"3:1 `https_port` is the same as `http_port` (-)");
    assert_snapshot!(brief_server("[apps]\nfirst_port = 30000\nisolated = true"), @"
    2:1 there is no port from 30000 to 20000 (-)
    3:1 unknown key `isolated` in [apps] (did you mean `isolate`?)
    ");
    assert_snapshot!(brief_server("[tls]\nacme_email = 'me'\nstaging = true\ndirectory = 'http://x'\ncert = '/c'"), @"
    2:14 not an e-mail address (-)
    3:1 `staging` beside `directory` (leave one of them out)
    4:13 expected a URL that starts with `https://` (-)
    5:1 `cert` without `key` (-)
    ");
    assert_snapshot!(brief_server("[tls]\nstaging = true\ndirectory_ca = '/ca'\neab_kid = 'x'\nhsts = 'long'\n[[tls.certificates]]\ncert = '/c'\nkeys = '/k'"), @r#"
    2:1 `staging` without `acme_email` (-)
    3:1 `directory_ca` without `directory` (-)
    4:1 `eab_kid` without `eab_key` (-)
    4:1 `eab_kid` without `acme_email` (-)
    5:8 `long` is not a duration (seconds, or units of d, h, m, s and ms, as in "1m30s")
    6:7 `key` is missing in [tls.certificates] (add `key = "/etc/ssl/shop.key"` under `[tls.certificates]`)
    8:1 unknown key `keys` in [tls.certificates] (did you mean `key`?)
    "#);
    assert_snapshot!(
        brief_server("[backup]\nschedule = 'dayly'\nretain = 0\ndestination = 's3://'\ninclude.app = true"),
        @r#"
    2:12 unknown schedule `dayly` (did you mean `daily`?)
    3:10 expected a whole number from 1 to 100000 (-)
    4:15 not an S3 location (as in "s3://bucket/prefix")
    5:9 unknown key `app` in [backup.include] (known here: `app_data`, `secrets`, `postgres`)
    "#
    );
    assert_snapshot!(
        brief_server("[services.nats]\nurl = 'ftp://x'\nversion = 'latest'\n[services.postgres]\nprograms = 'pg'"),
        @r#"
    2:7 expected a URL that starts with `https://` (-)
    3:1 `version` without `sha256` (-)
    3:11 not a version (numbers and dots, as in "17" or "2.10")
    5:12 expected an absolute path without `..` (as in "/var/vela")
    "#
    );
    assert_snapshot!(
        brief_server("[services.nats]\nurl = 'https://x/{os}'\nsha256 = { amd64 = 'abc', riscv = '' }"),
        @"
    2:7 an unknown variable in the URL (`{version}` and `{arch}` are replaced; nothing else is in braces)
    3:1 `sha256` without `version` (-)
    3:20 not a SHA-256 checksum (64 hexadecimal digits)
    3:27 unknown key `riscv` in [services.nats.sha256] (known here: `amd64`, `arm64`)
    "
    );
    assert_snapshot!(brief_server("backup.schedule = '5s'"), @"1:19 backups less than a minute apart (-)");
}

#[test]
fn nothing_of_a_file_reaches_the_terminal_as_control_sequence() {
    let shown =
        report("[app]\nname = 'a'\n\"\x1b[2J\" = 1\n'\u{202e}x' = 2\n\"\\u001b]0;x\\u0007\" = 3");
    assert!(
        shown
            .chars()
            .all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
        "{shown:?}"
    );
}

#[test]
fn in_colours_through_miette() {
    let text = "[app]\nname = \"My-App\"\n\n[deploy]\ndrian = 5\n";
    let error = Manifest::parse("Vela.toml", text).expect_err("two problems");
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::none())
        .render_report(&mut shown, &error)
        .expect("writes to a string");
    assert_snapshot!(shown, @r#"
      x Vela.toml:2:8: `My-App` cannot be an app's name: only a-z, 0-9 and `-` are allowed, not 'M' (and one more problem)
       ,-[Vela.toml:2:8]
     1 | [app]
     2 | name = "My-App"
       :        ^^^^^^^^
     3 | 
       `----
      help: did you mean `my-app`?

    Error: 
      x unknown key `drian` in [deploy]
       ,-[Vela.toml:5:1]
     4 | [deploy]
     5 | drian = 5
       : ^^^^^
       `----
      help: did you mean `drain`?
    "#);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("Vela.toml");
    let error = Manifest::load(&path).expect_err("there is none");
    assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    assert!(
        std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("No such file"))
    );
    assert!(error.problems().is_empty());

    std::fs::write(&path, b"[app]\nname = \"\xff\"\n").expect("written");
    let error = Manifest::load(&path).expect_err("not UTF-8");
    assert_eq!(
        (error.problems()[0].line, error.problems()[0].column),
        (2, 9)
    );
    assert!(
        error.report().contains("the file is not UTF-8 text"),
        "{}",
        error.report()
    );

    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("written");
    let error = Manifest::load(&path).expect_err("too large");
    assert!(matches!(error, ManifestError::TooLarge { .. }), "{error}");
    assert!(Manifest::parse("Vela.toml", &"#".repeat((1 << 20) + 1)).is_err());

    std::fs::write(&path, "[app]\nname = 'a'\n").expect("written");
    assert_eq!(Manifest::load(&path).expect("valid").app.name.as_str(), "a");
    assert!(ServerConfig::load(&dir.path().join("none")).is_err());
}
