//! What to tell the user whose app does not listen where it is expected.

use std::net::SocketAddr;

use vela_health::Address;

/// How many of the addresses that an app listens on are named.
const NAMED: usize = 3;

/// The hint for an app that was given `port`, refuses connections to `expected`, and listens on these addresses.
pub(crate) fn hint(port: u16, expected: &Address, listening: &[SocketAddr]) -> String {
    match expected {
        Address::Tcp(expected) => hint_of_port(port, *expected, listening),
        Address::Unix(_) => hint_of_socket(listening),
    }
}

fn hint_of_socket(listening: &[SocketAddr]) -> String {
    match listening {
        [] => "the app must listen on the Unix socket in $VELA_SOCKET".to_owned(),
        found => format!(
            "the app listens on {}, and not on its Unix socket: it must listen on the one in $VELA_SOCKET, or leave out \
             `listen` in [app]",
            named(found)
        ),
    }
}

fn hint_of_port(port: u16, expected: SocketAddr, listening: &[SocketAddr]) -> String {
    if expected.port() != port {
        return format!("nothing listens on {expected}, which is the `port` in `health`");
    }
    let (ip, elsewhere) = (expected.ip(), elsewhere(expected, listening));
    let Some(first) = elsewhere.first() else {
        return format!("the app must listen on the port in $PORT, on {ip} or on every address");
    };
    let found = named(&elsewhere);
    let advice = match first {
        one if one.port() != port => "it must listen on the port in $PORT".to_owned(),
        SocketAddr::V6(one) if one.ip().is_loopback() => format!(
            "`localhost` may mean either; make it listen on {ip}, or set listen = \"::1\" in [app]"
        ),
        SocketAddr::V4(_) => {
            format!("make it listen on {ip}, or leave out `listen` in [app]")
        }
        SocketAddr::V6(_) => format!("make it listen on {ip}, or on every address"),
    };
    format!("the app listens on {found}, and not on {expected}: {advice}")
}

fn named(addresses: &[SocketAddr]) -> String {
    let named = addresses.iter().take(NAMED).map(ToString::to_string);
    named.collect::<Vec<_>>().join(" and ")
}

/// Those that are not what was expected; the same port first.
fn elsewhere(expected: SocketAddr, listening: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_expected = |one: &SocketAddr| {
        one.port() == expected.port()
            && one.is_ipv4() == expected.is_ipv4()
            && (one.ip() == expected.ip() || one.ip().is_unspecified())
    };
    let mut elsewhere = listening.to_vec();
    elsewhere.retain(|one| !is_expected(one));
    elsewhere.sort_by_key(|one| one.port() != expected.port());
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(expected: &str, listening: &[&str]) -> String {
        let listening: Vec<_> = listening.iter().map(|one| one.parse().unwrap()).collect();
        let expected = match expected.parse() {
            Ok(addr) => Address::Tcp(addr),
            Err(_) => Address::Unix(expected.into()),
        };
        hint(9, &expected, &listening)
    }

    #[test]
    fn names_what_the_app_listens_on_and_what_helps() {
        for (expected, listening, wanted) in [
            (
                "127.0.0.1:9",
                &["127.0.0.1:5000", "[::1]:9"][..],
                "the app listens on [::1]:9 and 127.0.0.1:5000, and not on 127.0.0.1:9: `localhost` may mean either; make it \
                 listen on 127.0.0.1, or set listen = \"::1\" in [app]",
            ),
            (
                "[::1]:9",
                &["0.0.0.0:9"],
                "the app listens on 0.0.0.0:9, and not on [::1]:9: make it listen on ::1, or leave out `listen` in [app]",
            ),
            (
                "127.0.0.1:9",
                &["[::]:9"],
                "the app listens on [::]:9, and not on 127.0.0.1:9: make it listen on 127.0.0.1, or on every address",
            ),
            (
                "127.0.0.1:9",
                &["0.0.0.0:3000", "[::]:3000", "[::1]:1", "[::1]:2"],
                "the app listens on 0.0.0.0:3000 and [::]:3000 and [::1]:1, and not on 127.0.0.1:9: it must listen on the \
                 port in $PORT",
            ),
            (
                "/app.sock",
                &["127.0.0.1:9"],
                "the app listens on 127.0.0.1:9, and not on its Unix socket: it must listen on the one in $VELA_SOCKET, \
                 or leave out `listen` in [app]",
            ),
            (
                "/app.sock",
                &[],
                "the app must listen on the Unix socket in $VELA_SOCKET",
            ),
            (
                "127.0.0.1:8",
                &["127.0.0.1:9"],
                "nothing listens on 127.0.0.1:8, which is the `port` in `health`",
            ),
            (
                "127.0.0.1:9",
                &[],
                "the app must listen on the port in $PORT, on 127.0.0.1 or on every address",
            ),
            (
                "[::1]:9",
                &["[::]:9"],
                "the app must listen on the port in $PORT, on ::1 or on every address",
            ),
        ] {
            assert_eq!(said(expected, listening), wanted);
        }
    }
}
