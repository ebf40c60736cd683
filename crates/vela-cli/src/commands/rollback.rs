use uuid::Uuid;
use vela_protocol::{Operation, RollbackRequest};

use super::follow::{Following, follow};
use super::identity;
use crate::args::Rollback;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::Interrupts;

pub(crate) async fn run(context: &Context, args: Rollback) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let (app, client) = context.target(args.app.app)?;
    let request = RollbackRequest {
        deploy: Uuid::new_v4(),
        to: args.to,
        hooks: args.hooks,
        client: identity::client(),
    };
    let events = client.rollback(app.as_str(), &request);
    let following = Following {
        client: &client,
        app: &app,
        operation: Operation::Rollback,
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
