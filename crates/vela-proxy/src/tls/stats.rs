use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`Tls`](super::Tls) has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsStats {
    /// Handshakes that succeeded, the resumed ones included.
    pub handshakes: u64,
    /// Those of them that took up an earlier session, with no signature and no certificate.
    pub resumed: u64,
    /// Those of the handshakes that were of TLS 1.2; all others were of TLS 1.3.
    pub tls12: u64,
    /// Those of TLS 1.2 that took up an earlier session.
    pub tls12_resumed: u64,
    /// Handshakes that failed: clients that speak no TLS, that offer nothing in common, that do
    /// not trust the certificate and say so, or that have no certificate where they must.
    pub failed: u64,
    /// Handshakes that did not end in time.
    pub timed_out: u64,
    /// Handshakes of certificate authorities that checked who answers for a name.
    pub challenges: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) handshakes: AtomicU64,
    pub(super) resumed: AtomicU64,
    pub(super) tls12: AtomicU64,
    pub(super) tls12_resumed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) challenges: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> TlsStats {
        TlsStats {
            handshakes: self.handshakes.load(Ordering::Relaxed),
            resumed: self.resumed.load(Ordering::Relaxed),
            tls12: self.tls12.load(Ordering::Relaxed),
            tls12_resumed: self.tls12_resumed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            challenges: self.challenges.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl std::ops::AddAssign for TlsStats {
    fn add_assign(&mut self, other: TlsStats) {
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.tls12 += other.tls12;
        self.tls12_resumed += other.tls12_resumed;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.challenges += other.challenges;
    }
}
