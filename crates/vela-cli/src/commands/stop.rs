use crate::args::App;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, args: App) -> Result<(), Failure> {
    let (app, client) = context.target(args.app)?;
    let status = client.stop(app.as_str()).await?;
    if context.screen.is_json() {
        return context.screen.json(&status);
    }
    context.screen.message(&format!(
        "`{app}` is {}; `vela start {app}` starts it again",
        status.state.as_str()
    ));
    Ok(())
}
