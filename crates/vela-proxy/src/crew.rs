use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::entrance::Entrance;
use crate::in_flight::{InFlight, Pinned};
use crate::turnstile::Ticket;

/// The workers that serve the same listeners. Few of them accept, and connections stay with who has
/// them: who accepts passes on what another has fewer of.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Box<[Member]>,
}

#[derive(Debug)]
struct Member {
    live: Arc<InFlight>,
    inbox: mpsc::UnboundedSender<Arrival>,
}

/// A connection that another worker has accepted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) ticket: Ticket,
    pub(crate) live: Pinned<InFlight>,
    /// Where it came in.
    pub(crate) entrance: Arc<Entrance>,
}

pub(crate) type Inbox = mpsc::UnboundedReceiver<Arrival>;

impl Crew {
    /// Of so many members: what counts the connections of each, and what it gets from the others.
    pub(crate) fn of(count: usize) -> (Crew, Vec<(Arc<InFlight>, Inbox)>) {
        let mut members = Vec::with_capacity(count);
        let mut parts = Vec::with_capacity(count);
        for _ in 0..count {
            let live = Arc::new(InFlight::new());
            let (sender, inbox) = mpsc::unbounded_channel();
            members.push(Member {
                live: Arc::clone(&live),
                inbox: sender,
            });
            parts.push((live, inbox));
        }
        let members = members.into_boxed_slice();
        (Crew { members }, parts)
    }

    /// How many connections all members have.
    pub(crate) fn connections(&self) -> usize {
        self.members.iter().map(|member| member.live.count()).sum()
    }

    /// Who should rather have the next connection than the member with these.
    pub(crate) fn relief(&self, mine: &InFlight) -> Option<Relief<'_>> {
        let (least, member) = self
            .members
            .iter()
            .map(|member| (member.live.count(), member))
            .min_by_key(|(count, _)| *count)?;
        if mine.count() <= least + 1 {
            return None;
        }
        Some(Relief {
            live: Pinned::new(&member.live)?,
            inbox: &member.inbox,
        })
    }
}

/// Another worker that has a place for one connection.
#[derive(Debug)]
pub(crate) struct Relief<'a> {
    live: Pinned<InFlight>,
    inbox: &'a mpsc::UnboundedSender<Arrival>,
}

impl Relief<'_> {
    /// Passes a connection on. It is lost only with the worker that gets it.
    pub(crate) fn take(
        self,
        socket: std::net::TcpStream,
        peer: SocketAddr,
        ticket: Ticket,
        entrance: &Arc<Entrance>,
    ) {
        let arrival = Arrival {
            socket,
            peer,
            ticket,
            live: self.live,
            entrance: Arc::clone(entrance),
        };
        if self.inbox.send(arrival).is_err() {
            tracing::error!("a worker of the proxy has ended before the others");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_accepts_all_gives_each_its_share() {
        let (crew, parts) = Crew::of(3);
        let mut pins = Vec::new();
        for _ in 0..30 {
            pins.push(match crew.relief(&parts[0].0) {
                Some(relief) => relief.live,
                None => Pinned::new(&parts[0].0).unwrap(),
            });
        }
        let shares: Vec<_> = parts.iter().map(|(live, _)| live.count()).collect();
        assert_eq!(shares, [11, 10, 9]);
    }

    #[test]
    fn an_uneven_share_is_passed_on() {
        let (crew, parts) = Crew::of(2);
        let mut pins = Vec::new();
        for _ in 0..2 {
            assert!(crew.relief(&parts[0].0).is_none());
            pins.push(Pinned::new(&parts[0].0).unwrap());
        }
        let relief = crew.relief(&parts[0].0).unwrap();
        assert_eq!(parts[1].0.count(), 1);
        drop(relief);
        assert!(crew.relief(&parts[1].0).is_none());
        // One that stops takes nothing any more.
        parts[1].0.close();
        assert!(crew.relief(&parts[0].0).is_none());
    }
}
