use std::error::Error;
use std::io;
use std::time::Duration;

use crate::{Address, StatusMatch};

/// Why one attempt of a probe did not find a healthy instance.
///
/// Text that the instance sent (`line`, `location`) is cut to 200 characters and has its control
/// characters escaped, so that it can be shown on a terminal as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No connection: nothing listens there, or it does not accept.
    #[error("cannot connect to {addr}")]
    Connect {
        /// What was connected to.
        addr: Address,
        /// What the system said.
        source: io::Error,
    },

    /// An HTTP answer with another status than the expected one.
    #[error("answered {got}, expected {expected}{}", after_colon(.line.as_deref()))]
    Status {
        /// What would have been healthy.
        expected: StatusMatch,
        /// What was answered.
        got: u16,
        /// The first line of the body that is not blank; of a redirect, where it leads.
        line: Option<String>,
    },

    /// The connection broke, or what came over it is not an HTTP/1 answer.
    #[error("no valid HTTP answer from {addr}")]
    Protocol {
        /// Who was asked.
        addr: Address,
        /// What is wrong with the answer.
        source: Box<dyn Error + Send + Sync>,
    },

    /// A redirect that leads to another host, or to https, where a probe does not go.
    #[error("{addr} redirects to `{location}`, which is not on the instance")]
    RedirectedAway {
        /// Who was asked.
        addr: Address,
        /// Where it redirects to.
        location: String,
    },

    /// Redirects that do not end.
    #[error("{addr} redirected {limit} times, last to `{location}`")]
    TooManyRedirects {
        /// Who was asked.
        addr: Address,
        /// How many redirects were followed.
        limit: u32,
        /// Where the last of them leads.
        location: String,
    },

    /// The attempt took longer than the policy allows.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// The time that an attempt has.
        after: Duration,
    },

    /// The command of an exec probe could not be run.
    #[error("cannot run the health command `{command}`")]
    ExecStart {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },

    /// The command of an exec probe ended with another status than 0.
    #[error("the health command `{command}` {}{}", ending(*.status, *.signal), after_colon(.last_line.as_deref()))]
    Exec {
        /// The command line.
        command: String,
        /// Its exit status, unless a signal ended it.
        status: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The last line that it wrote.
        last_line: Option<String>,
    },
}

impl ProbeError {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { addr, source } if source.kind() == io::ErrorKind::ConnectionRefused => {
                Some(format!(
                    "nothing listens on {addr}; the program should listen on the port in $PORT"
                ))
            }
            Self::Status { got: 300..=399, .. } => Some(
                "the health path redirects: follow_redirects = true follows it, or expect its \
                 status"
                    .into(),
            ),
            Self::Status { got: 401 | 403, .. } => {
                Some("the health path should answer without credentials".into())
            }
            Self::Status { got: 404, .. } => {
                Some("check the health path, and the host that the program expects".into())
            }
            Self::Status { got: 400 | 421, .. } => Some(
                "the program may insist on a Host that it knows: give the health check a host"
                    .into(),
            ),
            Self::Protocol { addr, .. } => Some(format!(
                "if what listens on {addr} does not speak plain HTTP/1, use a tcp health check"
            )),
            Self::RedirectedAway { .. } | Self::TooManyRedirects { .. } => {
                Some("let the health path answer by itself, without a redirect".into())
            }
            _ => None,
        }
    }
}

fn after_colon(text: Option<&str>) -> String {
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

fn ending(status: Option<i32>, signal: Option<i32>) -> String {
    match (status, signal) {
        (Some(status), _) => format!("exited with status {status}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended without a status".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_came_back() {
        let status = ProbeError::Status {
            expected: StatusMatch::default(),
            got: 404,
            line: Some("no such page".into()),
        };
        assert_eq!(
            status.to_string(),
            "answered 404, expected 200: no such page"
        );

        let exec = ProbeError::Exec {
            command: "bin/check".into(),
            status: None,
            signal: Some(9),
            last_line: None,
        };
        assert_eq!(
            exec.to_string(),
            "the health command `bin/check` was ended by signal 9"
        );
    }

    #[test]
    fn a_message_leaves_the_cause_to_the_chain() {
        let error = ProbeError::Connect {
            addr: Address::Tcp("127.0.0.1:1".parse().unwrap()),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        assert_eq!(error.to_string(), "cannot connect to 127.0.0.1:1");
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        assert!(error.hint().unwrap().contains("$PORT"));
    }
}
