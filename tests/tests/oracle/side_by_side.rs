use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;

use crate::cases::LAST;
use crate::lane::{Backends, Lane, Outcome, Outcomes};
use crate::oracles::Oracles;
use crate::verdict::{Fault, Verdict, verdict};

/// Vela, nginx and HAProxy, that get the same.
pub(crate) struct SideBySide {
    oracles: Oracles,
    lanes: Vec<Lane>,
}

/// How many cases at one time: most wait for a proxy to lose its patience.
const LANES: usize = 40;

/// How often a case may go wrong, before it is what is wrong.
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
                let mut judged = self.try_judge(lane, case).await;
                for _ in 1..ATTEMPTS {
                    if judged.is_err() {
                        // On a machine that stands still for a second, each proxy loses its patience somewhere else.
                        judged = self.try_judge(lane, case).await;
                    }
                }
                match judged {
                    Ok(verdict) => verdicts.push(verdict),
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

    /// An error says what is wrong.
    async fn try_judge(&self, lane: &Lane, case: &[u8]) -> Result<Verdict, String> {
        let mut sent = [case, LAST].concat();
        loop {
            let outcomes = lane.run(&self.oracles, &sent).await;
            match verdict(&sent, &outcomes) {
                Verdict::Alone(rest) => sent = rest,
                Verdict::Wrong(fault) => return Err(report(&sent, &fault, &outcomes)),
                verdict => return Ok(verdict),
            }
        }
    }
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
