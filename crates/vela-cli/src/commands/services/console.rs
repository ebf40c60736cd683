use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use percent_encoding::percent_decode_str;
use vela_control::{Client, ServerAddress};
use vela_manifest::AppName;

use super::{nats, remote};
use crate::args::{Console, ConsoleKind};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Where Debian has the programs of each major version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// The variables that psql would take from its user instead of from the app.
const FOREIGN: [&str; 5] = [
    "PGSERVICE",
    "PGPASSFILE",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGSSLMODE",
];

type Variables = BTreeMap<String, String>;

pub(super) async fn run(context: &Context, args: Console) -> Result<(), Failure> {
    let (app, client) = context.target(args.app.app.clone())?;
    let server = context.server(context.manifest_if_any()?.as_ref())?;
    if matches!(server, ServerAddress::Ssh { .. }) {
        return Err(remote::console(&server, app.as_str(), &args));
    }
    let kind = match args.kind {
        ConsoleKind::Postgres => "postgres",
        ConsoleKind::Nats => "nats",
    };
    let mut credentials = client.credentials(app.as_str()).await?;
    let variables = credentials.kinds.remove(kind).ok_or_else(|| {
        Failure::new(format!("the current release of `{app}` asks for no {kind}"))
            .with_hint(format!("add [services.{kind}] to its manifest, and deploy"))
    })?;
    match args.kind {
        ConsoleKind::Postgres => {
            let program = psql(&client, &app).await?;
            let env = postgres_env(&variables, args.database.as_deref())?;
            Err(become_program(
                &program,
                &env,
                &args.args,
                "install it with: apt-get install postgresql-client",
            ))
        }
        ConsoleKind::Nats if args.database.is_some() => {
            Err(Failure::new("nats has no databases").with_exit(Exit::Usage))
        }
        // The command has no console of its own.
        ConsoleKind::Nats if args.args.is_empty() => nats::console(context, &variables).await,
        ConsoleKind::Nats => Err(become_program(
            Path::new("nats"),
            &variables,
            &args.args,
            "install it from https://github.com/nats-io/natscli, or leave its arguments out",
        )),
    }
}

/// Becomes the program, with the credentials in its environment: arguments can be read by every user.
///
/// Returns only if it can't.
fn become_program(program: &Path, env: &Variables, args: &[String], hint: &str) -> Failure {
    let mut command = Command::new(program);
    for name in FOREIGN.iter().filter(|name| !env.contains_key(**name)) {
        command.env_remove(name);
    }
    let error = command.args(args).envs(env).exec();
    let failure = Failure::because(format!("cannot run {}", program.display()), &error);
    match error.kind() {
        std::io::ErrorKind::NotFound => failure.with_hint(hint),
        _ => failure,
    }
}

/// The psql beside the server's own programs, else the one of PATH, else the newest of the machine.
async fn psql(client: &Client, app: &AppName) -> Result<PathBuf, Failure> {
    let servers = client.services().await?;
    let own = servers
        .into_iter()
        .filter(|one| one.kind == "postgres" && one.apps.iter().any(|has| has.app == app.as_str()));
    let beside = own.flat_map(|one| {
        // Another user's program can't be read; its version can.
        let running = one
            .pid
            .and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok())
            .map(|program| program.with_file_name("psql"));
        let major = one
            .version
            .as_deref()
            .and_then(|version| version.split('.').next());
        let installed = major.map(|major| Path::new(PROGRAMS).join(major).join("bin/psql"));
        running.into_iter().chain(installed)
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("psql"));
    let found = beside
        .chain(in_path)
        .chain(newest())
        .find(|program| program.is_file());
    Ok(found.unwrap_or_else(|| "psql".into()))
}

fn newest() -> Option<PathBuf> {
    let majors = std::fs::read_dir(PROGRAMS)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let major: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin/psql")))
        });
    majors.max().map(|(_, program)| program)
}

/// What psql reads from its environment: the app's own variables, or those of one of its databases.
fn postgres_env(variables: &Variables, database: Option<&str>) -> Result<Variables, Failure> {
    let url = match database {
        None => match variables.contains_key("PGHOST") {
            true => {
                let own = variables.iter().filter(|(name, _)| name.starts_with("PG"));
                return Ok(own
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect());
            }
            false => variables.get("DATABASE_URL"),
        },
        Some(database) => {
            let name = database.to_uppercase().replace('-', "_");
            variables.get(&format!("DATABASE_URL_{name}"))
        }
    };
    let url = url.ok_or_else(|| {
        let known = variables
            .keys()
            .filter_map(|name| name.strip_prefix("DATABASE_URL_"));
        let known: Vec<_> = known.map(str::to_lowercase).collect();
        let failure = Failure::new(match database {
            Some(database) => format!("the app has no database `{}`", database.escape_debug()),
            None => "the service gives no DATABASE_URL".to_owned(),
        });
        match known.is_empty() {
            true => failure,
            false => failure.with_hint(format!("it has: {}", known.join(", "))),
        }
    })?;
    of_url(url)
        .ok_or_else(|| Failure::new("the service's DATABASE_URL is not one that psql can be given"))
}

/// `postgres://user:password@host:port/database?sslmode=..` as psql's variables.
fn of_url(url: &str) -> Option<Variables> {
    let (scheme, rest) = url.split_once("://")?;
    if !["postgres", "postgresql"].contains(&scheme) {
        return None;
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    // The brackets of an IPv6 address are the URL's, not the address's.
    let (host, port) = match address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or_default()),
        None => address.rsplit_once(':').unwrap_or((address, "")),
    };
    let mut env = Variables::new();
    for (name, value) in [
        ("PGUSER", user),
        ("PGPASSWORD", password),
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGDATABASE", database),
    ] {
        if !value.is_empty() {
            env.insert(name.to_owned(), decoded(value)?);
        }
    }
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let name = match key {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "connect_timeout" => "PGCONNECT_TIMEOUT",
            "options" => "PGOPTIONS",
            "host" => "PGHOST",
            _ => continue,
        };
        env.insert(name.to_owned(), decoded(value)?);
    }
    Some(env)
}

/// Percent-encoded text as it is meant; nothing if that is not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn psql_is_told_of_the_database_that_was_asked_for() {
        let all = variables(&[
            ("DATABASE_URL", "postgres://shop:one@127.0.0.1:5/shop"),
            (
                "DATABASE_URL_AUDIT_LOG",
                "postgres://audit-log:t%40wo@[::1]:5/audit-log?sslmode=disable",
            ),
            ("PGHOST", "127.0.0.1"),
            ("PGPASSWORD", "one"),
        ]);
        let first = postgres_env(&all, None).unwrap();
        assert_eq!(
            first,
            variables(&[("PGHOST", "127.0.0.1"), ("PGPASSWORD", "one")])
        );
        let other = postgres_env(&all, Some("audit-log")).unwrap();
        let expected = variables(&[
            ("PGDATABASE", "audit-log"),
            ("PGHOST", "::1"),
            ("PGPASSWORD", "t@wo"),
            ("PGPORT", "5"),
            ("PGSSLMODE", "disable"),
            ("PGUSER", "audit-log"),
        ]);
        assert_eq!(other, expected);
        assert!(postgres_env(&all, Some("other")).is_err());

        let external = variables(&[("DATABASE_URL", "postgresql://u@db.example/x")]);
        let env = postgres_env(&external, None).unwrap();
        let expected = [
            ("PGDATABASE", "x"),
            ("PGHOST", "db.example"),
            ("PGUSER", "u"),
        ];
        assert_eq!(env, variables(&expected));
    }
}
