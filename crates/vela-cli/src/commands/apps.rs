use super::status::apps_table;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::printable;

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let apps = context.server_client()?.apps().await?;
    if context.screen.is_json() {
        return context.screen.json(&apps);
    }
    if apps.is_empty() {
        context.screen.message("no app was deployed here yet");
        return Ok(());
    }
    for app in &apps {
        for warning in app.tls.iter().flat_map(|tls| &tls.warnings) {
            let warning = format!("{}: {warning}", app.name);
            context.screen.warning(&printable(&warning));
        }
    }
    context.screen.result(&apps_table(&apps))
}
