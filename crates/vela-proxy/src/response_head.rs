use std::mem::MaybeUninit;

use crate::Limits;
use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::field::{Field, elements, number};
use crate::flow::Flow;
use crate::lines::Lines;
use crate::request_head::Asked;

/// What an upstream's response head says to the proxy.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// How the body gets to the client.
    pub(crate) flow: Flow,
    /// The upstream's connection may serve another request.
    pub(crate) upstream_stays: bool,
    /// The client's connection may serve another request.
    pub(crate) client_stays: bool,
    /// Server-sent events: a response that goes on until one side leaves.
    pub(crate) is_event_stream: bool,
}

/// Not a response that could be passed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads an upstream's response head, and writes the head that the client gets. The interim ones,
/// except `101`, are passed on too, when the client knows them.
pub(crate) fn translate(
    head: &[u8],
    limits: &Limits,
    asked: &Asked,
    may_stay: bool,
    hsts: Option<&str>,
    out: &mut Buffer,
) -> Result<Answered, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; 128];
    let mut more_fields = Vec::new();
    let fields = match fields.get_mut(..limits.headers) {
        Some(fields) => fields,
        None => {
            more_fields.resize_with(limits.headers, MaybeUninit::uninit);
            &mut more_fields[..]
        }
    };
    let mut response = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        fields,
    ) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        _ => return Err(Malformed),
    }
    let (Some(version), Some(status)) = (response.version, response.code) else {
        return Err(Malformed);
    };
    if status < 100 {
        return Err(Malformed);
    }
    let said = Said::by(response.headers)?;
    let is_interim = (100..200).contains(&status);
    let has_no_body = asked.is_head || is_interim || status == 204 || status == 304;
    let is_chunked = said.is_chunked;
    if is_chunked && version == 0 {
        return Err(Malformed);
    }
    let flow = match (is_chunked, said.length) {
        _ if has_no_body => Flow::length(0),
        (true, _) => Flow::chunks(Chunks::default(), asked.is_http11, asked.takes_trailers),
        (false, Some((_, length))) => Flow::length(length),
        (false, None) => Flow::until_close(asked.is_http11),
    };
    let client_stays = may_stay && asked.keep_alive && !flow.ends_by_closing();

    if !is_interim || (asked.is_http11 && status != 100) {
        out.append(b"HTTP/1.1 ");
        let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
        out.append(&digits);
        out.append(b" ");
        out.append(response.reason.unwrap_or_default().as_bytes());
        out.append(b"\r\n");
        let is_named = |name: &[u8]| said.named.iter().any(|one| one.eq_ignore_ascii_case(name));
        let passes = |field: Field, name: &[u8]| match field {
            Field::Trailer => true,
            Field::Connection
            | Field::ContentLength
            | Field::HopByHop
            | Field::ProxyAuthenticate
            | Field::Te
            | Field::TransferEncoding
            | Field::Upgrade => false,
            _ => !is_named(name),
        };
        Lines::of(head, response.headers).copy(passes, out);
        match said.length {
            Some((digits, _)) if !is_chunked && !is_interim && status != 204 => {
                out.append(b"content-length: ");
                out.append(digits);
                out.append(b"\r\n");
            }
            _ if flow.to_chunks() || (is_chunked && asked.is_head && asked.is_http11) => {
                out.append(b"transfer-encoding: chunked\r\n");
            }
            _ => {}
        }
        // 426 says what to upgrade to, and must (RFC 9110, 15.5.22).
        let protocol = said.upgrade.filter(|_| status == 101 || status == 426);
        if let Some(protocol) = protocol {
            out.append(b"upgrade: ");
            out.append(protocol);
            out.append(b"\r\n");
        }
        if let Some(value) = hsts.filter(|_| !is_interim && !has_hsts(response.headers)) {
            out.append(b"strict-transport-security: ");
            out.append(value.as_bytes());
            out.append(b"\r\n");
        }
        let connection: &[u8] = match (protocol.is_some(), client_stays) {
            (true, true) => b"connection: upgrade\r\n",
            _ if status == 101 => b"connection: upgrade\r\n",
            _ if is_interim => b"",
            (true, false) => b"connection: upgrade, close\r\n",
            (false, false) => b"connection: close\r\n",
            (false, true) if !asked.is_http11 => b"connection: keep-alive\r\n",
            (false, true) => b"",
        };
        out.append(connection);
        out.append(b"\r\n");
    }
    Ok(Answered {
        status,
        flow,
        upstream_stays: !said.closes
            && (version == 1 || said.names_keep_alive)
            && !(said.is_chunked && said.length.is_some()),
        client_stays,
        is_event_stream: said.is_event_stream,
    })
}

/// An app's own goes before the proxy's.
fn has_hsts(headers: &[httparse::Header<'_>]) -> bool {
    let name = "strict-transport-security";
    headers
        .iter()
        .any(|one| one.name.eq_ignore_ascii_case(name))
}

/// The fields that the proxy needs to know.
#[derive(Debug, Default)]
struct Said<'a> {
    /// As it was written, and its value.
    length: Option<(&'a [u8], u64)>,
    is_chunked: bool,
    upgrade: Option<&'a [u8]>,
    is_event_stream: bool,
    closes: bool,
    names_keep_alive: bool,
    /// What else `Connection` names.
    named: Vec<&'a [u8]>,
}

impl<'a> Said<'a> {
    fn by(headers: &[httparse::Header<'a>]) -> Result<Said<'a>, Malformed> {
        let mut said = Said::default();
        for header in headers {
            let value = header.value;
            match Field::of(header.name.as_bytes()) {
                Field::ContentLength => said.add_length(value)?,
                Field::TransferEncoding => {
                    if said.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed);
                    }
                    said.is_chunked = true;
                }
                Field::ContentType => {
                    let essence = value.split(|&byte| byte == b';').next().unwrap_or_default();
                    said.is_event_stream = essence
                        .trim_ascii()
                        .eq_ignore_ascii_case(b"text/event-stream");
                }
                Field::Upgrade => said.upgrade = said.upgrade.or(Some(value)),
                Field::Connection => {
                    for name in elements(value) {
                        if name.eq_ignore_ascii_case(b"close") {
                            said.closes = true;
                        } else if name.eq_ignore_ascii_case(b"keep-alive") {
                            said.names_keep_alive = true;
                        } else {
                            said.named.push(name);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// One number, or the same one again and again, as `5, 5` also is.
    fn add_length(&mut self, value: &'a [u8]) -> Result<(), Malformed> {
        for digits in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let length = number(digits).ok_or(Malformed)?;
            match self.length {
                Some((_, other)) if other != length => return Err(Malformed),
                Some(_) => {}
                None => self.length = Some((digits, length)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        is_head: false,
        is_idempotent: true,
        is_http11: true,
        keep_alive: true,
        expects_continue: false,
        takes_trailers: false,
        upgrades: false,
    };

    fn translated(head: &str, asked: &Asked) -> Result<(String, Answered), Malformed> {
        let mut out = Buffer::default();
        let answered = translate(
            head.as_bytes(),
            &Limits::default(),
            asked,
            true,
            None,
            &mut out,
        )?;
        Ok((String::from_utf8(out.filled().to_vec()).unwrap(), answered))
    }

    #[test]
    fn a_length_is_one_number_or_none() {
        for (lengths, normal) in [
            (&["5"][..], Some("5")),
            (&["5, 5"], Some("5")),
            (&["5", "5,5"], Some("5")),
            (&["5, 6"], None),
            (&["5", "6"], None),
            (&["+5"], None),
            (&["5,"], None),
            (&[""], None),
            (&["x"], None),
            (&["-1"], None),
            (&["18446744073709551616"], None),
        ] {
            let lines: Vec<_> = lengths
                .iter()
                .map(|one| format!("Content-Length: {one}\r\n"))
                .collect();
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.concat());
            let text = translated(&head, &ASKED).map(|(text, _)| text);
            let wanted =
                normal.map(|normal| format!("HTTP/1.1 200 OK\r\ncontent-length: {normal}\r\n\r\n"));
            assert_eq!(text.ok(), wanted, "{lengths:?}");
        }
    }

    #[test]
    fn bodies_are_framed_for_who_gets_them() {
        let old = Asked {
            is_http11: false,
            ..ASKED
        };
        let head = Asked {
            is_head: true,
            ..ASKED
        };
        for (fields, asked, framing) in [
            ("", &ASKED, "transfer-encoding: chunked\r\n"),
            ("", &old, "connection: close\r\n"),
            ("", &head, ""),
            (
                "Transfer-Encoding: Chunked\r\n",
                &ASKED,
                "transfer-encoding: chunked\r\n",
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                &old,
                "connection: close\r\n",
            ),
            (
                "Transfer-Encoding: chunked\r\n",
                &head,
                "transfer-encoding: chunked\r\n",
            ),
            (
                "Content-Length: 9\r\n",
                &old,
                "content-length: 9\r\nconnection: keep-alive\r\n",
            ),
            ("Content-Length: 9\r\n", &head, "content-length: 9\r\n"),
            (
                "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
                &ASKED,
                "transfer-encoding: chunked\r\n",
            ),
        ] {
            let (text, _) = translated(
                &format!("HTTP/1.0 200 OK\r\n{fields}\r\n").replace(
                    "1.0",
                    if fields.contains("hunked") {
                        "1.1"
                    } else {
                        "1.0"
                    },
                ),
                asked,
            )
            .unwrap();
            assert_eq!(
                text,
                format!("HTTP/1.1 200 OK\r\n{framing}\r\n"),
                "{fields} {asked:?}"
            );
        }
        for malformed in [
            "gzip, chunked",
            "chunked\r\nTransfer-Encoding: chunked",
            "identity",
            "",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {malformed}\r\n\r\n");
            assert_eq!(
                translated(&head, &ASKED).unwrap_err(),
                Malformed,
                "{malformed}"
            );
        }
    }

    #[test]
    fn interim_responses_pass_to_those_who_know_them() {
        let old = Asked {
            is_http11: false,
            ..ASKED
        };
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(translated(hints, &ASKED).unwrap().0, hints);
        assert_eq!(translated(hints, &old).unwrap().0, "");
        assert_eq!(
            translated("HTTP/1.1 100 Continue\r\n\r\n", &ASKED)
                .unwrap()
                .0,
            ""
        );
    }

    #[test]
    fn what_to_upgrade_to_is_said() {
        let head = "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\nX-Y: 1\r\n\r\n";
        assert_eq!(
            translated(head, &ASKED).unwrap().0,
            "HTTP/1.1 101 Switching\r\nX-Y: 1\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
        );
    }
}
