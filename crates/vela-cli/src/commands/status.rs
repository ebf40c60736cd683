use vela_protocol::{AppStatus, AppTls, MaintenanceStatus};

use crate::args::App;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{date, days, plural, printable, table, uptime};

/// One app; or all of them where nothing says which.
pub(crate) async fn run(context: &Context, args: App) -> Result<(), Failure> {
    if args.app.is_none() && context.manifest_if_any()?.is_none() {
        return super::apps::run(context).await;
    }
    let (app, client) = context.target(args.app)?;
    let status = client.status(app.as_str()).await?;
    match context.screen.is_json() {
        true => context.screen.json(&[status]),
        false => context.screen.result(&details(&status)),
    }
}

/// A line an app.
pub(crate) fn apps_table(apps: &[AppStatus]) -> String {
    table(
        [
            "name", "domain", "release", "state", "health", "pid", "port", "uptime", "cert",
        ],
        apps.iter().map(|app| {
            [
                app.name.clone(),
                app.domain.clone().unwrap_or_default(),
                app.release.clone().unwrap_or_default(),
                state(app),
                app.health.clone().unwrap_or_default(),
                app.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                app.port.map(|port| port.to_string()).unwrap_or_default(),
                app.uptime_seconds.map(uptime).unwrap_or_default(),
                app.tls.as_ref().map(certificate).unwrap_or_default(),
            ]
        }),
    )
}

/// How long the certificate is valid.
fn certificate(tls: &AppTls) -> String {
    tls.days_left.map_or_else(|| "none".to_owned(), days)
}

fn state(app: &AppStatus) -> String {
    let maintenance = app.maintenance.as_ref();
    let maintenance = maintenance.map_or("", |_| ", in maintenance");
    format!("{}{maintenance}", app.state.as_str())
}

fn maintenance(of: &MaintenanceStatus) -> String {
    let message = of.message.as_ref();
    let message = message.map(|message| format!(": {message}"));
    let allow = match &of.allow[..] {
        [] => String::new(),
        allow => format!("; serves {}", allow.join(", ")),
    };
    let since = date(of.since);
    format!("since {since}{allow}{}", message.unwrap_or_default())
}

/// A line a fact.
fn details(app: &AppStatus) -> String {
    let hosts: Vec<&str> = app
        .domain
        .iter()
        .chain(&app.aliases)
        .map(String::as_str)
        .collect();
    let instances = app.instances.iter().map(|instance| {
        let port = instance.port.map(|port| format!(", port {port}"));
        let address = instance.address.as_ref();
        let place = address.map(|address| format!(", at {address}")).or(port);
        format!(
            "{} of {}: pid {}{}, since {}",
            instance.instance,
            instance.release,
            instance.pid,
            place.unwrap_or_default(),
            date(instance.since)
        )
    });
    let deploying = app.deploying.as_ref().map(|busy| {
        let step = busy
            .step
            .map(|step| format!(", at {step}"))
            .unwrap_or_default();
        format!(
            "{} by {} since {}{step}",
            busy.operation.as_str(),
            busy.by,
            date(busy.since)
        )
    });
    let restarts = match app.restarts {
        0 => None,
        count => Some(format!("{} after a crash", plural(count, "restart"))),
    };
    let warnings = app.tls.iter().flat_map(|tls| tls.warnings.iter().cloned());
    let facts = [
        ("app", Some(app.name.clone())),
        (
            "hosts",
            Some(hosts.join(", ")).filter(|hosts| !hosts.is_empty()),
        ),
        ("state", Some(state(app))),
        ("closed", app.maintenance.as_ref().map(maintenance)),
        ("health", app.health.clone()),
        ("release", app.release.clone()),
        ("strategy", app.strategy.clone()),
        ("uptime", app.uptime_seconds.map(uptime)),
        ("restarts", restarts),
        (
            "cert",
            app.tls.as_ref().map(|tls| match tls.not_after {
                Some(until) => format!("{}, until {}", certificate(tls), date(until)),
                None => certificate(tls),
            }),
        ),
        ("busy", deploying),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain(instances.map(|text| ("instance", text)))
        .chain(warnings.map(|text| ("warning", text)))
        .map(|(name, value)| format!("{name:<9} {}", printable(&value)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use vela_protocol::{AppState, InProgress, InstanceStatus, Operation, Step, Who};

    use super::*;

    fn app() -> AppStatus {
        AppStatus {
            name: "blog".into(),
            domain: Some("blog.example".into()),
            aliases: vec!["www.blog.example".into()],
            release: Some("20260305-143022".into()),
            strategy: Some("blue-green".into()),
            state: AppState::Running,
            pid: Some(71),
            port: Some(10_023),
            uptime_seconds: Some(302),
            health: Some("healthy".into()),
            restarts: 0,
            maintenance: None,
            instances: vec![InstanceStatus {
                instance: "k3v9".into(),
                release: "20260305-143022".into(),
                pid: 71,
                port: Some(10_023),
                address: Some("[::1]:10023".into()),
                since: "2026-03-05T14:30:22Z".parse().unwrap(),
            }],
            tls: None,
            deploying: None,
        }
    }

    #[test]
    fn the_table_has_a_line_an_app() {
        assert_eq!(
            apps_table(&[app()]),
            "NAME  DOMAIN        RELEASE          STATE    HEALTH   PID  PORT   UPTIME  CERT\n\
             blog  blog.example  20260305-143022  running  healthy  71   10023  5m 2s   -"
        );
    }

    #[test]
    fn the_certificate_shows() {
        let mut app = app();
        app.tls = Some(AppTls::default());
        assert!(apps_table(&[app.clone()]).ends_with("5m 2s   none"));
        app.tls = Some(AppTls {
            not_after: Some("2026-12-01T00:00:00Z".parse().unwrap()),
            days_left: Some(1),
            warnings: vec!["the certificate expires in 1 day".into()],
        });
        assert!(apps_table(&[app.clone()]).ends_with("5m 2s   1 day"));
        let text = details(&app);
        for line in [
            "cert      1 day, until 2026-12-01 00:00:00Z",
            "warning   the certificate expires in 1 day",
        ] {
            assert!(text.lines().any(|one| one == line), "{text}");
        }
    }

    #[test]
    fn maintenance_is_told_with_its_begin_and_its_exceptions() {
        let mut app = app();
        app.maintenance = Some(MaintenanceStatus {
            since: "2026-03-05T15:00:00Z".parse().unwrap(),
            message: Some("back at 5".into()),
            allow: vec!["10.0.0.0/8".into(), "::1/128".into()],
        });
        let text = details(&app);
        let told = "closed    since 2026-03-05 15:00:00Z; serves 10.0.0.0/8, ::1/128: back at 5\n";
        assert!(text.contains(told), "{text}");
        assert!(
            text.contains("state     running, in maintenance\n"),
            "{text}"
        );
        assert!(apps_table(&[app]).contains("running, in maintenance"));
    }

    #[test]
    fn the_details_say_who_deploys_and_since_when() {
        let mut app = app();
        app.deploying = Some(InProgress {
            deploy: uuid::Uuid::nil(),
            operation: Operation::Deploy,
            by: Who {
                uid: Some(0),
                user: "root".into(),
                client: Some("alice@laptop".into()),
            },
            since: "2026-03-05T15:00:00Z".parse().unwrap(),
            step: Some(Step::Drain),
        });
        let text = details(&app);
        assert!(
            text.contains(
                "busy      deploy by root (alice@laptop) since 2026-03-05 15:00:00Z, at drain"
            ),
            "{text}"
        );
        assert!(
            text.contains("hosts     blog.example, www.blog.example"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "instance  k3v9 of 20260305-143022: pid 71, at [::1]:10023, since 2026-03-05 14:30:22Z"
            ),
            "{text}"
        );
        // As from a daemon of before.
        app.instances[0].address = None;
        assert!(details(&app).contains("pid 71, port 10023, since"));
    }
}
