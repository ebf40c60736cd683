use super::KIND;
use crate::{OwnerName, ServiceError, ServiceSpec};

/// Names that mean something else to the server.
const RESERVED: [&str; 5] = ["postgres", "template0", "template1", "public", "none"];

/// The databases that are asked for, in their order: at least one.
pub(super) fn wanted(owner: &OwnerName, spec: &ServiceSpec) -> Result<Vec<String>, ServiceError> {
    let names = if spec.databases.is_empty() {
        vec![owner.as_str().replace('-', "_")]
    } else {
        spec.databases.clone()
    };
    for (n, name) in names.iter().enumerate() {
        let invalid = |why| ServiceError::Invalid {
            kind: KIND,
            key: "databases",
            value: name.chars().take(80).collect(),
            why,
        };
        if RESERVED.contains(&name.as_str()) || name.starts_with("pg_") {
            return Err(invalid("the server keeps that name for itself"));
        }
        if !is_name(name) {
            return Err(invalid(
                "it is not a name of letters, digits, `_` and `-`, starting with a letter, of at \
                 most 63",
            ));
        }
        if names[..n]
            .iter()
            .any(|other| variable(other) == variable(name))
        {
            return Err(invalid("two databases would have one variable"));
        }
    }
    for extension in &spec.extensions {
        if !is_name(extension) {
            return Err(ServiceError::Invalid {
                kind: KIND,
                key: "extensions",
                value: extension.chars().take(80).collect(),
                why: "it is not the name of an extension",
            });
        }
    }
    Ok(names)
}

/// The variable that holds the url of a database.
pub(super) fn variable(database: &str) -> String {
    let name = database.to_ascii_uppercase().replace('-', "_");
    format!("DATABASE_URL_{name}")
}

fn is_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: &str, databases: &[&str]) -> Result<Vec<String>, ServiceError> {
        let spec = ServiceSpec {
            databases: databases.iter().map(|&name| name.to_owned()).collect(),
            ..ServiceSpec::default()
        };
        wanted(&OwnerName::parse(owner).unwrap(), &spec)
    }

    #[test]
    fn one_of_the_owners_name_or_what_is_asked_for() {
        assert_eq!(of("my-app", &[]).unwrap(), ["my_app"]);
        assert_eq!(of("my-app", &["b", "A-1"]).unwrap(), ["b", "A-1"]);
        assert_eq!(variable("my-App"), "DATABASE_URL_MY_APP");
    }

    #[test]
    fn names_that_cannot_be() {
        let long = "a".repeat(64);
        for names in [
            &["postgres"][..],
            &["template1"],
            &["public"],
            &["pg_x"],
            &["1a"],
            &["a b"],
            &["a\"b"],
            &[""],
            &[&long],
            &["a-b", "a_b"],
            &["a", "A"],
        ] {
            assert!(
                matches!(of("my-app", names), Err(ServiceError::Invalid { .. })),
                "{names:?}"
            );
        }
        let error = of("postgres", &[]).unwrap_err();
        assert!(error.hint().unwrap().contains("databases"));
    }
}
