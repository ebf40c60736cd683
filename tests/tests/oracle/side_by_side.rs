use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use crate::cases::LAST;
use crate::lane::{Backends, Lane, Outcome, Outcomes};
use crate::oracles::Oracles;
use crate::verdict::{Fault, Verdict, is_alike, verdict};

/// Vela, nginx and HAProxy, that get the same.
pub(crate) struct SideBySide {
    oracles: Oracles,
    lanes: Vec<Lane>,
}

/// How many cases at one time: most wait for a proxy to lose its patience.
const LANES: usize = 40;

/// How often a case may go wrong for want of patience, before it is what is wrong.
const ATTEMPTS: usize = 5;

impl SideBySide {
    pub(crate) async fn start() -> SideBySide {
        let backends = join_all((0..LANES).map(|_| Backends::start())).await;
        let nginx: Vec<_> = backends.iter().map(|lane| lane.nginx.addr).collect();
        let haproxy: Vec<_> = backends.iter().map(|lane| lane.haproxy.addr).collect();
        let oracles = Oracles::start(&nginx, &haproxy).await;
        let lanes = backends.into_iter().enumerate();
        let lanes = join_all(lanes.map(|(number, backends)| Lane::new(number, backends))).await;
        SideBySide { oracles, lanes }
    }

    /// The verdicts, in no order. Fails where Vela is wrong.
    pub(crate) async fn judge(&self, cases: &[Vec<u8>]) -> Vec<Verdict> {
        let next = AtomicUsize::new(0);
        let next = &next;
        let judged = join_all(self.lanes.iter().map(|lane| async move {
            let (mut verdicts, mut wrong) = (Vec::new(), Vec::new());
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.judge_one(lane, case).await {
                    Ok(judged) => verdicts.extend(judged),
                    Err(text) => wrong.push(text),
                }
            }
            (verdicts, wrong)
        }))
        .await;
        let (verdicts, wrong): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
        let wrong = wrong.concat();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        verdicts.concat()
    }

    /// The verdicts on a case, and on what comes behind where the oracles don't go on. An error says what is wrong.
    async fn judge_one(&self, lane: &Lane, case: &[u8]) -> Result<Vec<Verdict>, String> {
        let mut sent = [case, LAST].concat();
        let mut verdicts = Vec::new();
        loop {
            let verdict = self.try_judge(lane, &sent).await?;
            let rest = match &verdict {
                Verdict::Alone(rest) => Some(rest.clone()),
                Verdict::Odd(_, _, rest) => rest.clone(),
                _ => None,
            };
            verdicts.push(verdict);
            match rest {
                Some(rest) if !rest.is_empty() => sent = rest,
                _ => return Ok(verdicts),
            }
        }
    }

    /// On a machine that stands still for a second each proxy may lose its patience, each at another place. Where that
    /// can be why Vela seems wrong, all get the same again, and what Vela passes on must be the same again.
    async fn try_judge(&self, lane: &Lane, sent: &[u8]) -> Result<Verdict, String> {
        let mut before: Vec<Outcome> = Vec::new();
        loop {
            let outcomes = lane.run(&self.oracles, sent).await;
            let changed = before
                .iter()
                .any(|before| !may_be_the_same(before, &outcomes.vela));
            let verdict = verdict(sent, &outcomes);
            let fault = match verdict {
                _ if changed => Fault::Changed,
                Verdict::Wrong(fault) => fault,
                verdict => return Ok(verdict),
            };
            let suspect = suspect(&fault, &outcomes);
            if suspect.is_none() || before.len() + 1 == ATTEMPTS {
                let suspect =
                    suspect.map(|who| format!("{ATTEMPTS} times {who} may have timed out\n"));
                let report = report(sent, &fault, &outcomes);
                return Err(report + &suspect.unwrap_or_default());
            }
            before.push(outcomes.vela);
        }
    }
}

/// Who may have made Vela seem wrong by ending a connection too early. Nobody, where what Vela passed on is wrong by
/// itself, or does not fit to its own answers.
fn suspect(fault: &Fault, outcomes: &Outcomes) -> Option<&'static str> {
    let Outcomes {
        vela,
        nginx,
        haproxy,
    } = outcomes;
    let late = |name, outcome: &Outcome| outcome.may_have_timed_out().then_some(name);
    match fault {
        // The oracles passed on less.
        Fault::Unheard => late("nginx", nginx).or(late("HAProxy", haproxy)),
        // Vela did, and said nothing, or that it waited in vain.
        Fault::Swallowed => late("Vela", vela),
        Fault::Refused => vela.has_timed_out().then_some("Vela"),
        Fault::Ambiguous(_)
        | Fault::Headers(_)
        | Fault::Trailers(_)
        | Fault::Answers
        | Fault::Changed => None,
    }
}

/// Vela passed on the same twice, or less when it may have lost its patience.
fn may_be_the_same(one: &Outcome, other: &Outcome) -> bool {
    let (less, more) = match one.seen.len() < other.seen.len() {
        true => (one, other),
        false => (other, one),
    };
    let is_cut = less.seen.len() < more.seen.len();
    let pairs = less.seen.iter().zip(&more.seen);
    pairs.into_iter().all(|(one, other)| is_alike(one, other))
        && (!is_cut || less.may_have_timed_out())
}

fn report(sent: &[u8], fault: &Fault, outcomes: &Outcomes) -> String {
    let Outcomes {
        vela,
        nginx,
        haproxy,
    } = outcomes;
    let name_and_outcome = [("Vela", vela), ("nginx", nginx), ("HAProxy", haproxy)];
    let each = name_and_outcome.map(|(name, outcome)| describe(name, outcome));
    format!("{fault:?}: {}\n{}", shown(sent), each.concat())
}

fn describe(name: &str, outcome: &Outcome) -> String {
    let seen: Vec<_> = outcome
        .seen
        .iter()
        .map(|seen| match seen {
            Ok(seen) => format!(
                "{} {} {:?}",
                seen.method,
                shown(&seen.target),
                shown(&seen.body)
            ),
            Err(broken) => (*broken).to_owned(),
        })
        .collect();
    let statuses = outcome.statuses();
    let last = outcome.answer.len().saturating_sub(80);
    let last = match outcome.is_refused() {
        true => shown(&outcome.answer[last..]),
        false => String::new(),
    };
    format!("    {name}: {seen:?} {statuses:?} {last}\n")
}

/// Bytes as text, without the middle of what is long.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.len() {
        0..=900 => text,
        length => format!("{}[..]{}", &text[..450], &text[length - 450..]),
    }
}

#[test]
fn only_lost_patience_is_tried_again() {
    let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let passed = || Outcome::at_once(&[request], "204 No Content");
    let refused = || Outcome::at_once(&[], "400 Bad Request");
    let outcomes = |vela, nginx| Outcomes {
        vela,
        nginx,
        haproxy: refused(),
    };
    let suspect = |fault, vela, nginx| suspect(&fault, &outcomes(vela, nginx));
    let unheard = Fault::Unheard;
    assert_eq!(suspect(unheard.clone(), passed().late(), refused()), None);
    assert_eq!(suspect(unheard, passed(), refused().late()), Some("nginx"));
    assert_eq!(suspect(Fault::Refused, refused().late(), passed()), None);
    let timed_out = Outcome::at_once(&[], "408 Request Timeout").late();
    assert_eq!(suspect(Fault::Refused, timed_out, passed()), Some("Vela"));
    assert_eq!(
        suspect(Fault::Answers, passed().late(), passed().late()),
        None
    );

    let other = Outcome::at_once(
        &[b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"],
        "204 No Content",
    );
    assert!(may_be_the_same(&passed(), &passed()));
    assert!(may_be_the_same(&passed(), &refused().late()));
    assert!(!may_be_the_same(&passed(), &refused()));
    assert!(!may_be_the_same(&passed().late(), &other.late()));
}
