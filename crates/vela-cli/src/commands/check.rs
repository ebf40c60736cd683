use serde_json::json;
use vela_manifest::{BuildPlan, Manifest, NoBuildCommand};

use crate::context::{Context, Source};
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
            "build": build_as_json(&source),
        }));
    }
    for key in &missing {
        context
            .screen
            .warning(&format!("not yet deployable: {key}"));
    }
    explain_build(context, &source);
    let path = source.path.display();
    context.screen.result(&match missing.len() {
        0 => format!("{path} is valid"),
        count => format!(
            "{path} is valid, but `vela deploy` refuses {} of it",
            plural(count as u64, "key")
        ),
    })
}

/// Says what the server would build, as far as the files on this disk tell.
fn explain_build(context: &Context, source: &Source) {
    let screen = &context.screen;
    match (source.manifest.builds_remotely(), build_plan(source)) {
        (true, Ok(plan)) => {
            let why = match (plan.tool, &source.manifest.build) {
                (Some(tool), Some(build)) if build.command.is_none() => {
                    format!(" (there is a {})", tool.file())
                }
                _ => String::new(),
            };
            screen.message(&format!(
                "`vela deploy` has the server build what is committed: `{}`{why} makes {}",
                plan.command, plan.output
            ));
        }
        (true, Err(error)) => {
            screen.warning(&format!("nothing can be built: {error}; {}", error.hint()));
        }
        (false, _) if source.manifest.build.is_some() => {
            screen.warning("[build] does nothing without `remote = true`");
        }
        (false, _) => {}
    }
}

fn build_as_json(source: &Source) -> serde_json::Value {
    match (source.manifest.builds_remotely(), build_plan(source)) {
        (false, _) => json!(null),
        (true, Ok(plan)) => json!({
            "tool": plan.tool.map(|tool| tool.to_string()),
            "command": plan.command,
            "output": plan.output.to_string(),
            "timeout_seconds": plan.timeout.as_secs(),
        }),
        (true, Err(error)) => json!({ "error": error.to_string() }),
    }
}

fn build_plan(source: &Source) -> Result<BuildPlan, NoBuildCommand> {
    let beside = |file: &str| source.dir().join(file).is_file();
    source.manifest.build_plan(beside)
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
