use vela_protocol::{ServiceApp, ServiceStatus};

use crate::args::Services;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::table;

mod console;
mod mask;
pub(crate) mod nats;
mod remote;

pub(crate) async fn run(context: &Context, args: Services) -> Result<(), Failure> {
    match args {
        Services::List => list(context).await,
        Services::Show { app, reveal } => {
            let (app, client) = context.target(app.app)?;
            let mut credentials = client.credentials(app.as_str()).await?;
            if !reveal {
                mask::mask(&mut credentials);
            }
            if context.screen.is_json() {
                return context.screen.json(&credentials.kinds);
            }
            if credentials.kinds.is_empty() {
                context.screen.message(&format!(
                    "the current release of `{app}` asks for no services"
                ));
                return Ok(());
            }
            let rows = credentials.kinds.into_iter().flat_map(|(kind, variables)| {
                variables
                    .into_iter()
                    .map(move |(name, value)| [kind.clone(), name, value])
            });
            context
                .screen
                .result(&table(["kind", "variable", "value"], rows))
        }
        Services::Logs(args) => {
            let client = context.server_client()?;
            let lines = client.service_logs(&args.service, args.lines, args.follow);
            super::logs::show(context, lines.await?).await
        }
        Services::Console(args) => console::run(context, args).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let services = context.server_client()?.services().await?;
    if context.screen.is_json() {
        return context.screen.json(&services);
    }
    if services.is_empty() {
        context.screen.message("no server runs for any app");
        return Ok(());
    }
    context.screen.result(&services_table(&services))
}

fn services_table(services: &[ServiceStatus]) -> String {
    table(
        [
            "server", "kind", "version", "pid", "restarts", "address", "apps",
        ],
        services.iter().map(|service| {
            let apps: Vec<_> = service.apps.iter().map(app).collect();
            [
                service.server.clone(),
                service.kind.clone(),
                service.version.clone().unwrap_or_default(),
                service.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                service.restarts.to_string(),
                service.address.clone(),
                apps.join(", "),
            ]
        }),
    )
}

/// An app and what it has there; of a removed one its data are left.
fn app(app: &ServiceApp) -> String {
    let mut text = app.app.clone();
    if !app.holds.is_empty() {
        text.push_str(&format!(" ({})", app.holds.join(" ")));
    }
    if !app.active {
        text.push_str(" [removed]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_line() {
        let has = |app: &str, holds: &[&str], active| ServiceApp {
            app: app.into(),
            holds: holds.iter().map(|one| (*one).to_owned()).collect(),
            active,
        };
        let service = ServiceStatus {
            kind: "postgres".into(),
            server: "postgres-15".into(),
            version: Some("15.14".into()),
            pid: None,
            restarts: 2,
            address: "127.0.0.1:20001".into(),
            apps: vec![
                has("shop", &["shop", "audit"], true),
                has("old", &[], false),
            ],
        };
        assert_eq!(
            services_table(&[service]),
            "SERVER       KIND      VERSION  PID  RESTARTS  ADDRESS          APPS\n\
             postgres-15  postgres  15.14    -    2         127.0.0.1:20001  shop (shop audit), old [removed]"
        );
    }
}
