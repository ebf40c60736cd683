use std::io::IsTerminal;

use dialoguer::Confirm;

use crate::args::Remove;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, args: Remove) -> Result<(), Failure> {
    let (app, client) = context.target(args.app.app)?;
    let what = match args.purge {
        true => "with its data, that in its services included, its secrets and history",
        false => "but keep its data, also that in its services",
    };
    if !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let sure = Confirm::new()
            .with_prompt(format!("Remove `{app}` {what}?"))
            .default(false)
            .interact()
            .map_err(|error| Failure::because("cannot ask", &error))?;
        if !sure {
            return Err(Failure::new("not confirmed").with_state("nothing was changed"));
        }
    }
    client.remove(app.as_str(), args.purge).await?;
    context.screen.message(&match args.purge {
        true => format!("`{app}` is removed with all it had"),
        false => format!("`{app}` is removed; its data stays on the server"),
    });
    Ok(())
}
