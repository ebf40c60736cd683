//! Whatever the text, reading ends with a value or with problems that lie inside the text.

use proptest::prelude::*;
use vela_manifest::{Manifest, ManifestError, ServerConfig};

/// Texts that get past the TOML parser often: lines that are nearly right.
fn nearly_toml() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        3 => "(name|domain|aliases|server|binary|args|health|drain|memory|url|bind|socket|schedule|path|max_body|metrics|trusted_proxies|head|max_size|x-a|[A-Z_]{1,4}) = ",
        2 => "\\[(app|deploy|deploy.health|env|resources|services.postgres|build|proxy|proxy.limits|proxy.access_log|tls|backup|x-y)\\]",
        1 => "[\\[\\]{}=\"'$., \t\r\n#a0-9é\u{1b}-]{0,12}",
    ];
    let value = prop_oneof![
        "-?[0-9]{1,22}",
        "\"[a-z0-9${}:/. é-]{0,12}\"",
        "\\[\"[a-z${}]{0,5}\", [0-9]\\]",
        "\\{ (path|tcp|exec) = (\"/\"|true|1) \\}",
        "true",
    ];
    prop::collection::vec((line, value), 0..12).prop_map(|lines| {
        let lines = lines.into_iter().map(|(start, value)| {
            if start.ends_with("= ") {
                format!("{start}{value}")
            } else {
                start
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn check(text: &str, result: Result<(), ManifestError>) -> Result<(), TestCaseError> {
    let Err(error) = result else { return Ok(()) };
    prop_assert!(!error.problems().is_empty());
    for problem in error.problems() {
        prop_assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
        prop_assert!(problem.line >= 1 && problem.line <= 1 + text.matches('\n').count());
        prop_assert!(problem.column >= 1);
        prop_assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
    }
    prop_assert!(
        error
            .problems()
            .is_sorted_by_key(|problem| problem.span.start)
    );
    prop_assert!(error.report().contains('^'));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        check(&text, Manifest::parse("Vela.toml", &text).map(drop))?;
        check(&text, ServerConfig::parse("server.toml", &text).map(drop))?;
    }

    #[test]
    fn nearly_right_text(text in nearly_toml()) {
        check(&text, Manifest::parse("Vela.toml", &text).map(drop))?;
        check(&text, ServerConfig::parse("server.toml", &text).map(drop))?;
    }

    #[test]
    fn a_right_text_cut_anywhere(at in 0usize..400) {
        const TEXT: &str = "\u{feff}[app]\r\nname = \"my-app\"\r\naliases = [\"a.b\",\n \"c.d\"]\n[deploy]\n\
            health = { path = \"/h\", retries = 3 }\nargs = ['''x''', \"${port}\"]\n[env]\nA = \"\"\"\n${app}\"\"\"\n";
        let text = TEXT.get(..at.min(TEXT.len())).unwrap_or(TEXT);
        check(text, Manifest::parse("Vela.toml", text).map(drop))?;
    }
}

#[test]
fn deep_nesting_ends() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        "a.".repeat(100_000),
    ] {
        assert!(Manifest::parse("Vela.toml", &text).is_err());
    }
}

#[test]
fn a_problem_on_each_line_of_the_largest_file_ends_in_time() {
    let limit = 1 << 20;
    let unknown: String = (0..70_000).map(|n| format!("key_{n} = 1\n")).collect();
    let broken = "=\n".repeat(limit / 2);
    let unclosed = format!("a = [\n{}", "b = 1\n".repeat(limit / 6 - 2));
    let headers = "[\n".repeat(limit / 2);
    let repeated = format!("[app]\naliases = [{}]", "'a.b',".repeat(limit / 6 - 4));
    let one_line = format!("a = [{}", "1 ".repeat(limit / 2 - 5));
    for text in [unknown, broken, unclosed, headers, repeated, one_line] {
        let error = Manifest::parse("Vela.toml", &text).expect_err("full of problems");
        assert!(matches!(error, ManifestError::Invalid(_)), "{error}");
        assert!(error.report().contains('^'));
    }
}
