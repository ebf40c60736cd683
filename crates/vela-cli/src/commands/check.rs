use serde_json::json;
use vela_manifest::Manifest;

use crate::context::Context;
use crate::failure::{Cause, Failure};
use crate::render::{plural, problems};

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let source = match context.manifest() {
        Ok(source) => source,
        Err(failure) => {
            if let (true, Cause::Manifest(error)) = (context.screen.is_json(), &failure.cause) {
                let path = context.manifest_path();
                context.screen.json(
                    &json!({ "manifest": path, "valid": false, "problems": problems(error) }),
                )?;
            }
            return Err(failure);
        }
    };
    let missing = source.manifest.not_yet_deployable();
    if context.screen.is_json() {
        let missing: Vec<_> = missing
            .iter()
            .map(|key| json!({ "key": key.key, "line": key.line, "why": key.why }))
            .collect();
        return context.screen.json(&json!({
            "manifest": source.path,
            "valid": true,
            "problems": [],
            "not_yet_deployable": missing,
        }));
    }
    for key in &missing {
        context
            .screen
            .warning(&format!("not yet deployable: {key}"));
    }
    let path = source.path.display();
    context.screen.result(&match missing.len() {
        0 => format!("{path} is valid"),
        count => format!(
            "{path} is valid, but `vela deploy` refuses {} of it",
            plural(count as u64, "key")
        ),
    })
}

/// Refuses, by name, what a deploy would otherwise ignore.
pub(crate) fn refuse_not_yet_deployable(manifest: &Manifest) -> Result<(), Failure> {
    let missing = manifest.not_yet_deployable();
    if missing.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(format!(
        "the manifest asks for {} that cannot be deployed yet",
        plural(missing.len() as u64, "thing")
    ))
    .with_hint("remove what is named above, or rename its table to start with `x-`");
    if let Cause::Report(report) = &mut failure.cause {
        report.causes = missing.iter().map(ToString::to_string).collect();
    }
    Err(failure)
}
