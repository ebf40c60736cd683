use vela_protocol::ServiceCredentials;

const MASK: &str = "********";
/// A variable with one of these words in its name is a secret as a whole.
const SECRET: [&str; 5] = ["PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIALS"];

/// Covers what is secret: whole values by their names, the password of each URL, and wherever else it stands.
pub(super) fn mask(credentials: &mut ServiceCredentials) {
    for variables in credentials.kinds.values_mut() {
        let mut passwords: Vec<String> = Vec::new();
        for (name, value) in variables.iter() {
            match SECRET.iter().any(|word| name.contains(word)) {
                true => passwords.push(value.clone()),
                false => passwords.extend(password_of(value).map(str::to_owned)),
            }
        }
        // A short one would cover half of the table, and is no secret that is worth it.
        passwords.retain(|password| password.len() > 3);
        for (name, value) in variables.iter_mut() {
            if SECRET.iter().any(|word| name.contains(word)) {
                *value = MASK.to_owned();
                continue;
            }
            if let Some(password) = password_of(value) {
                *value = value.replacen(&format!(":{password}@"), &format!(":{MASK}@"), 1);
            }
            for password in &passwords {
                *value = value.replace(password, MASK);
            }
        }
    }
}

/// The password of a URL, as it stands there.
fn password_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user_info, _) = authority.rsplit_once('@')?;
    let (_, password) = user_info.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_left_anywhere() {
        let variables = [
            ("DATABASE_URL", "postgres://shop:hunter22@127.0.0.1:5/shop"),
            ("DATABASE_URL_B", "postgres://b:x@127.0.0.1:5/b"),
            ("DSN", "host=127.0.0.1 password=hunter22"),
            ("PGPASSWORD", "hunter22"),
            ("PGUSER", "shop"),
            ("API_TOKEN", "t"),
            ("PLAIN_URL", "http://127.0.0.1/@x:y"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut credentials = ServiceCredentials {
            kinds: [("postgres".to_owned(), variables.into())].into(),
        };
        mask(&mut credentials);
        let shown: Vec<_> = credentials.kinds["postgres"]
            .values()
            .map(String::as_str)
            .collect();
        assert_eq!(
            shown,
            [
                "********",
                "postgres://shop:********@127.0.0.1:5/shop",
                "postgres://b:********@127.0.0.1:5/b",
                "host=127.0.0.1 password=********",
                "********",
                "shop",
                "http://127.0.0.1/@x:y",
            ]
        );
    }
}
