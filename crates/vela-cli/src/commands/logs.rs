use futures::StreamExt;
use std::io::IsTerminal;
use vela_control::LogStream;
use vela_protocol::{LogLine, Stream};

use crate::args::{LAST_BUILD, Logs};
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{Paint, printable_coloured};

/// How many of the last lines are shown of an app's log, if nobody says.
const LINES: usize = 100;

pub(crate) async fn run(context: &Context, args: Logs) -> Result<(), Failure> {
    let (app, client) = context.target(args.app.app)?;
    let app = app.as_str();
    let lines = match args.build {
        Some(release) => {
            let release = Some(&*release).filter(|release| *release != LAST_BUILD);
            client.build_log(app, release, args.lines).await?
        }
        None => {
            let lines = args.lines.unwrap_or(LINES);
            client.logs(app, lines, args.follow).await?
        }
    };
    show(context, lines).await
}

/// Shows the lines of a log to their end.
pub(super) async fn show(context: &Context, mut lines: LogStream) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    while let Some(line) = lines.next().await {
        let line = line?;
        if context.screen.is_json() {
            context.screen.json(&line)?;
        } else {
            context
                .screen
                .result(&log_line(&line, terminal, context.screen.paint()))?;
        }
    }
    Ok(())
}

/// What the app wrote, as it wrote it; on a terminal without what could act on it.
fn log_line(line: &LogLine, terminal: bool, paint: Paint) -> String {
    let stream = match line.stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    };
    let head = format!("{} {stream}", line.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"));
    match terminal {
        true => format!("{} {}", paint.faint(&head), printable_coloured(&line.text)),
        false => format!("{head} {}", line.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_the_bytes_and_a_terminal_gets_text() {
        let line = LogLine {
            time: "2026-11-21T00:55:17.123456Z".parse().unwrap(),
            stream: Stream::Stderr,
            text: "\u{1b}[2Jboom".into(),
        };
        let paint = Paint::new(false);
        assert_eq!(
            log_line(&line, false, paint),
            "2026-11-21T00:55:17.123Z err \u{1b}[2Jboom"
        );
        assert_eq!(
            log_line(&line, true, paint),
            "2026-11-21T00:55:17.123Z err ␛[2Jboom\u{1b}[0m"
        );
    }
}
