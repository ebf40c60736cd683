use futures::FutureExt;

use super::*;

/// The bytes are what a server says after its greeting.
pub(crate) fn said(bytes: &[u8]) {
    let writer = Arc::new(Mutex::new(Vec::new()));
    let mut reader = Reader {
        reader: BufReader::new(bytes),
        writer: Arc::clone(&writer),
    };
    let mut events = Vec::new();
    loop {
        let next = reader.next().now_or_never();
        match next.expect("it is never to be waited for") {
            Ok(event) => events.push(event),
            Err(_) => break,
        }
    }
    let (wanted, asked) = understood(bytes);
    assert_eq!(events, wanted, "{}", bytes.escape_ascii());
    let answers = writer.try_lock().expect("nobody else has it").clone();
    assert_eq!(answers, b"PONG\r\n".repeat(asked));
}

/// The same by the protocol's documentation, from bytes that are all there: the events, and how
/// often the server has asked whether we are there.
fn understood(mut bytes: &[u8]) -> (Vec<Event>, usize) {
    let (mut events, mut asked) = (Vec::new(), 0);
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let line = line.trim_end();
        bytes = &bytes[end + 1..];
        let verb = line.split(' ').next().unwrap_or_default();
        let words: Vec<_> = line[verb.len()..].split_ascii_whitespace().collect();
        let (least, has_head) = match verb.to_ascii_uppercase().as_str() {
            "MSG" => (3, false),
            "HMSG" => (4, true),
            "PONG" => {
                events.push(Event::Pong);
                continue;
            }
            "PING" => {
                asked += 1;
                continue;
            }
            "-ERR" => {
                let why = line[verb.len()..].trim().trim_matches('\'');
                events.push(Event::Refused(why.to_owned()));
                continue;
            }
            _ => continue,
        };
        if words.len() < least {
            continue;
        }
        let number = |at: usize| words[at].parse::<usize>().ok();
        let head = match has_head {
            true => number(words.len() - 2),
            false => Some(0),
        };
        let (Some(head), Some(length)) = (head, number(words.len() - 1)) else {
            break;
        };
        let (Ok(sid), true) = (words[1].parse(), head <= length) else {
            break;
        };
        let Some((payload, rest)) = length
            .checked_add(2)
            .and_then(|length| bytes.split_at_checked(length))
        else {
            break;
        };
        bytes = rest;
        let nobody = String::from_utf8_lossy(&payload[..head]).starts_with("NATS/1.0 503");
        events.push(Event::Message {
            subject: words[0].to_owned(),
            sid,
            text: match nobody {
                true => "(nobody answers on that subject)".to_owned(),
                false => String::from_utf8_lossy(&payload[head..length]).into_owned(),
            },
        });
    }
    (events, asked)
}
