use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};

use dialoguer::Password;
use vela_protocol::{SecretChange, SecretNames};

use crate::args::Secret;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::plural;

/// More than any set of secrets needs; what is longer is the wrong file.
const LONGEST: u64 = 1 << 20;

pub(crate) async fn run(context: &Context, args: Secret) -> Result<(), Failure> {
    let (app, change) = match args {
        Secret::List { app } => {
            let (app, client) = context.target(app.app)?;
            let names = client.secret_names(app.as_str()).await?;
            return list(context, &names);
        }
        Secret::Set { app, secrets } => {
            let set = values(secrets)?;
            (
                app.app,
                SecretChange {
                    set,
                    remove: Vec::new(),
                },
            )
        }
        Secret::Remove { app, keys } => {
            let set = BTreeMap::new();
            (app.app, SecretChange { set, remove: keys })
        }
        Secret::Import { app, file } => {
            let text = match file {
                Some(path) => std::fs::File::open(&path)
                    .and_then(read_all)
                    .map_err(|error| {
                        Failure::because(format!("cannot read {}", path.display()), &error)
                    })?,
                None => stdin()?,
            };
            let set = parse_lines(&text)?;
            (
                app.app,
                SecretChange {
                    set,
                    remove: Vec::new(),
                },
            )
        }
    };
    let changed = plural((change.set.len() + change.remove.len()) as u64, "secret");
    let (app, client) = context.target(app)?;
    let names = client.change_secrets(app.as_str(), &change).await?;
    if context.screen.is_json() {
        return context.screen.json(&names);
    }
    context.screen.message(&format!(
        "{changed} of `{app}` changed; the next `vela restart {app}` or deploy takes the change"
    ));
    Ok(())
}

fn list(context: &Context, names: &SecretNames) -> Result<(), Failure> {
    if context.screen.is_json() {
        return context.screen.json(names);
    }
    if names.names.is_empty() {
        context.screen.message("there are no secrets");
        return Ok(());
    }
    context.screen.result(&names.names.join("\n"))
}

/// `KEY=VALUE` as it stands; the value of a `KEY` alone comes from a prompt, or from stdin if it is the only one.
fn values(secrets: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let alone = secrets.len() == 1;
    let mut set = BTreeMap::new();
    for secret in secrets {
        let (key, value) = match secret.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None if std::io::stdin().is_terminal() => {
                let value = ask(&secret)?;
                (secret, value)
            }
            None if alone => {
                let text = stdin()?;
                // `echo` ends its line; what a file holds beyond that is the value.
                let value = text.strip_suffix('\n').unwrap_or(&text);
                let value = value.strip_suffix('\r').unwrap_or(value);
                (secret, value.to_owned())
            }
            None => {
                return Err(Failure::new("stdin gives the value of one KEY only")
                    .with_exit(Exit::Usage)
                    .with_hint("`vela secret import` reads lines of KEY=VALUE"));
            }
        };
        set.insert(key, value);
    }
    Ok(set)
}

fn ask(key: &str) -> Result<String, Failure> {
    Password::new()
        .with_prompt(key)
        .report(false)
        .interact()
        .map_err(|error| Failure::because("cannot ask for the value", &error))
}

fn stdin() -> Result<String, Failure> {
    read_all(std::io::stdin().lock()).map_err(|error| Failure::because("cannot read stdin", &error))
}

fn read_all(input: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    if input.take(LONGEST + 1).read_to_string(&mut text)? as u64 > LONGEST {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it has more than 1 MiB",
        ));
    }
    Ok(text)
}

/// Lines of `KEY=VALUE`, as in a `.env` file: `export`, empty lines and comments are passed over; a value may stand in
/// quotes, and in double quotes `\n`, `\"` and `\\` are what they are elsewhere. Values never appear in an error.
fn parse_lines(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut set = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let wrong = |what: &str| Failure::new(format!("line {}: {what}", index + 1));
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| wrong("there is no `=`; a line is KEY=VALUE"))?;
        let value = unquote(value.trim()).ok_or_else(|| wrong("the quote is not closed"))?;
        set.insert(key.trim().to_owned(), value);
    }
    if set.is_empty() {
        return Err(Failure::new("there is no KEY=VALUE in it"));
    }
    Ok(set)
}

fn unquote(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut out = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().trim().is_empty().then_some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                c @ ('"' | '\\' | '$') => out.push(c),
                c => out.extend(['\\', c]),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Cause;

    #[test]
    fn an_env_file_is_read() {
        let set = parse_lines(
            "# comment\n\nexport A=1\nB = 'two words '\nC=\"line\\nnext \\\"q\\\" \\d\"\nD=a=b#c\nE=\n",
        )
        .unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words "),
            ("C", "line\nnext \"q\" \\d"),
            ("D", "a=b#c"),
            ("E", ""),
        ];
        assert_eq!(set, expected.map(|(k, v)| (k.into(), v.into())).into());
    }

    #[test]
    fn an_error_has_the_line_and_never_the_value() {
        for text in ["A=1\nhunter2\n", "A=1\nB=\"hunter2\n", "A=1\nB='hunter2\n"] {
            let failure = parse_lines(text).unwrap_err();
            let Cause::Report(report) = failure.cause else {
                panic!()
            };
            assert!(report.message.starts_with("line 2:"), "{report}");
            assert!(!report.to_string().contains("hunter2"), "{report}");
        }
        assert!(parse_lines("# nothing\n").is_err());
    }

    #[test]
    fn a_value_may_hold_equal_signs() {
        let set = values(vec!["URL=postgres://a?b=c".into()]).unwrap();
        assert_eq!(set["URL"], "postgres://a?b=c");
    }
}
