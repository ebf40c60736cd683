use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Paint, Phase, View, took};

/// The step list on a terminal: each phase on a line of its own, which changes in place.
pub(crate) struct Live {
    list: MultiProgress,
    rows: Vec<Row>,
    paint: Paint,
}

struct Row {
    phase: Phase,
    bar: ProgressBar,
    ended: bool,
}

impl Live {
    pub(crate) fn new(paint: Paint) -> Live {
        Live {
            list: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20)),
            rows: Vec::new(),
            paint,
        }
    }

    fn row(&mut self, phase: Phase) -> &mut Row {
        let at = match self.rows.iter().position(|row| row.phase == phase) {
            Some(at) => at,
            None => {
                let bar = self.list.add(ProgressBar::no_length());
                bar.set_style(style("{msg}"));
                bar.set_message(self.paint.faint(&format!("  · {}", phase.name())));
                self.rows.push(Row {
                    phase,
                    bar,
                    ended: false,
                });
                self.rows.len() - 1
            }
        };
        &mut self.rows[at]
    }

    fn end(&mut self, phase: Phase, mark: &str, time: &str, detail: Option<&str>) {
        let detail = detail
            .map(|text| format!("  {}", self.paint.faint(text)))
            .unwrap_or_default();
        let row = self.row(phase);
        row.ended = true;
        row.bar.disable_steady_tick();
        row.bar.set_style(style("{msg}"));
        row.bar.finish_with_message(format!(
            "  {mark} {:<12} {time:>8}{detail}",
            row.phase.name()
        ));
    }
}

impl View for Live {
    fn planned(&mut self, title: &str, phases: &[Phase]) {
        self.line(&self.paint.strong(title));
        for phase in phases {
            self.row(*phase);
        }
    }

    fn started(&mut self, phase: Phase) {
        let row = self.row(phase);
        row.ended = false;
        row.bar
            .set_style(style("  {spinner} {prefix:12} {elapsed:>8}  {wide_msg}"));
        row.bar.set_prefix(phase.name());
        row.bar.set_message("");
        row.bar.reset();
        row.bar.enable_steady_tick(Duration::from_millis(100));
    }

    fn progressed(&mut self, phase: Phase, detail: &str) {
        let detail = detail.to_owned();
        self.row(phase).bar.set_message(detail);
    }

    fn attempted(&mut self, phase: Phase, what: &str) {
        self.progressed(phase, what);
    }

    fn finished(&mut self, phase: Phase, duration: Duration, detail: Option<&str>) {
        let mark = self.paint.good("✓");
        self.end(phase, &mark, &took(duration), detail);
    }

    fn failed(&mut self, phase: Phase, duration: Duration, why: &str) {
        let mark = self.paint.bad("✗");
        self.end(phase, &mark, &took(duration), Some(why));
    }

    fn undone(&mut self, phase: Phase, duration: Duration, left: Option<&str>) {
        let mark = self.paint.warning("↩");
        let detail = match left {
            None => "undone".to_owned(),
            Some(why) => format!("not wholly undone: {why}"),
        };
        self.end(phase, &mark, &took(duration), Some(&detail));
    }

    fn line(&mut self, text: &str) {
        // Progress that nobody can read any more must not end a deploy.
        drop(self.list.println(text));
    }

    fn closed(&mut self) {
        for row in self.rows.drain(..).filter(|row| !row.ended) {
            row.bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.closed();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
        .with_key(
            "elapsed",
            |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                out.write_str(&took(state.elapsed())).unwrap_or(());
            },
        )
}
