use std::time::Duration;

use vela_protocol::ReleaseSummary;

use crate::args::App;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::{date, table, took};

pub(crate) async fn run(context: &Context, args: App) -> Result<(), Failure> {
    let (app, client) = context.target(args.app)?;
    let releases = client.releases(app.as_str()).await?;
    if context.screen.is_json() {
        return context.screen.json(&releases);
    }
    context.screen.result(&releases_table(&releases))
}

fn releases_table(releases: &[ReleaseSummary]) -> String {
    table(
        [
            "release", "status", "strategy", "user", "date", "duration", "message",
        ],
        releases.iter().map(|release| {
            let message = match (&release.message, &release.git) {
                (Some(message), Some(git)) => format!("{message} [{}]", short(git)),
                (Some(message), None) => message.clone(),
                (None, Some(git)) => format!("[{}]", short(git)),
                (None, None) => String::new(),
            };
            [
                release.release.clone(),
                release.status.as_str().to_owned(),
                release.strategy.clone(),
                release.user.clone(),
                date(release.date),
                release
                    .duration_ms
                    .map(|ms| took(Duration::from_millis(ms)))
                    .unwrap_or_default(),
                message,
            ]
        }),
    )
}

/// A git revision as `git log --oneline` has it, with the mark of uncommitted changes.
fn short(revision: &str) -> String {
    let (hash, dirty) = match revision.split_once('-') {
        Some((hash, dirty)) => (hash, format!("-{dirty}")),
        None => (revision, String::new()),
    };
    let hash: String = hash.chars().take(9).collect();
    format!("{hash}{dirty}")
}

#[cfg(test)]
mod tests {
    use vela_protocol::ReleaseStatus;

    use super::*;

    #[test]
    fn a_release_is_a_line() {
        let release = ReleaseSummary {
            release: "20260305-143022".into(),
            status: ReleaseStatus::Current,
            strategy: "blue-green".into(),
            user: "alice".into(),
            date: "2026-03-05T14:30:22Z".parse().unwrap(),
            duration_ms: Some(1_400),
            message: Some("new front page".into()),
            git: Some("0123456789abcdef-dirty".into()),
        };
        assert_eq!(
            releases_table(&[release]),
            "RELEASE          STATUS   STRATEGY    USER   DATE                  DURATION  MESSAGE\n\
             20260305-143022  current  blue-green  alice  2026-03-05 14:30:22Z  1.4 s     new front page [012345678-dirty]"
        );
    }
}
