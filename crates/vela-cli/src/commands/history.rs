use std::time::Duration;

use vela_protocol::HistoryEntry;

use super::follow::{Following, follow};
use crate::args::History;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::render::{date, table, took};

pub(crate) async fn run(context: &Context, args: History) -> Result<(), Failure> {
    let (app, client) = context.target(args.app.app)?;
    if args.follow {
        let mut interrupts = Interrupts::listen()?;
        let Some(busy) = client.status(app.as_str()).await?.deploying else {
            context
                .screen
                .message(&format!("nothing is being done to `{app}`"));
            return Ok(());
        };
        let events = client.attach(busy.deploy, 0);
        let following = Following {
            client: &client,
            app: &app,
            operation: busy.operation,
            deploy: busy.deploy,
            // It is someone else's: Ctrl-C only looks away.
            own: false,
        };
        return follow(
            context,
            &following,
            events,
            context.screen.narrator(),
            &mut interrupts,
        )
        .await;
    }
    let history = client.history(app.as_str()).await?;
    if context.screen.is_json() {
        return context.screen.json(&history);
    }
    context.screen.result(&history_table(&history))
}

fn history_table(history: &[HistoryEntry]) -> String {
    table(
        [
            "date",
            "operation",
            "release",
            "outcome",
            "duration",
            "user",
            "why",
        ],
        history.iter().map(|entry| {
            let why = entry.error.as_ref().map(|error| match entry.failed_step {
                Some(step) => format!("{step}: {error}"),
                None => error.to_string(),
            });
            [
                date(entry.started),
                entry.operation.as_str().to_owned(),
                entry.release.clone(),
                entry.outcome.as_str().to_owned(),
                entry
                    .duration_ms
                    .map(|ms| took(Duration::from_millis(ms)))
                    .unwrap_or_default(),
                entry.by.to_string(),
                why.unwrap_or_default(),
            ]
        }),
    )
}
