/// The header fields that the proxy does more about than to pass them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Any other: it passes.
    Other,
    Connection,
    ContentLength,
    ContentType,
    Expect,
    Host,
    ProxyAuthenticate,
    ProxyAuthorization,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    /// For one connection only, whether `Connection` names it or not.
    HopByHop,
    /// What clients say about who they are and when they asked: nobody vouches for it.
    Claim,
}

impl Field {
    pub(crate) fn of(name: &[u8]) -> Field {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        // By length first: most names are none of these.
        match name.len() {
            2 if is(b"te") => Field::Te,
            4 if is(b"host") => Field::Host,
            // CGI servers take it for the variable that names a proxy for what they request
            // themselves (httpoxy).
            5 if is(b"proxy") => Field::Claim,
            6 if is(b"expect") => Field::Expect,
            7 if is(b"upgrade") => Field::Upgrade,
            7 if is(b"trailer") => Field::Trailer,
            9 if is(b"forwarded") || is_like(name, b"x-real-ip") => Field::Claim,
            10 if is(b"connection") => Field::Connection,
            10 if is(b"keep-alive") => Field::HopByHop,
            12 if is(b"content-type") => Field::ContentType,
            12 if is_like(name, b"x-request-id") => Field::Claim,
            14 if is(b"content-length") => Field::ContentLength,
            14 if is(b"http2-settings") => Field::HopByHop,
            // A server that takes `_` for `-` would find another end of the message.
            14 if is_like(name, b"content-length") => Field::HopByHop,
            17 if is_like(name, b"transfer-encoding") && !is(b"transfer-encoding") => {
                Field::HopByHop
            }
            15 if is_like(name, b"x-request-start") => Field::Claim,
            16 if is(b"proxy-connection") => Field::HopByHop,
            17 if is(b"transfer-encoding") => Field::TransferEncoding,
            18 if is(b"proxy-authenticate") => Field::ProxyAuthenticate,
            19 if is(b"proxy-authorization") => Field::ProxyAuthorization,
            12.. if is_like(&name[..12], b"x-forwarded-") => Field::Claim,
            _ => Field::Other,
        }
    }

    /// Whether it would change, in a trailer, what the head has said about the message.
    pub(crate) fn may_be_trailer(self) -> bool {
        matches!(self, Field::Other)
    }
}

/// CGI and WSGI servers take `X_Forwarded_For` and `X-Forwarded-For` for the same.
fn is_like(name: &[u8], known: &[u8]) -> bool {
    name.iter().zip(known).all(|(&byte, &wanted)| {
        byte.eq_ignore_ascii_case(&wanted) || (byte == b'_' && wanted == b'-')
    })
}

/// The elements of a comma-separated value, the empty ones left out.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|one| !one.is_empty())
}

/// A number as a `Content-Length` has it: nothing but digits, and no more than 63 bits, since many servers count with
/// a sign.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0i64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, field) in [
            ("Host", Field::Host),
            ("tE", Field::Te),
            ("Transfer-Encoding", Field::TransferEncoding),
            ("CONTENT-LENGTH", Field::ContentLength),
            ("Keep-Alive", Field::HopByHop),
            ("X-Forwarded-For", Field::Claim),
            ("x_forwarded_for", Field::Claim),
            ("X-Forwarded-Anything", Field::Claim),
            ("x_Real-IP", Field::Claim),
            ("X-Request-ID", Field::Claim),
            ("x_request_id", Field::Claim),
            ("X-Request_Start", Field::Claim),
            ("X-Request-Ids", Field::Other),
            ("Proxy", Field::Claim),
            ("Content_Length", Field::HopByHop),
            ("transfer_encoding", Field::HopByHop),
            ("X-Real-IP-Not", Field::Other),
            ("X-Forwarded", Field::Other),
            ("Cookie", Field::Other),
            ("", Field::Other),
        ] {
            assert_eq!(Field::of(name.as_bytes()), field, "{name}");
        }
    }

    #[test]
    fn a_number_is_digits_only() {
        assert_eq!(number(b"0018"), Some(18));
        assert_eq!(number(b"9223372036854775807"), Some(u64::MAX / 2));
        for text in ["", "+1", "-1", "1 ", "0x1", "1_0", "9223372036854775808"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
