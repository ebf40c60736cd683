use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::Bindings;

/// The parameters of a url that mean something to the server or to the connection. All others are
/// for the program's own driver: what they mean is not known here.
const CONNECTION_PARAMETERS: [&str; 8] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "options",
    "target_session_attrs",
];

/// All but what RFC 3986 calls unreserved.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The url of a Postgres database, taken apart.
#[derive(Debug)]
pub(crate) struct PostgresUrl {
    pub(crate) config: Config,
    pub(crate) user: String,
    pub(crate) database: String,
    password: Option<SecretString>,
    /// Names, addresses or directories of sockets, each with its port.
    hosts: Vec<(String, u16)>,
    /// The parameters that say neither where the server is nor who asks.
    parameters: Vec<String>,
}

/// Why a url can't be used. Never holds any part of it that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPostgresUrl {
    /// It starts with neither `postgres://` nor `postgresql://`.
    #[error("it does not start with `postgres://`")]
    Scheme,
    /// Its parts can't be told from each other, or one has a value that it can't have.
    #[error("it is not of the form `postgres://user:password@host:5432/database`")]
    Malformed,
    /// It names no host.
    #[error("it names no host")]
    NoHost,
    /// It names no user. The user that runs this program is not the one that runs the app.
    #[error("it names no user")]
    NoUser,
    /// It asks for TLS, which is not supported yet.
    #[error("it asks for TLS with `sslmode={mode}`, which is not supported yet")]
    TlsUnsupported {
        /// The mode that it asks for.
        mode: &'static str,
    },
}

impl InvalidPostgresUrl {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Scheme | Self::NoHost | Self::NoUser => {
                "write it as postgres://user:password@host:5432/database".into()
            }
            Self::Malformed => {
                "percent-encode special characters in the user and the password: `@` is %40, \
                 `/` is %2F, `:` is %3A, `?` is %3F, `%` is %25"
                    .into()
            }
            Self::TlsUnsupported { .. } => {
                "over a network that you trust use sslmode=prefer, or pass the url to the app as \
                 a variable of its own instead of as a service"
                    .into()
            }
        }
    }
}

impl PostgresUrl {
    pub(crate) fn parse(url: &SecretString) -> Result<Self, InvalidPostgresUrl> {
        use InvalidPostgresUrl::{Malformed, NoHost, NoUser, Scheme};

        let url = url.expose_secret();
        let rest = url
            .strip_prefix("postgres://")
            .or_else(|| url.strip_prefix("postgresql://"))
            .ok_or(Scheme)?;
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A bare `@`, `/` or `?` in a password is read in one way by one driver and in another
        // by the next, some of which would take a part of the password for the host.
        let authority = location.split('/').next().unwrap_or_default();
        if rest.matches('@').count() > authority.matches('@').count().min(1) {
            return Err(Malformed);
        }

        let mut connection_url = format!("postgres://{location}");
        for (n, parameter) in connection_parameters(query)?.iter().enumerate() {
            connection_url.push(if n == 0 { '?' } else { '&' });
            connection_url.push_str(parameter);
        }
        // The parser's error is left out: it may quote what it does not understand.
        let config = Config::from_str(&connection_url).map_err(|_| Malformed)?;

        let hosts = hosts(&config);
        if hosts.is_empty() || hosts.iter().any(|(host, _)| host.is_empty()) {
            return Err(NoHost);
        }
        let user = config
            .get_user()
            .filter(|user| !user.is_empty())
            .ok_or(NoUser)?
            .to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let password = match config.get_password() {
            Some(password) => Some(
                String::from_utf8(password.to_vec())
                    .map_err(|_| Malformed)?
                    .into(),
            ),
            None => None,
        };

        let url = Self {
            config,
            user,
            database,
            password,
            hosts,
            parameters: other_parameters(query),
        };
        // Neither an environment variable nor the protocol can carry it.
        if url
            .parts()
            .iter()
            .any(|(_, value)| value.expose_secret().contains('\0'))
        {
            return Err(Malformed);
        }
        Ok(url)
    }

    /// Where the server is, for people.
    pub(crate) fn address(&self) -> String {
        let each = self.hosts.iter().map(|(host, port)| {
            if host.starts_with('/') {
                format!("{host}/.s.PGSQL.{port}")
            } else if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// The variables for a program: the url as it was `given`, and its parts.
    pub(crate) fn bindings(&self, given: &SecretString) -> Bindings {
        let mut bindings: Bindings = self
            .parts()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        bindings.insert("DATABASE_URL".to_owned(), given.clone());
        bindings
    }

    /// The url of another database on the same server, for another user.
    pub(crate) fn of(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        let hosts = self.hosts.iter().map(|(host, port)| {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{}:{port}", encoded(host))
            }
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let mut url = format!(
            "postgres://{}:{}@{hosts}/{}",
            encoded(user),
            encoded(password.expose_secret()),
            encoded(database)
        );
        for (n, parameter) in self.parameters.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(parameter);
        }
        url.into()
    }

    fn parts(&self) -> Vec<(&'static str, SecretString)> {
        let (hosts, ports): (Vec<_>, Vec<_>) = self
            .hosts
            .iter()
            .map(|(host, port)| (host.clone(), port.to_string()))
            .unzip();
        let mut parts = vec![
            ("PGHOST", hosts.join(",").into()),
            ("PGPORT", ports.join(",").into()),
            ("PGUSER", self.user.clone().into()),
            ("PGDATABASE", self.database.clone().into()),
        ];
        parts.extend(
            self.password
                .clone()
                .map(|password| ("PGPASSWORD", password)),
        );
        parts
    }
}

/// The parameters that a connection from here needs, checked for what it can't do.
fn connection_parameters(query: &str) -> Result<Vec<&str>, InvalidPostgresUrl> {
    let mut kept = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter
            .split_once('=')
            .ok_or(InvalidPostgresUrl::Malformed)?;
        if name == "sslmode" {
            match value {
                "disable" | "allow" | "prefer" => {}
                "require" => return Err(InvalidPostgresUrl::TlsUnsupported { mode: "require" }),
                "verify-ca" => {
                    return Err(InvalidPostgresUrl::TlsUnsupported { mode: "verify-ca" });
                }
                "verify-full" => {
                    return Err(InvalidPostgresUrl::TlsUnsupported {
                        mode: "verify-full",
                    });
                }
                _ => return Err(InvalidPostgresUrl::Malformed),
            }
        } else if CONNECTION_PARAMETERS.contains(&name) {
            kept.push(parameter);
        }
    }
    Ok(kept)
}

fn other_parameters(query: &str) -> Vec<String> {
    let is_other = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        !parameter.is_empty()
            && (name == "target_session_attrs" || !CONNECTION_PARAMETERS.contains(&name))
    };
    query
        .split('&')
        .filter(is_other)
        .map(str::to_owned)
        .collect()
}

/// Percent-encodes all but what no part of a url gives a meaning to.
fn encoded(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, PART)
}

fn hosts(config: &Config) -> Vec<(String, u16)> {
    let port = |n: usize| match config.get_ports() {
        [] => 5432,
        [one] => *one,
        each => each.get(n).copied().unwrap_or(5432),
    };
    let names = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(directory) => directory.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let hosts: Vec<String> = if config.get_hosts().is_empty() {
        addresses.collect()
    } else {
        names.collect()
    };
    hosts
        .into_iter()
        .enumerate()
        .map(|(n, host)| (host, port(n)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<PostgresUrl, InvalidPostgresUrl> {
        PostgresUrl::parse(&SecretString::from(url))
    }

    fn bindings(url: &str) -> Vec<(String, String)> {
        let bindings = parse(url).unwrap().bindings(&SecretString::from(url));
        bindings
            .into_iter()
            .map(|(name, value)| (name, value.expose_secret().to_owned()))
            .collect()
    }

    fn expected(parts: &[(&str, &str)]) -> Vec<(String, String)> {
        parts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_part_is_bound_decoded() {
        let url = "postgresql://my%20app:p%40ss%2Fw%3Ard%25@db.internal:6432/my_app?schema=public&sslmode=prefer";
        assert_eq!(
            bindings(url),
            expected(&[
                ("DATABASE_URL", url),
                ("PGDATABASE", "my_app"),
                ("PGHOST", "db.internal"),
                ("PGPASSWORD", "p@ss/w:rd%"),
                ("PGPORT", "6432"),
                ("PGUSER", "my app"),
            ])
        );
    }

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        let url = "postgres://me@[::1]";
        assert_eq!(
            bindings(url),
            expected(&[
                ("DATABASE_URL", url),
                ("PGDATABASE", "me"),
                ("PGHOST", "::1"),
                ("PGPORT", "5432"),
                ("PGUSER", "me"),
            ])
        );
        assert_eq!(parse(url).unwrap().address(), "[::1]:5432");
    }

    #[test]
    fn sockets_and_several_hosts() {
        let socket = parse("postgres://me@%2Fvar%2Frun%2Fpostgresql:5433/db").unwrap();
        assert_eq!(socket.address(), "/var/run/postgresql/.s.PGSQL.5433");
        let socket = parse("postgres:///db?host=/tmp&user=me").unwrap();
        assert_eq!(socket.address(), "/tmp/.s.PGSQL.5432");

        let several = parse("postgres://me@one,two:6000/db").unwrap();
        assert_eq!(several.address(), "one:5432, two:6000");
    }

    #[test]
    fn urls_that_cannot_be_used_say_why() {
        use InvalidPostgresUrl::{Malformed, NoHost, NoUser, Scheme, TlsUnsupported};
        for (url, expected) in [
            ("", Scheme),
            ("mysql://u:hunter2@h/db", Scheme),
            ("host=h user=u password=hunter2", Scheme),
            ("postgres://", NoHost),
            ("postgres:///db", NoHost),
            ("postgres://u:hunter2@/db", NoHost),
            ("postgres://h/db", NoUser),
            ("postgres://:hunter2@h/db", NoUser),
            ("postgres://u:hunter2@h:port/db", Malformed),
            ("postgres://u:hunter2@h:99999/db", Malformed),
            ("postgres://u:hunt@er2@h/db", Malformed),
            ("postgres://u:hunt/er2@h/db", Malformed),
            ("postgres://u:1?hunter2=@h/db", Malformed),
            ("postgres://u:hunter2%00@h/db", Malformed),
            ("postgres://u:hunter2%ff@h/db", Malformed),
            ("postgres://u:hunter2@h/db?sslmode", Malformed),
            ("postgres://u:hunter2@h/db?sslmode=maybe", Malformed),
            (
                "postgres://u:hunter2@h/db?sslmode=require",
                TlsUnsupported { mode: "require" },
            ),
            (
                "postgres://u:hunter2@h/db?a=b&sslmode=verify-full",
                TlsUnsupported {
                    mode: "verify-full",
                },
            ),
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error, expected, "{url}");
            assert!(
                !format!("{error} {error:?} {}", error.hint()).contains("hunt"),
                "{url}"
            );
        }
    }

    #[test]
    fn another_database_of_the_same_server() {
        for (given, expected) in [
            (
                "postgres://admin:x@h/postgres?sslmode=disable&dbname=y&pool=3",
                "postgres://a%40b:p%2F@h:5432/my-db?sslmode=disable&pool=3",
            ),
            (
                "postgres://admin@one,[::1]:6000/db?options=-cx%3D1",
                "postgres://a%40b:p%2F@one:5432,[::1]:6000/my-db",
            ),
            (
                "postgres://admin@%2Ftmp%2Fx/db",
                "postgres://a%40b:p%2F@%2Ftmp%2Fx:5432/my-db",
            ),
        ] {
            let url = parse(given).unwrap();
            let made = url.of("a@b", &SecretString::from("p/"), "my-db");
            assert_eq!(made.expose_secret(), expected);
            let again = PostgresUrl::parse(&made).unwrap();
            assert_eq!(
                (again.user.as_str(), again.database.as_str()),
                ("a@b", "my-db")
            );
            assert_eq!(again.address(), url.address());
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url = parse("postgres://u:hunter2@h/db").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
    }
}
