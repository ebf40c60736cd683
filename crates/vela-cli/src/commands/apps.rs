use super::status::apps_table;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let apps = context.server_client()?.apps().await?;
    if context.screen.is_json() {
        return context.screen.json(&apps);
    }
    if apps.is_empty() {
        context.screen.message("no app was deployed here yet");
        return Ok(());
    }
    context.screen.result(&apps_table(&apps))
}
