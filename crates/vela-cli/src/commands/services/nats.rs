//! A console for NATS, for a server without the `nats` command.
//!
//! It speaks the protocol itself: a handful of lines of text over loopback, for which a client library with TLS,
//! clusters and reconnection would more than double what the laptop's `vela` is made of.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::console::decoded;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::printable;

/// How long the server may take to let us in.
const GREETING: Duration = Duration::from_secs(10);
/// How long to wait for an answer, and for what is still under way at the end.
const ANSWER: Duration = Duration::from_secs(2);
/// The longest payload that is read; servers allow 1 MiB unless told otherwise.
const LONGEST: usize = 64 << 20;
/// The subscription that answers arrive by.
const INBOX: u32 = 1;

const HELP: &str = "\
sub SUBJECT         show the messages of a subject; `*` and `>` are wildcards
unsub SUBJECT       show them no more
pub SUBJECT [TEXT]  publish a message
req SUBJECT [TEXT]  publish a message, and show the first answer
quit                as the end of the input does";

/// Reads commands from stdin until its end; what arrives goes to stdout.
pub(super) async fn console(
    context: &Context,
    variables: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let url = variables.get("NATS_URL").map(String::as_str);
    let address = url.and_then(Address::of_url).ok_or_else(|| {
        Failure::new("the service gives no NATS_URL of the form nats://user:password@host:port")
            .with_hint("the `nats` command knows other forms: give its arguments after `--`")
    })?;
    let greeted = tokio::time::timeout(GREETING, Session::open(&address)).await;
    let lost = |error: io::Error| {
        Failure::because(format!("cannot talk to nats at {}", address.host), &error)
    };
    let mut session = greeted
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(lost)?;
    context.screen.message(&format!(
        "connected to nats at {}; `help` lists the commands",
        address.host
    ));
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = input.next_line() => {
                let line = line.map_err(|error| Failure::because("cannot read stdin", &error))?;
                match line.as_deref().map(str::trim) {
                    None | Some("quit" | "exit") => break,
                    Some("") => {}
                    Some("help") => context.screen.message(HELP),
                    Some(line) => match session.obey(line).await.map_err(lost)? {
                        true => {}
                        false => context.screen.warning("there is no such command; `help` lists them"),
                    },
                }
            }
            event = session.events.recv() => match event {
                Some(event) => show(context, &mut session, event?)?,
                None => return Err(Failure::new("the server has ended the connection")),
            },
        }
    }
    // What was asked for last is answered, or refused, before the end.
    session.write("PING\r\n").await.map_err(lost)?;
    let rest = async {
        let mut ponged = false;
        while !ponged || session.awaited > 0 {
            match session.events.recv().await {
                Some(Ok(Event::Pong)) => ponged = true,
                Some(event) => show(context, &mut session, event?)?,
                None => break,
            }
        }
        Ok(())
    };
    // Nobody answered in time.
    tokio::time::timeout(ANSWER, rest).await.unwrap_or(Ok(()))
}

fn show(context: &Context, session: &mut Session, event: Event) -> Result<(), Failure> {
    match event {
        Event::Pong => Ok(()),
        Event::Refused(why) => {
            session.awaited = session.awaited.saturating_sub(1);
            context
                .screen
                .warning(&format!("the server says: {}", printable(&why)));
            Ok(())
        }
        Event::Message { subject, sid, text } => {
            if sid != INBOX {
                let line = format!("{}: {}", printable(&subject), printable(&text));
                return context.screen.result(&line);
            }
            session.awaited = session.awaited.saturating_sub(1);
            context.screen.result(&printable(&text))
        }
    }
}

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Message {
        subject: String,
        sid: u32,
        text: String,
    },
    Refused(String),
    Pong,
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    host: String,
    user: String,
    password: String,
}

impl Address {
    fn of_url(url: &str) -> Option<Address> {
        let rest = url.strip_prefix("nats://")?.trim_end_matches('/');
        let (user_info, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(Address {
            host: match has_port {
                true => host.to_owned(),
                false => format!("{host}:4222"),
            },
            user: decoded(user)?,
            password: decoded(password)?,
        })
    }
}

struct Session {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    events: mpsc::Receiver<Result<Event, Failure>>,
    inbox: String,
    subscriptions: BTreeMap<String, u32>,
    last_sid: u32,
    /// Answers that have not come yet.
    awaited: u32,
}

impl Session {
    async fn open(address: &Address) -> io::Result<Session> {
        let (reader, writer) = TcpStream::connect(&address.host).await?.into_split();
        let writer = Arc::new(Mutex::new(writer));
        let mut reader = Reader {
            reader: BufReader::new(reader),
            writer: Arc::clone(&writer),
        };
        let connect = json!({
            "verbose": false, "pedantic": false, "echo": true, "protocol": 1,
            "headers": true, "no_responders": true,
            "lang": "vela", "version": env!("CARGO_PKG_VERSION"), "name": "vela services console",
            "user": address.user, "pass": address.password,
        });
        let inbox = format!("_INBOX.{}", Uuid::new_v4().simple());
        let (events, received) = mpsc::channel(16);
        let mut session = Session {
            writer,
            events: received,
            inbox,
            subscriptions: BTreeMap::new(),
            last_sid: INBOX,
            awaited: 0,
        };
        session
            .write(&format!("CONNECT {connect}\r\nPING\r\n"))
            .await?;
        match reader.next().await? {
            Event::Pong => {}
            Event::Refused(why) => return Err(io::Error::other(why)),
            Event::Message { .. } => return Err(io::ErrorKind::InvalidData.into()),
        }
        tokio::spawn(async move {
            loop {
                let lost = |error| Failure::because("the connection to nats is lost", &error);
                let event: Result<Event, Failure> = reader.next().await.map_err(lost);
                let ended = event.is_err();
                if events.send(event).await.is_err() || ended {
                    return;
                }
            }
        });
        let inbox = format!("SUB {}.* {INBOX}\r\n", session.inbox);
        session.write(&inbox).await?;
        Ok(session)
    }

    /// Does what a line says; no, if it says nothing that is known.
    async fn obey(&mut self, line: &str) -> io::Result<bool> {
        let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (subject, text) = match rest.trim_start().split_once(char::is_whitespace) {
            Some((subject, text)) => (subject, text.trim_start()),
            None => (rest.trim(), ""),
        };
        if subject.is_empty() || subject.contains(|c: char| c.is_control()) {
            return Ok(false);
        }
        match verb {
            "sub" => {
                self.last_sid += 1;
                let sid = self.last_sid;
                // The second of the same subject would show each message twice.
                if self.subscriptions.contains_key(subject) {
                    return Ok(true);
                }
                self.subscriptions.insert(subject.to_owned(), sid);
                self.write(&format!("SUB {subject} {sid}\r\n")).await?;
            }
            "unsub" => {
                if let Some(sid) = self.subscriptions.remove(subject) {
                    self.write(&format!("UNSUB {sid}\r\n")).await?;
                }
            }
            "pub" => {
                let length = text.len();
                self.write(&format!("PUB {subject} {length}\r\n{text}\r\n"))
                    .await?;
            }
            "req" => {
                self.awaited += 1;
                let reply = format!("{}.{}", self.inbox, self.awaited);
                let length = text.len();
                self.write(&format!("PUB {subject} {reply} {length}\r\n{text}\r\n"))
                    .await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        self.writer.lock().await.write_all(text.as_bytes()).await
    }
}

struct Reader<R = OwnedReadHalf, W = OwnedWriteHalf> {
    reader: BufReader<R>,
    writer: Arc<Mutex<W>>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Reader<R, W> {
    /// The next thing that the server says which is of interest.
    async fn next(&mut self) -> io::Result<Event> {
        loop {
            let line = self.line().await?;
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let fields: Vec<_> = rest.split_ascii_whitespace().collect();
            match (verb.to_ascii_uppercase().as_str(), &fields[..]) {
                ("PONG", _) => return Ok(Event::Pong),
                ("-ERR", _) => {
                    return Ok(Event::Refused(rest.trim().trim_matches('\'').to_owned()));
                }
                // It looks whether we are there.
                ("PING", _) => self.writer.lock().await.write_all(b"PONG\r\n").await?,
                ("MSG", [subject, sid, .., length]) => {
                    return self.message(subject, sid, "0", length).await;
                }
                ("HMSG", [subject, sid, .., head, length]) => {
                    return self.message(subject, sid, head, length).await;
                }
                // INFO and +OK.
                _ => {}
            }
        }
    }

    /// A message whose first `head` bytes are headers.
    async fn message(
        &mut self,
        subject: &str,
        sid: &str,
        head: &str,
        length: &str,
    ) -> io::Result<Event> {
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| io::ErrorKind::InvalidData)
        };
        let (head, length) = (number(head)?, number(length)?);
        if length > LONGEST || head > length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut payload = vec![0; length + 2];
        self.reader.read_exact(&mut payload).await?;
        let headers = String::from_utf8_lossy(&payload[..head]);
        let text = match headers.starts_with("NATS/1.0 503") {
            true => "(nobody answers on that subject)".to_owned(),
            false => String::from_utf8_lossy(&payload[head..length]).into_owned(),
        };
        Ok(Event::Message {
            subject: subject.to_owned(),
            sid: number(sid)?
                .try_into()
                .map_err(|_| io::ErrorKind::InvalidData)?,
            text,
        })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let limited = &mut (&mut self.reader).take(1 << 20);
        limited.read_until(b'\n', &mut line).await?;
        match line.ends_with(b"\n") {
            true => Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_port_and_its_password_decoded() {
        let address = Address::of_url("nats://shop:p%40ss@127.0.0.1:20002").unwrap();
        let expected = Address {
            host: "127.0.0.1:20002".into(),
            user: "shop".into(),
            password: "p@ss".into(),
        };
        assert_eq!(address, expected);
        assert_eq!(
            Address::of_url("nats://n.example").unwrap().host,
            "n.example:4222"
        );
        assert_eq!(Address::of_url("tls://n.example"), None);
    }

    #[tokio::test]
    async fn what_a_server_says_is_understood() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address {
            host: listener.local_addr().unwrap().to_string(),
            user: "shop".into(),
            password: "secret".into(),
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            writer.write_all(b"INFO {}\r\n").await.unwrap();
            let connect = lines.next_line().await.unwrap().unwrap();
            assert!(connect.contains(r#""pass":"secret""#), "{connect}");
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "PING");
            writer.write_all(b"PONG\r\n").await.unwrap();
            let inbox = lines.next_line().await.unwrap().unwrap();
            assert!(inbox.starts_with("SUB _INBOX."), "{inbox}");
            for expected in ["SUB orders.> 2", "PUB orders.new 9", "two words", "UNSUB 2"] {
                assert_eq!(lines.next_line().await.unwrap().unwrap(), expected);
            }
            writer
                .write_all(
                    b"PING\r\nMSG orders.new 2 10\r\ntwo\r\nwords\r\n-ERR 'Permissions Violation'\r\n\
                      HMSG _INBOX.x.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
                )
                .await
                .unwrap();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "PONG");
        };
        let client = async {
            let mut session = Session::open(&address).await.unwrap();
            for line in [
                "sub orders.>",
                "sub orders.>",
                "pub orders.new  two words",
                "unsub orders.>",
            ] {
                assert!(session.obey(line).await.unwrap(), "{line}");
            }
            for line in ["sub", "shout x", "pub a\u{1}b x"] {
                assert!(!session.obey(line).await.unwrap(), "{line}");
            }
            let mut events = Vec::new();
            for _ in 0..3 {
                events.push(session.events.recv().await.unwrap().unwrap());
            }
            let message = |subject: &str, sid, text: &str| Event::Message {
                subject: subject.into(),
                sid,
                text: text.into(),
            };
            assert_eq!(
                events,
                [
                    message("orders.new", 2, "two\r\nwords"),
                    Event::Refused("Permissions Violation".into()),
                    message("_INBOX.x.1", 1, "(nobody answers on that subject)"),
                ]
            );
        };
        tokio::join!(server, client);
    }
}
