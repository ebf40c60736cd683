//! What an instance answers a probe, as a function of bytes that panics where something is wrong.
//! For `fuzz/` and for `tests/fuzzing.rs`: nothing here is for users.

use hyper::http::uri::PathAndQuery;

use crate::printable;
use crate::redirect::resolve;

/// A target: its name, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[("redirect", redirect), ("shown", shown)];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, and when the target finds a fault.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, run) = target.expect("the name is in the table above");
    run(bytes);
}

/// What is asked when the answer is a redirect, and as which host.
const ASKED: &str = "/status/page?a=1";
const HOST: &str = "app.example:8080";

/// The bytes are where a redirect leads.
fn redirect(bytes: &[u8]) {
    let Ok(location) = std::str::from_utf8(bytes) else {
        return;
    };
    let asked = PathAndQuery::from_static(ASKED);
    let Some(path) = resolve(&asked, location, HOST.as_bytes()) else {
        assert!(!is_plain(location), "{location:?}");
        return;
    };
    let path = path.as_str();
    assert!(path.starts_with('/'), "{location:?}");
    assert!(!path.contains([' ', '#']) && !path.contains(char::is_control));
    let location = location.split('#').next().unwrap_or_default();
    let scheme = location.split(['/', '?']).next().unwrap_or_default();
    let local = match scheme.split_once(':') {
        Some((scheme, _)) => {
            assert!(scheme.eq_ignore_ascii_case("http"), "{location:?}");
            &location[scheme.len() + 1..]
        }
        None => location,
    };
    // The parts of RFC 3986, 5.2.2.
    let (authority, local) = match local.strip_prefix("//") {
        None => (None, local),
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
    };
    assert!(authority.is_none_or(|one| one.eq_ignore_ascii_case(HOST)));
    let wanted = match (authority, local.chars().next()) {
        (_, Some('/')) => local.to_owned(),
        (Some(_), _) => format!("/{local}"),
        (None, None | Some('?')) => format!("/status/page{local}"),
        (None, Some(_)) => format!("/status/{local}"),
    };
    assert_eq!(path, wanted, "{location:?}");
}

/// Whether it is a path that any server may redirect to.
fn is_plain(location: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    !location.starts_with("//") && location.bytes().all(is_part)
}

/// The bytes are what an instance says for a person to read.
fn shown(bytes: &[u8]) {
    for line in [printable::line(bytes), printable::first_line(bytes)] {
        let Some(line) = line else { continue };
        assert!(!line.trim().is_empty() && !line.contains(char::is_control));
        // Each character may be escaped, in ten at most.
        assert!(line.chars().count() <= 10 * 200 + 1, "{line}");
        let is_mark = |one: char| matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!line.contains(is_mark), "{line}");
    }
    let is_blank = String::from_utf8_lossy(bytes).trim().is_empty();
    assert_eq!(printable::line(bytes).is_none(), is_blank);
}
