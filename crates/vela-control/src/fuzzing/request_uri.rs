use hyper::{Request, Uri};
use uuid::Uuid;

use crate::server::request::{id, query, segments};

/// The bytes are the target of a request to the API.
pub(super) fn request_uri(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else {
        return;
    };
    let path = uri.path();
    let split = path.trim_start_matches('/').split('/');
    let wanted: Option<Vec<_>> = split.map(|one| decoded(one.as_bytes())).collect();
    assert_eq!(segments(path).ok(), wanted, "{path}");
    for segment in wanted.iter().flatten() {
        let canonical = id(segment).ok().map(|id| id.to_string());
        let digits = |text: &str| {
            let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
            let digits = text.chars().filter(|one| !"{-}".contains(*one));
            digits.collect::<String>().to_lowercase()
        };
        if let Some(canonical) = canonical {
            assert_eq!(digits(segment), digits(&canonical));
        } else {
            assert!(Uuid::try_parse(segment).is_err());
        }
    }

    let request = Request::builder().uri(&uri).body(());
    let (head, ()) = request.expect("it has been parsed").into_parts();
    let said = uri.query().unwrap_or_default();
    for key in ["lines", "follow"] {
        let is_it = |pair: &&str| {
            pair.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('='))
        };
        let value = said
            .split('&')
            .find(is_it)
            .map(|pair| &pair[key.len() + 1..]);
        let number = query::<u64>(&head, key).map_err(drop);
        assert_eq!(number, value.map(number_of).transpose(), "{said}");
        let truth = query::<bool>(&head, key).map_err(drop);
        assert_eq!(truth, value.map(truth_of).transpose(), "{said}");
        let text = query::<String>(&head, key).map_err(drop);
        assert_eq!(text, Ok(value.map(Into::into)), "{said}");
    }
}

/// RFC 3986, 2.1, and no other text than UTF-8.
fn decoded(segment: &[u8]) -> Option<String> {
    let (mut text, mut rest) = (Vec::new(), segment);
    loop {
        match rest {
            [] => return String::from_utf8(text).ok(),
            [b'%', high, low, behind @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                text.push((digit(high)? * 16 + digit(low)?) as u8);
                rest = behind;
            }
            [b'%', ..] => return None,
            [byte, behind @ ..] => {
                text.push(*byte);
                rest = behind;
            }
        }
    }
}

fn number_of(text: &str) -> Result<u64, ()> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let mut number = Some(0_u64).filter(|_| !digits.is_empty());
    for digit in digits.chars() {
        let digit = digit.to_digit(10).ok_or(())?;
        number = number.and_then(|number| number.checked_mul(10)?.checked_add(digit.into()));
    }
    number.ok_or(())
}

fn truth_of(text: &str) -> Result<bool, ()> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(()),
    }
}
