use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit, Mac};

use crate::ssh::known_hosts::{KnownHosts, Verdict};

/// The bytes are what known_hosts files have, behind a line with a host's names and its key.
pub(super) fn known_host(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((asked, lines)) = text.split_once('\n') else {
        return;
    };
    let mut asked = asked.split(' ');
    let key = asked.next_back().and_then(|key| STANDARD.decode(key).ok());
    let (Some(key), names) = (key, asked.map(str::to_lowercase).collect::<Vec<_>>()) else {
        return;
    };
    let mut known = KnownHosts::default();
    known.add(lines, "f");
    let verdict = known.check(&names, &key);
    assert_eq!(verdict, wanted(lines, &names, &key), "{names:?} of {lines}");
}

/// By the manual page of sshd: a revoked key before all, then a known one, then that of another.
fn wanted(lines: &str, names: &[String], key: &[u8]) -> Verdict {
    let (mut known, mut revoked, mut authority, mut changed) = (false, None, None, None);
    for (number, line) in lines.split('\n').enumerate() {
        let place = || Some(format!("f:{}", number + 1));
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let (marker, words) = match words[..] {
            [marker @ ("@revoked" | "@cert-authority"), ref words @ ..] => (marker, words),
            [first, ..] if first.starts_with(['#', '@']) => continue,
            ref words => ("", words),
        };
        let [hosts, _, theirs, ..] = words else {
            continue;
        };
        let Ok(theirs) = STANDARD.decode(theirs) else {
            continue;
        };
        let about: Vec<_> = names.iter().map(|name| is_about(hosts, name)).collect();
        if !about.contains(&true) {
            continue;
        }
        match (marker, theirs == key) {
            ("@revoked", true) => revoked = revoked.or_else(place),
            ("@revoked", false) => {}
            ("@cert-authority", _) => authority = authority.or_else(place),
            (_, true) => known = true,
            (_, false) if about[0] => changed = changed.or_else(place),
            _ => {}
        }
    }
    match (revoked, changed, authority) {
        (Some(place), _, _) => Verdict::Revoked(place),
        _ if known => Verdict::Known,
        (_, Some(place), _) => Verdict::Changed(place),
        (_, _, Some(place)) => Verdict::Authority(place),
        _ => Verdict::Unknown,
    }
}

fn is_about(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        let parts: Vec<_> = hashed
            .split('|')
            .map(|part| STANDARD.decode(part))
            .collect();
        let [Ok(salt), Ok(hash)] = &parts[..] else {
            return false;
        };
        let mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(salt);
        let mut mac = mac.expect("HMAC takes keys of every length");
        mac.update(name.as_bytes());
        return mac.finalize().into_bytes()[..] == hash[..];
    }
    let hosts = hosts.to_lowercase();
    let (no, yes): (Vec<_>, Vec<_>) = hosts.split(',').partition(|one| one.starts_with('!'));
    let is = |pattern: &str| fits(pattern.as_bytes(), name.as_bytes());
    yes.into_iter().any(is) && !no.iter().any(|pattern| is(&pattern[1..]))
}

/// Which beginnings of the text each beginning of the pattern fits, one after another.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut fits: Vec<bool> = (0..=text.len()).map(|length| length == 0).collect();
    for byte in pattern {
        let before = fits.clone();
        for length in 0..=text.len() {
            fits[length] = match byte {
                b'*' => before[..=length].contains(&true),
                b'?' => length > 0 && before[length - 1],
                byte => length > 0 && before[length - 1] && text[length - 1] == *byte,
            };
        }
    }
    fits[text.len()]
}
