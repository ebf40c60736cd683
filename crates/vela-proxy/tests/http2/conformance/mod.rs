//! What RFC 9113 and RFC 7541 ask of a server, as frames and what comes of them. Where the crate
//! `h2` does something else, [`deviations`] says so.

mod deviations;
mod framing;
mod hpack;
mod kinds;
mod messages;
mod windows;

use crate::backend::Backend;
use crate::frames::{DATA, END_STREAM, HEADERS};
use crate::raw::{Raw, Reaction};
use crate::world::{Door, World};

/// What the RFC allows.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// A connection error: GOAWAY, which may be left out (5.4.1).
    Connection(u32),
    /// A stream error, which may be treated as a connection error (5.4.1). A server may also answer
    /// what is malformed (8.1.1).
    Stream(u32),
    /// The frames change nothing.
    Nothing,
    /// The request on the stream is answered.
    Status(u16),
}

#[derive(Debug)]
struct Case {
    /// Of RFC 9113, or of RFC 7541 where a case is about compression.
    section: &'static str,
    what: &'static str,
    /// Sent first; what follows waits for the answer on the stream.
    first: Option<Vec<u8>>,
    sent: Vec<u8>,
    stream: u32,
    wanted: Wanted,
}

fn case(section: &'static str, what: &'static str, sent: Vec<u8>, wanted: Wanted) -> Case {
    Case {
        section,
        what,
        first: None,
        sent,
        stream: 1,
        wanted,
    }
}

impl Case {
    fn after(self, first: Vec<u8>) -> Case {
        Case {
            first: Some(first),
            ..self
        }
    }

    fn on(self, stream: u32) -> Case {
        Case { stream, ..self }
    }

    async fn run(&self, door: &Door) -> Reaction {
        let mut raw = Raw::connect(door).await;
        if let Some(first) = &self.first {
            raw.send(first).await;
            let end = raw
                .find(|frame| matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0)
                .await;
            assert!(end.is_some(), "{self:?}");
        }
        raw.send(&self.sent).await;
        let reaction = match self.wanted {
            Wanted::Nothing => raw.reaction_or_none(self.stream).await,
            _ => raw.reaction(self.stream).await,
        };
        if let Reaction::Reset(_) | Reaction::Status(_) = reaction {
            assert!(raw.serves().await, "{self:?}: the connection is lost");
        }
        reaction
    }

    fn allows(&self, reaction: Reaction) -> bool {
        match (self.wanted, reaction) {
            (Wanted::Connection(_), Reaction::Closed) => true,
            (Wanted::Connection(error), Reaction::GoAway(given)) => error == given,
            (Wanted::Stream(error), Reaction::GoAway(given) | Reaction::Reset(given)) => {
                error == given
            }
            (Wanted::Stream(_), Reaction::Status(400)) => true,
            (Wanted::Nothing, Reaction::None) => true,
            (Wanted::Status(status), Reaction::Status(given)) => status == given,
            _ => false,
        }
    }
}

async fn check(cases: Vec<Case>) {
    let world = World::start();
    let backend = Backend::start("ok").await;
    world.route(backend.addr).await;
    let mut wrong = Vec::new();
    for case in cases {
        let reaction = tokio::time::timeout(crate::LONG, case.run(&world.door)).await;
        let Ok(reaction) = reaction else {
            wrong.push(format!("{} {}: no reaction", case.section, case.what));
            continue;
        };
        let known = deviations::KNOWN
            .iter()
            .find(|(section, what, _, _)| (*section, *what) == (case.section, case.what));
        let is_right = match known {
            Some((_, _, deviation, _)) => reaction == *deviation && !case.allows(reaction),
            None => case.allows(reaction),
        };
        if !is_right {
            let wanted = case.wanted;
            wrong.push(format!(
                "{} {}: {reaction:?}, not {wanted:?}",
                case.section, case.what
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // None of it has cost anybody else anything.
    let mut client = world.client().await;
    assert_eq!(client.get("/").await.body, "ok");
}
