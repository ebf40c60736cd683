//! What a backend sees behind Vela, beside what it sees behind nginx and HAProxy when the same bytes come.
//!
//! Whatever Vela passes on, one of them passes on alike: as many requests, their methods, targets and bodies. What both
//! take alike, Vela takes too. Where it is meant to be otherwise, `difference.rs` says so, and why.

#![expect(
    clippy::unwrap_used,
    reason = "a broken test environment is a failed test"
)]

mod cases;
mod difference;
mod lane;
mod mutation;
mod oracles;
mod recorder;
mod request;
mod seen;
mod side_by_side;
mod verdict;

use mutation::Random;
use side_by_side::SideBySide;
use verdict::Verdict;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_is_what_another_proxy_makes_of_it() {
    let proxies = SideBySide::start().await;
    let verdicts = proxies.judge(&cases::all()).await;
    let alike = verdicts.iter().filter(|one| **one == Verdict::Alike);
    // Else it is the comparison that does not work.
    assert!(alike.count() > 120, "{verdicts:?}");
    for (number, row) in difference::STRICTER.iter().enumerate() {
        let here = verdicts
            .iter()
            .filter(|one| **one == Verdict::Stricter(number));
        let count = here.count();
        println!("refused by Vela alone, by {}: {count}", row.rfc);
        assert!(
            count > 0,
            "row {number} is no difference any more: {}",
            row.rfc
        );
    }
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
