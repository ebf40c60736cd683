use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit, Mac};

type HmacSha1 = hmac::Hmac<sha1::Sha1>;

/// The servers' keys that the user, or the machine's administrator, vouches for.
///
/// Matched here and not by libssh2, which knows neither `@revoked` and `@cert-authority` nor wildcards and negation.
#[derive(Debug, Default)]
pub(crate) struct KnownHosts {
    lines: Vec<Line>,
}

/// What known_hosts says of a key. The places are `file:line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Known,
    Unknown,
    /// Another key is known for the host.
    Changed(String),
    Revoked(String),
    /// Nothing but an authority vouches for the host.
    Authority(String),
}

#[derive(Debug)]
struct Line {
    marker: Marker,
    hosts: String,
    kind: String,
    key: Vec<u8>,
    place: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

impl KnownHosts {
    /// Reads the files that exist. One that cannot be read is an error, for it may revoke something.
    pub(super) fn read<'a>(
        files: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<KnownHosts, (PathBuf, io::Error)> {
        let mut known = KnownHosts::default();
        for file in files {
            match fs::read(file) {
                Ok(text) => known.add(&String::from_utf8_lossy(&text), &file.display().to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        Ok(known)
    }

    /// Judges the key of a host that may go by any of `names`.
    pub(crate) fn check(&self, names: &[String], key: &[u8]) -> Verdict {
        let about = |line: &&Line| names.iter().any(|name| line.is_about(name));
        let lines: Vec<&Line> = self.lines.iter().filter(about).collect();
        let find = |marker, same: bool| {
            let is = |line: &&&Line| line.marker == marker && (!same || line.key == key);
            lines.iter().find(is).map(|line| line.place.clone())
        };
        if let Some(place) = find(Marker::Revoked, true) {
            return Verdict::Revoked(place);
        }
        if find(Marker::None, true).is_some() {
            return Verdict::Known;
        }
        // For the host's own name alone: other ports of it may be other machines.
        let own = |line: &&&Line| {
            line.marker == Marker::None && names.iter().take(1).any(|n| line.is_about(n))
        };
        match (lines.iter().find(own), find(Marker::Authority, false)) {
            (Some(line), _) => Verdict::Changed(line.place.clone()),
            (None, Some(place)) => Verdict::Authority(place),
            (None, None) => Verdict::Unknown,
        }
    }

    /// The types of the keys known for the host, so that the server is asked for one of them.
    pub(super) fn kinds(&self, names: &[String]) -> Vec<&str> {
        let known = self.lines.iter().filter(|line| {
            line.marker == Marker::None && names.iter().any(|name| line.is_about(name))
        });
        known.map(|line| line.kind.as_str()).collect()
    }

    pub(crate) fn add(&mut self, text: &str, file: &str) {
        for (number, line) in (1..).zip(text.lines()) {
            // Like `ssh`, pass over what is no entry.
            self.lines
                .extend(Line::parse(line, &format!("{file}:{number}")));
        }
    }
}

impl Line {
    fn parse(text: &str, place: &str) -> Option<Line> {
        let mut words = text.split_ascii_whitespace().peekable();
        let marker = match words.peek()? {
            first if first.starts_with('#') => return None,
            &"@revoked" => Marker::Revoked,
            &"@cert-authority" => Marker::Authority,
            first if first.starts_with('@') => return None,
            _ => Marker::None,
        };
        if marker != Marker::None {
            words.next();
        }
        let (hosts, kind, key) = (words.next()?, words.next()?, words.next()?);
        Some(Line {
            marker,
            hosts: hosts.to_owned(),
            kind: kind.to_owned(),
            key: STANDARD.decode(key).ok()?,
            place: place.to_owned(),
        })
    }

    fn is_about(&self, name: &str) -> bool {
        if let Some(hashed) = self.hosts.strip_prefix("|1|") {
            return is_hash_of(hashed, name);
        }
        let mut matched = false;
        for pattern in self.hosts.split(',') {
            let pattern = pattern.to_lowercase();
            match pattern.strip_prefix('!') {
                Some(pattern) if is_match(pattern.as_bytes(), name.as_bytes()) => return false,
                Some(_) => {}
                None => matched |= is_match(pattern.as_bytes(), name.as_bytes()),
            }
        }
        matched
    }
}

/// Adds a key that the user trusts, as `ssh` would.
pub(super) fn append(
    file: &Path,
    name: &str,
    kind: &str,
    key: &[u8],
    hash: bool,
) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.exists()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
    }
    let mut opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    let name = match hash {
        true => hashed(name)?,
        false => name.to_owned(),
    };
    let line = format!("{name} {kind} {}\n", STANDARD.encode(key));
    // A last line without its end must not swallow this one.
    let broken = opened.metadata()?.len() > 0 && {
        let mut last = [0];
        opened.seek(SeekFrom::End(-1))?;
        opened.read_exact(&mut last)?;
        last != *b"\n"
    };
    let line = if broken { format!("\n{line}") } else { line };
    opened.write_all(line.as_bytes())
}

fn is_hash_of(salt_and_hash: &str, name: &str) -> bool {
    let Some((salt, hash)) = salt_and_hash.split_once('|') else {
        return false;
    };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else {
        return false;
    };
    mac(&salt, name).verify_slice(&hash).is_ok()
}

fn hashed(name: &str) -> io::Result<String> {
    let mut salt = [0; 20];
    fs::File::open("/dev/urandom")?.read_exact(&mut salt)?;
    let hash = mac(&salt, name).finalize().into_bytes();
    Ok(format!(
        "|1|{}|{}",
        STANDARD.encode(salt),
        STANDARD.encode(hash)
    ))
}

fn mac(salt: &[u8], name: &str) -> HmacSha1 {
    let mut mac = HmacSha1::new_from_slice(salt).expect("HMAC takes keys of every length");
    mac.update(name.as_bytes());
    mac
}

/// `*` stands for any characters and `?` for one. Linear in the text for each star: no hostile pattern is slow.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // Let the last star swallow one more.
                Some((at, swallowed)) => {
                    p = at + 1;
                    t = swallowed + 1;
                    star = Some((at, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    // Keys, as they are written and as they are.
    const OLD: (&str, &[u8]) = ("b2xk", b"old");
    const NEW: (&str, &[u8]) = ("bmV3", b"new");

    fn check(text: &str, name: &str, key: &[u8]) -> Verdict {
        let mut known = KnownHosts::default();
        known.add(text, "f");
        known.check(&[name.to_owned()], key)
    }

    #[test]
    fn plain_names_ports_wildcards_and_negation() {
        let text = format!(
            "# comment\n\nexample.com,10.0.0.1 ssh-ed25519 {k}\n[example.com]:2222 ssh-ed25519 {n} comment\n\
             *.corp,!bad.corp ssh-ed25519 {k}\nnode? ssh-rsa {k}\n",
            k = OLD.0,
            n = NEW.0
        );
        let known = |name, key| check(&text, name, key);
        assert_eq!(known("example.com", OLD.1), Verdict::Known);
        assert_eq!(known("10.0.0.1", OLD.1), Verdict::Known);
        assert_eq!(known("[example.com]:2222", NEW.1), Verdict::Known);
        assert_eq!(
            known("[example.com]:2222", OLD.1),
            Verdict::Changed("f:4".into())
        );
        assert_eq!(known("a.b.corp", OLD.1), Verdict::Known);
        assert_eq!(known("bad.corp", OLD.1), Verdict::Unknown);
        assert_eq!(known("node1", OLD.1), Verdict::Known);
        assert_eq!(known("node12", OLD.1), Verdict::Unknown);
        assert_eq!(known("other", OLD.1), Verdict::Unknown);
    }

    #[test]
    fn a_revoked_key_is_refused_whatever_else_is_known() {
        let text = format!(
            "host ssh-ed25519 {k}\n@revoked * ssh-ed25519 {k}\n",
            k = OLD.0
        );
        assert_eq!(check(&text, "host", OLD.1), Verdict::Revoked("f:2".into()));
        assert_eq!(check(&text, "host", NEW.1), Verdict::Changed("f:1".into()));
        assert_eq!(check(&text, "new", NEW.1), Verdict::Unknown);
    }

    #[test]
    fn an_authority_is_no_key_of_the_host() {
        let text = format!("@cert-authority *.corp ssh-ed25519 {}\n", OLD.0);
        let verdict = Verdict::Authority("f:1".into());
        assert_eq!(check(&text, "a.corp", OLD.1), verdict);
        assert_eq!(check(&text, "a.corp", NEW.1), verdict);
    }

    #[test]
    fn a_key_of_another_type_does_not_make_a_known_host_unknown() {
        let text = format!("host ssh-rsa {}\n", OLD.0);
        assert_eq!(check(&text, "host", NEW.1), Verdict::Changed("f:1".into()));
    }

    #[test]
    fn a_host_known_without_its_port_is_known_but_a_port_of_its_own_is_no_change() {
        let mut known = KnownHosts::default();
        known.add(&format!("host ssh-ed25519 {}\n", OLD.0), "f");
        let names = ["[host]:2222".to_owned(), "host".to_owned()];
        assert_eq!(known.check(&names, OLD.1), Verdict::Known);
        assert_eq!(known.check(&names, NEW.1), Verdict::Unknown);
    }

    #[test]
    fn hashed_names_are_found_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/known_hosts");
        append(&file, "example.com", "ssh-ed25519", OLD.1, true).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("|1|") && !text.contains("example"),
            "{text}"
        );
        assert_eq!(check(&text, "example.com", OLD.1), Verdict::Known);
        assert_eq!(check(&text, "example.org", OLD.1), Verdict::Unknown);
    }

    #[test]
    fn appending_does_not_touch_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        fs::write(&file, format!("a ssh-ed25519 {}", OLD.0)).unwrap();
        append(&file, "b", "ssh-ed25519", NEW.1, false).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(check(&text, "a", OLD.1), Verdict::Known);
        assert_eq!(check(&text, "b", NEW.1), Verdict::Known);
    }

    #[test]
    fn stars_do_not_backtrack_without_end() {
        let pattern = "*a".repeat(30) + "b";
        assert!(!is_match(pattern.as_bytes(), "a".repeat(5000).as_bytes()));
        assert!(is_match(b"*", b"") && is_match(b"a*b*c", b"axxbyyc") && !is_match(b"a*b", b"ac"));
    }
}
