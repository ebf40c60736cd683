use serde_json::json;
use vela_manifest::ManifestError;

use super::{Paint, printable};
use crate::failure::{Cause, Failure};

/// `error:`, the causes, the output of what failed, `hint:`, and last the state of the system.
pub(crate) fn as_text(failure: &Failure, paint: Paint) -> String {
    let mut out = String::new();
    let mut push = |line: String| {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&line);
    };
    match &failure.cause {
        Cause::Silent => {}
        Cause::Manifest(error) => {
            // Each problem with its line and a caret.
            push(format!(
                "{} {}",
                paint.bad("error:"),
                error.report().trim_end()
            ));
            if let Some(hint) = error.hint() {
                push(format!(
                    "{} {}",
                    paint.hint("hint:"),
                    printable_lines(&hint)
                ));
            }
        }
        Cause::Report(report) => {
            push(format!(
                "{} {}",
                paint.bad("error:"),
                printable_lines(&report.message)
            ));
            for cause in &report.causes {
                push(format!("  caused by: {}", printable_lines(cause)));
            }
            for line in &report.output {
                push(format!("  {} {}", paint.faint("|"), printable(line)));
            }
            if let Some(hint) = &report.hint {
                push(format!("{} {}", paint.hint("hint:"), printable_lines(hint)));
            }
        }
    }
    if let Some(state) = &failure.state {
        push(printable_lines(state));
    }
    out
}

/// One JSON object.
pub(crate) fn as_json(failure: &Failure) -> String {
    let error = match &failure.cause {
        Cause::Silent => json!(null),
        Cause::Report(report) => json!(report),
        Cause::Manifest(error) => json!({
            "message": error.to_string(),
            "problems": problems(error),
        }),
    };
    json!({ "error": error, "state": failure.state, "exit": failure.exit as u8 }).to_string()
}

/// The problems of a manifest, for programs.
pub(crate) fn problems(error: &ManifestError) -> serde_json::Value {
    json!(error.problems())
}

/// Our own messages may have several lines; nothing else in them may act on the terminal.
fn printable_lines(text: &str) -> String {
    let mut out = String::new();
    for (index, line) in text.lines().enumerate() {
        if index > 0 {
            out.push_str("\n  ");
        }
        out.push_str(&printable(line));
    }
    out
}

#[cfg(test)]
mod tests {
    use vela_protocol::Report;

    use super::*;
    use crate::exit::Exit;

    fn failure() -> Failure {
        Failure::from_report(Report {
            message: "the deploy failed at health".into(),
            causes: vec!["the app exited".into(), "exit code 3".into()],
            hint: Some("`vela logs my-app` shows more".into()),
            output: vec!["panic: \u{1b}[2Jno database".into()],
        })
        .with_exit(Exit::StillServing)
        .with_state("`my-app` still serves 20260305-143022")
    }

    #[test]
    fn the_state_of_the_system_comes_last() {
        assert_eq!(
            as_text(&failure(), Paint::new(false)),
            "error: the deploy failed at health\n  caused by: the app exited\n  caused by: exit code 3\n  \
             | panic: ␛[2Jno database\nhint: `vela logs my-app` shows more\n`my-app` still serves 20260305-143022"
        );
    }

    #[test]
    fn programs_get_one_object() {
        let line = as_json(&failure());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["error"]["causes"][1], "exit code 3");
        assert_eq!(value["state"], "`my-app` still serves 20260305-143022");
        assert_eq!(value["exit"], 3);
    }
}
