use crate::args::App;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, args: App) -> Result<(), Failure> {
    let (app, client) = context.target(args.app)?;
    client.cancel(app.as_str(), None).await?;
    context.screen.message(&format!(
        "the operation of `{app}` is being undone; `vela history {app}` shows how it ended"
    ));
    Ok(())
}
