use vela_protocol::{Event, Operation, Report, Serving};

use super::narrator::success;
use crate::exit::Exit;
use crate::failure::Failure;

/// How an operation ended well.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The release that serves.
    pub(crate) release: String,
    /// The last line for people.
    pub(crate) message: String,
}

/// What the terminal event of an operation means to whoever asked for it. `interrupted` when it was cancelled from here.
pub(crate) fn verdict(
    app: &str,
    operation: Operation,
    terminal: Event,
    interrupted: bool,
) -> Result<Verdict, Failure> {
    let what = operation.as_str();
    match terminal {
        Event::Succeeded {
            release,
            ms,
            recovered,
        } => Ok(Verdict {
            message: success(app, &release, ms, recovered),
            release,
        }),
        Event::Failed {
            step,
            error,
            serving,
            ..
        } => {
            let message = match step {
                Some(step) => format!("the {what} of `{app}` failed at {step}"),
                None => format!("the {what} of `{app}` failed"),
            };
            Err(Failure::from_report(Report {
                message,
                causes: std::iter::once(error.message).chain(error.causes).collect(),
                hint: error.hint,
                output: error.output,
            })
            .with_exit(Exit::after(&serving))
            .with_state(state(app, &serving)))
        }
        Event::Cancelled { by, serving, .. } => {
            let exit = match interrupted {
                true => Exit::Interrupted,
                false => Exit::after(&serving),
            };
            Err(
                Failure::new(format!("the {what} of `{app}` was cancelled by {by}"))
                    .with_exit(exit)
                    .with_state(state(app, &serving)),
            )
        }
        other => Err(Failure::new(format!(
            "the {what} of `{app}` ended in a way this version does not know: {other:?}"
        ))
        .with_hint(format!("`vela history {app}` shows how it ended"))),
    }
}

fn state(app: &str, serving: &Serving) -> String {
    match serving {
        Serving::Previous { release } => format!("`{app}` still serves {release}"),
        Serving::Nothing => format!("`{app}` serves nothing, as before"),
        Serving::Down { release } => format!("`{app}` is DOWN: {release} should serve"),
        _ => format!("`vela status {app}` shows what `{app}` serves"),
    }
}

#[cfg(test)]
mod tests {
    use vela_protocol::{Step, Who};

    use super::*;

    fn failed(serving: Serving) -> Failure {
        let event = Event::Failed {
            step: Some(Step::Health),
            error: Report::of(&std::io::Error::other("exit code 3")),
            ms: 3,
            serving,
        };
        verdict("my-app", Operation::Deploy, event, false).unwrap_err()
    }

    #[test]
    fn the_exit_code_says_what_the_users_get() {
        let release = || "20260305-143022".to_owned();
        let still = failed(Serving::Previous { release: release() });
        assert_eq!(still.exit, Exit::StillServing);
        assert_eq!(
            still.state.as_deref(),
            Some("`my-app` still serves 20260305-143022")
        );
        assert_eq!(failed(Serving::Nothing).exit, Exit::Error);
        assert_eq!(
            failed(Serving::Down { release: release() }).exit,
            Exit::Down
        );
    }

    #[test]
    fn a_cancel_from_here_is_an_interrupt_and_one_from_elsewhere_a_failure() {
        let cancelled = || Event::Cancelled {
            by: Who {
                uid: Some(0),
                user: "root".into(),
                client: None,
            },
            ms: 3,
            serving: Serving::Previous {
                release: "20260305-143022".into(),
            },
        };
        let exit = |interrupted| {
            verdict("my-app", Operation::Deploy, cancelled(), interrupted)
                .unwrap_err()
                .exit
        };
        assert_eq!(exit(true), Exit::Interrupted);
        assert_eq!(exit(false), Exit::StillServing);
    }
}
