use std::sync::Arc;
use std::time::Duration;

use vela_manifest::{AccessLogSection, Cidr, ProxyLimits, ProxySection, ProxyTimeouts};
use vela_proxy::{
    AccessLog, ErrorPages, Limits, Network, ParkLimits, ProxyConfig, Rotation, Timeouts,
};

use crate::failure::Failure;

/// How the proxy behaves by `[proxy]` of server.toml; where that says nothing, by its own defaults.
pub(super) fn proxy_config(section: &ProxySection) -> Result<ProxyConfig, Failure> {
    let default = ProxyConfig::default();
    let network = |range: &Cidr| -> Network {
        let network = range.to_string().parse();
        network.expect("a range of addresses is a network")
    };
    let pages = section.error_pages.as_deref().map(|dir| {
        ErrorPages::load(dir).map(Arc::new).map_err(|error| {
            let failure =
                Failure::because("cannot use `error_pages` of [proxy] in server.toml", &error);
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })
    });
    Ok(ProxyConfig {
        timeouts: timeouts(&section.timeouts, default.timeouts),
        limits: limits(&section.limits, default.limits)?,
        trusted_proxies: section.trusted_proxies.iter().map(network).collect(),
        client_ip_header: section.client_ip_header.as_ref().map(|name| {
            let name = name.as_str().parse();
            name.expect("both take the names that RFC 9110 has")
        }),
        error_pages: pages.transpose()?,
        workers: section.workers.unwrap_or(default.workers),
        access_log: section.access_log.as_ref().map(access_log).transpose()?,
    })
}

/// How long requests may take to end when the daemon stops.
pub(super) fn stop_time(section: &ProxySection) -> Duration {
    section.timeouts.stop.unwrap_or(Duration::from_secs(10))
}

/// What may wait while an app has no instance.
pub(super) fn park_limits(section: &ProxySection) -> ParkLimits {
    let default = ParkLimits::default();
    ParkLimits {
        max_wait: section.timeouts.parked.unwrap_or(default.max_wait),
        max_requests: section.limits.parked.unwrap_or(default.max_requests),
    }
}

/// Opens the log: what is wrong with it is told before anything is served.
fn access_log(section: &AccessLogSection) -> Result<Arc<AccessLog>, Failure> {
    let rotation = Rotation {
        max_size: section.max_size,
        keep: usize::try_from(section.keep).unwrap_or(usize::MAX),
    };
    match AccessLog::open(&section.path, rotation) {
        Ok(log) => Ok(Arc::new(log)),
        Err(error) => {
            let failure = Failure::of(&error);
            Err(failure.with_hint(error.hint().unwrap_or_else(|| {
                "`path` in [proxy.access_log] of server.toml names the file".to_owned()
            })))
        }
    }
}

fn timeouts(section: &ProxyTimeouts, default: Timeouts) -> Timeouts {
    Timeouts {
        header_read: section.header.unwrap_or(default.header_read),
        keep_alive: section.keep_alive.unwrap_or(default.keep_alive),
        body_read: section.body.unwrap_or(default.body_read),
        write: section.write.unwrap_or(default.write),
        connect: section.connect.unwrap_or(default.connect),
        response: section.response.unwrap_or(default.response),
        response_body: section.response_body.unwrap_or(default.response_body),
        linger: section.linger.unwrap_or(default.linger),
        linger_idle: section.linger_idle.unwrap_or(default.linger_idle),
        upstream_idle: section.upstream_idle.unwrap_or(default.upstream_idle),
        tunnel_linger: section.tunnel_linger.unwrap_or(default.tunnel_linger),
        stop_streams: section.stop_streams.unwrap_or(default.stop_streams),
        ..default
    }
}

fn limits(section: &ProxyLimits, default: Limits) -> Result<Limits, Failure> {
    let head_bytes = section.head.unwrap_or(default.head_bytes);
    // Between two that are given the parser has looked.
    if section.target.is_some_and(|target| target > head_bytes) {
        let message = format!(
            "`target` in [proxy.limits] of server.toml is more than the {} KiB that a head may have",
            head_bytes >> 10
        );
        return Err(Failure::new(message).with_hint("give `head` too, and make it larger"));
    }
    Ok(Limits {
        head_bytes,
        headers: section.headers.unwrap_or(default.headers),
        target_bytes: section
            .target
            .unwrap_or(default.target_bytes)
            .min(head_bytes),
        body_bytes: section.body.unwrap_or(default.body_bytes),
        connections: section.connections.unwrap_or(default.connections),
        connections_per_address: section
            .connections_per_address
            .unwrap_or(default.connections_per_address),
        upstream_idle: section
            .idle_upstream_connections
            .unwrap_or(default.upstream_idle),
    })
}

#[cfg(test)]
mod tests {
    use vela_manifest::ServerConfig;

    use super::*;
    use crate::failure::Cause;

    fn read(text: &str) -> Result<ProxyConfig, Failure> {
        let config = ServerConfig::parse("server.toml", text)?;
        proxy_config(&config.proxy)
    }

    fn message(failure: Failure) -> String {
        match failure.cause {
            Cause::Report(report) => report.to_string(),
            Cause::Manifest(error) => error.report(),
            Cause::Silent => String::new(),
        }
    }

    #[test]
    fn what_is_not_said_is_the_proxy_s_default() {
        assert_eq!(read("").unwrap(), ProxyConfig::default());
        assert_eq!(
            read("[proxy]\nhttp_port = 1\n").unwrap(),
            ProxyConfig::default()
        );
    }

    #[test]
    fn the_defaults_that_are_documented_are_the_proxy_s() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.md");
        let document = std::fs::read_to_string(path).unwrap();
        for section in ["proxy", "proxy.limits", "proxy.timeouts"] {
            let (_, rows) = document
                .split_once(&format!("\n## `[{section}]`\n"))
                .unwrap();
            let rows = rows.split("\n## ").next().unwrap_or_default().lines();
            let defaults: Vec<_> = rows
                .filter_map(|row| {
                    let mut cells = row.split('|').map(str::trim).skip(1);
                    let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
                    // Others are told in words.
                    let default = cells.nth(1)?.strip_prefix('`')?.strip_suffix('`')?;
                    Some(format!("{key} = {default}\n"))
                })
                .collect();
            assert!(!defaults.is_empty(), "{section}");
            let text = format!("[{section}]\n{}", defaults.concat());
            assert_eq!(read(&text).unwrap(), ProxyConfig::default(), "{text}");
        }
    }

    #[test]
    fn every_key_reaches_the_proxy() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("404.html"), "nothing here").unwrap();
        let text = format!(
            "[proxy]\nworkers = 3\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n\
             client_ip_header = \"X-Client\"\nerror_pages = \"{}\"\n\
             [proxy.limits]\nhead = \"32K\"\nheaders = 50\ntarget = \"8K\"\nbody = \"1G\"\n\
             connections = 1000\nconnections_per_address = 20\nidle_upstream_connections = 7\n\
             [proxy.timeouts]\nheader = \"1s\"\nkeep_alive = \"2s\"\nbody = \"3s\"\nwrite = \"4s\"\n\
             connect = \"5s\"\nresponse = \"6s\"\nupstream_idle = \"7s\"\ntunnel_linger = \"8s\"\n\
             linger = \"9s\"\nlinger_idle = \"10s\"\nstop_streams = \"11s\"\n\
             response_body = \"12s\"\n",
            dir.path().display()
        );
        let seconds = Duration::from_secs;
        assert_eq!(
            read(&text).unwrap(),
            ProxyConfig {
                timeouts: Timeouts {
                    header_read: seconds(1),
                    keep_alive: seconds(2),
                    body_read: seconds(3),
                    write: seconds(4),
                    connect: seconds(5),
                    response: seconds(6),
                    response_body: seconds(12),
                    upstream_idle: seconds(7),
                    tunnel_linger: seconds(8),
                    linger: seconds(9),
                    linger_idle: seconds(10),
                    stop_streams: seconds(11),
                    ..Timeouts::default()
                },
                limits: Limits {
                    head_bytes: 32 << 10,
                    headers: 50,
                    target_bytes: 8 << 10,
                    body_bytes: 1 << 30,
                    connections: 1000,
                    connections_per_address: 20,
                    upstream_idle: 7,
                },
                trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
                client_ip_header: Some("x-client".parse().unwrap()),
                error_pages: Some(Arc::new(ErrorPages::load(dir.path()).unwrap())),
                workers: 3.try_into().unwrap(),
                access_log: None,
            }
        );
    }

    #[test]
    fn what_the_daemon_itself_needs_is_beside_it() {
        let read = |text| {
            let section = ServerConfig::parse("server.toml", text).unwrap().proxy;
            (stop_time(&section), park_limits(&section))
        };
        let seconds = Duration::from_secs;
        assert_eq!(read(""), (seconds(10), ParkLimits::default()));
        let text = "[proxy.limits]\nparked = 5\n[proxy.timeouts]\nparked = \"6s\"\nstop = \"7s\"\n";
        let parking = ParkLimits {
            max_wait: seconds(6),
            max_requests: 5,
        };
        assert_eq!(read(text), (seconds(7), parking));
    }

    #[test]
    fn an_access_log_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/access.log");
        let text = |path: &std::path::Path| {
            format!(
                "[proxy.access_log]\npath = \"{}\"\nkeep = 1\n",
                path.display()
            )
        };
        assert!(read(&text(&path)).unwrap().access_log.is_some());
        assert!(path.exists());
        let refused = message(read(&text(dir.path())).unwrap_err());
        assert!(
            refused.contains(&*dir.path().to_string_lossy()),
            "{refused}"
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, told) in [
            ("[proxy]\nerror_pages = \"/nonexistent\"\n", "/nonexistent"),
            ("[proxy.limits]\ntarget = \"128K\"\n", "64 KiB"),
            ("[proxy]\ntrusted_proxies = \"10.0.0.1/8\"\n", "10.0.0.0/8"),
        ] {
            let refused = message(read(text).unwrap_err());
            assert!(refused.contains(told), "{refused}");
        }
        // A smaller head has room for a smaller target only.
        let limits = read("[proxy.limits]\nhead = \"4K\"\n").unwrap().limits;
        assert_eq!(limits.target_bytes, 4 << 10);
    }
}
