use crate::{OwnerName, ServiceError};

use super::KIND;

/// The subjects of one owner's messages: those that start with its name, as it is and with `_`
/// for `-`, and what it has asked for beside. Each of them can stand in the configuration as it
/// is: it has no character that means something there.
pub(super) fn subjects(owner: &OwnerName, more: &[String]) -> Vec<String> {
    let name = owner.as_str();
    let mut found = vec![name.to_owned(), format!("{name}.>")];
    if name.contains('-') {
        let name = name.replace('-', "_");
        found.extend([name.clone(), format!("{name}.>")]);
    }
    for subject in more {
        if !found.contains(subject) {
            found.push(subject.clone());
        }
    }
    found
}

/// Refuses what is no subject of an owner's. Names of letters, digits, `_` and `-`; the first one
/// a name that starts with a letter or a digit, so that `>`, `_INBOX` and `$JS` are nobody's; then
/// also `*`, and `>` as the last.
pub(super) fn check(subjects: &[String]) -> Result<(), ServiceError> {
    const MOST: usize = 100;
    let invalid = |value: &str, why| ServiceError::Invalid {
        kind: KIND,
        key: "subjects",
        value: value
            .chars()
            .take(80)
            .flat_map(char::escape_debug)
            .collect(),
        why,
    };
    if subjects.len() > MOST {
        return Err(invalid(
            &subjects.len().to_string(),
            "at most 100 can be asked for",
        ));
    }
    match subjects.iter().find(|subject| !is_subject(subject)) {
        Some(subject) => Err(invalid(
            subject,
            "a subject is names of letters, digits, `_` and `-` joined by dots, after the first \
             also `*`, and `>` as the last",
        )),
        None => Ok(()),
    }
}

fn is_subject(subject: &str) -> bool {
    let is_name = |token: &str| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let tokens = subject.strip_suffix(".>").unwrap_or(subject);
    subject.len() <= 255
        && tokens.split('.').enumerate().all(|(index, token)| {
            let is_own = index > 0 || !token.starts_with('_');
            (is_name(token) && is_own) || (token == "*" && index > 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_its_name_in_both_spellings() {
        let own = |name: &str, more: &[&str]| {
            let more: Vec<_> = more.iter().map(|&subject| subject.to_owned()).collect();
            subjects(&OwnerName::parse(name).unwrap(), &more)
        };
        assert_eq!(
            own("shop", &["orders.>", "shop"]),
            ["shop", "shop.>", "orders.>"]
        );
        assert_eq!(
            own("my-app", &[]),
            ["my-app", "my-app.>", "my_app", "my_app.>"]
        );
    }

    #[test]
    fn nothing_that_means_something_else() {
        for subject in ["orders", "orders.>", "a.*.b.>", "A_1-b.c", "a.*"] {
            assert!(check(&[subject.into()]).is_ok(), "{subject}");
        }
        let long = "a".repeat(256);
        for subject in [
            "",
            ">",
            "*",
            "*.a",
            "a..b",
            ".a",
            "a.",
            "_INBOX.>",
            "$JS.API.>",
            "$SYS.>",
            "a b",
            "a\t",
            "a.>.b",
            "a*",
            "a>",
            "a\"",
            "a\\",
            "a\n}",
            "a, >",
            "a.é",
            "a.>.>",
            "a#",
            "a//",
            &long,
        ] {
            assert!(check(&[subject.into()]).is_err(), "{subject:?}");
        }
        assert!(check(&vec!["a".to_owned(); 101]).is_err());
        let error = check(&["a\"\n}".into()]).unwrap_err().to_string();
        assert!(
            error.starts_with(r#"`nats` cannot have `a\"\n}` in `subjects`"#),
            "{error}"
        );
    }
}
