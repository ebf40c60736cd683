use vela_protocol::MaintenanceRequest;

use crate::args::Maintenance;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, args: Maintenance) -> Result<(), Failure> {
    let (app, request) = match args {
        Maintenance::On {
            app,
            message,
            allow,
        } => {
            let allow = allow.iter().map(ToString::to_string).collect();
            (app.app, Some(MaintenanceRequest { message, allow }))
        }
        Maintenance::Off(app) => (app.app, None),
    };
    let (app, client) = context.target(app)?;
    let status = client.maintain(app.as_str(), request.as_ref()).await?;
    if context.screen.is_json() {
        return context.screen.json(&status);
    }
    context.screen.message(&match status.maintenance {
        Some(_) => format!(
            "`{app}` is in maintenance; `vela maintenance off {app}` lets its users in again"
        ),
        None => format!("`{app}` is not in maintenance"),
    });
    Ok(())
}
