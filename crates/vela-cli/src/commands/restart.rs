use uuid::Uuid;
use vela_protocol::{Operation, RestartRequest};

use super::follow::{Following, follow};
use super::identity;
use crate::args::App;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;

pub(crate) async fn restart(context: &Context, args: App) -> Result<(), Failure> {
    run(context, args, false).await
}

/// A restart of an app that was stopped.
pub(crate) async fn start(context: &Context, args: App) -> Result<(), Failure> {
    run(context, args, true).await
}

async fn run(context: &Context, args: App, stopped: bool) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (app, client) = context.target(args.app)?;
    let request = RestartRequest {
        deploy: Uuid::new_v4(),
        client: identity::client(),
    };
    let events = async {
        match stopped {
            true => client.start(app.as_str(), &request).await,
            false => client.restart(app.as_str(), &request).await,
        }
    };
    let following = Following {
        client: &client,
        app: &app,
        operation: Operation::Restart,
        deploy: request.deploy,
        own: true,
    };
    follow(
        context,
        &following,
        events,
        context.screen.narrator(),
        &mut interrupts,
    )
    .await
}
