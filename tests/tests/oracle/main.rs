//! What a backend sees behind Vela, beside what it sees behind nginx and HAProxy when the same bytes come.
//!
//! Whatever Vela passes on, one of them passes on alike: as many requests, their methods, targets, bodies and trailers. What
//! both take alike, Vela takes too. Where it is meant to be otherwise, `stricter.rs` and `oddity.rs` say so,
//! and why.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod cases;
mod lane;
mod mutation;
mod oddity;
mod oracles;
mod recorder;
mod request;
mod seen;
mod side_by_side;
mod stricter;
mod verdict;

use mutation::Random;
use side_by_side::SideBySide;
use verdict::Verdict;

/// How often all cases are tried to find one for each row: a proxy that stalls hides what it would have made of one.
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_is_what_another_proxy_makes_of_it() {
    let proxies = SideBySide::start().await;
    let mut verdicts = proxies.judge(&cases::all()).await;
    let alike = verdicts.iter().filter(|one| **one == Verdict::Alike);
    // Else it is the comparison that does not work.
    assert!(alike.count() > 120, "{verdicts:?}");
    for _ in 1..ROUNDS {
        if !unused(&verdicts).is_empty() {
            verdicts.extend(proxies.judge(&cases::all()).await);
        }
    }
    let unused = unused(&verdicts);
    assert!(unused.is_empty(), "no difference any more: {unused:#?}");
}

/// The rows of the tables of differences that explain none of these.
fn unused(verdicts: &[Verdict]) -> Vec<String> {
    let stricter = stricter::STRICTER.iter().map(|row| row.rfc);
    let odd_of_nginx = oddity::ODD_OF_NGINX.iter().map(|row| row.why);
    let odd_of_haproxy = oddity::ODD_OF_HAPROXY.iter().map(|row| row.why);
    let is_used = |is_it: &dyn Fn(&Verdict) -> bool| verdicts.iter().any(is_it);
    let stricter = stricter.enumerate().filter(|(number, _)| {
        !is_used(&|one| matches!(one, Verdict::Stricter(row) if row == number))
    });
    let odd_of_nginx = odd_of_nginx.enumerate().filter(|(number, _)| {
        !is_used(&|one| matches!(one, Verdict::Odd(row, ..) if row == number))
    });
    let odd_of_haproxy = odd_of_haproxy.enumerate().filter(|(number, _)| {
        !is_used(&|one| matches!(one, Verdict::Odd(_, row, _) if row == number))
    });
    let unused = stricter.chain(odd_of_nginx).chain(odd_of_haproxy);
    unused
        .map(|(number, why)| format!("row {number}: {why}"))
        .collect()
}

/// `VELA_ORACLE_SEED` takes another seed, and `VELA_ORACLE_CASES` more cases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_what_nobody_has_thought_of() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let seed = number("VELA_ORACLE_SEED", 1);
    println!("VELA_ORACLE_SEED={seed}");
    let mut random = Random(seed);
    let table = cases::all();
    let cases: Vec<_> = (0..number("VELA_ORACLE_CASES", 500))
        .map(|_| mutation::mutated(&mut random, &table))
        .collect();
    let proxies = SideBySide::start().await;
    proxies.judge(&cases).await;
}
