use std::str::FromStr;

use hyper::http::uri::PathAndQuery;

/// Where a redirect from `current` leads on the same instance, which was asked as `host`; `None`
/// if it leads elsewhere or nowhere.
pub(crate) fn resolve(current: &PathAndQuery, location: &str, host: &[u8]) -> Option<PathAndQuery> {
    let location = location.split('#').next().unwrap_or_default();
    let local = match strip_scheme(location)? {
        rest if rest.starts_with("//") => {
            let rest = &rest[2..];
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if !authority.as_bytes().eq_ignore_ascii_case(host) {
                return None;
            }
            if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            }
        }
        rest if rest.starts_with('/') => rest.to_owned(),
        query if query.is_empty() || query.starts_with('?') => format!("{}{query}", current.path()),
        relative => {
            let path = current.path();
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{folder}{relative}")
        }
    };
    PathAndQuery::from_str(&local).ok()
}

/// The location without its scheme; `None` if that is another than http.
fn strip_scheme(location: &str) -> Option<&str> {
    match location.split_once(':') {
        // A colon after the first slash or question mark belongs to the path or the query.
        Some((before, _)) if before.contains(['/', '?']) => Some(location),
        Some((scheme, rest)) => scheme.eq_ignore_ascii_case("http").then_some(rest),
        None => Some(location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_page(location: &str) -> Option<String> {
        let current = PathAndQuery::from_static("/status/page?a=1");
        resolve(&current, location, b"app.example:8080").map(|path| path.to_string())
    }

    #[test]
    fn stays_on_the_instance() {
        for (location, expected) in [
            ("/ready", "/ready"),
            ("/ready?x=http://y#top", "/ready?x=http://y"),
            ("http://app.example:8080/ready", "/ready"),
            ("HTTP://App.Example:8080", "/"),
            ("//app.example:8080?x=1", "/?x=1"),
            ("ready", "/status/ready"),
            ("?b=2", "/status/page?b=2"),
            ("", "/status/page"),
        ] {
            assert_eq!(
                from_page(location).as_deref(),
                Some(expected),
                "{location:?}"
            );
        }
    }

    #[test]
    fn never_leaves_it() {
        for location in [
            "https://app.example:8080/ready",
            "http://app.example/ready",
            "http://evil.example/",
            "http://app.example:8080@evil.example/",
            "//169.254.169.254/latest",
            "file:///etc/passwd",
            "/a b",
        ] {
            assert_eq!(from_page(location), None, "{location:?}");
        }
    }
}
