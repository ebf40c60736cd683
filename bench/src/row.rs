use std::time::Duration;

use crate::Seen;

/// One proxy's results of one load, a round each.
#[derive(Debug, Default)]
pub struct Results {
    /// What the load saw.
    pub seen: Vec<Seen>,
    /// The proxy's CPU time in all rounds.
    pub cpu: Duration,
}

/// A line of a table of proxies: medians of the rounds, but CPU and errors of all.
#[derive(Debug)]
pub struct Row {
    /// The proxy's.
    pub name: String,
    /// Requests a second.
    pub rate: f64,
    /// Megabytes a second.
    pub throughput: f64,
    /// Median latency in microseconds; 0 where it is not told, as the next two.
    pub p50: f64,
    /// What one request in a hundred is slower than.
    pub p99: f64,
    /// What one request in a thousand is slower than.
    pub p999: f64,
    /// CPU seconds for a million requests.
    pub cpu: f64,
    /// Requests that failed.
    pub errors: u64,
}

impl Row {
    /// Sums the rounds up.
    pub fn of(name: &str, results: &Results) -> Row {
        let middle = |of: &dyn Fn(&Seen) -> f64| median(results.seen.iter().map(of).collect());
        let requests: u64 = results.seen.iter().map(|seen| seen.requests).sum();
        Row {
            name: name.to_owned(),
            rate: middle(&|seen| seen.requests as f64 / seen.took.as_secs_f64()),
            throughput: middle(&|seen| seen.bytes as f64 / seen.took.as_secs_f64() / 1e6),
            p50: middle(&|seen| seen.p50.as_micros() as f64),
            p99: middle(&|seen| seen.p99.as_micros() as f64),
            p999: middle(&|seen| seen.p999.as_micros() as f64),
            cpu: results.cpu.as_secs_f64() / requests as f64 * 1e6,
            errors: results.seen.iter().map(|seen| seen.errors).sum(),
        }
    }

    /// All of them under the load's name, with ratios to nginx's, or else to the first one's.
    pub fn table(load: &str, rows: &[Row]) -> String {
        let mut table = format!(
            "{load:<36}{:>10}{:>8}{:>9}{:>8}{:>8}{:>9}{:>12}{:>8}{:>8}",
            "req/s",
            "ratio",
            "MB/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU s / M",
            "ratio",
            "errors"
        );
        let base = rows.iter().find(|row| row.name == "nginx").or(rows.first());
        for (row, base) in rows.iter().zip(base.into_iter().cycle()) {
            table += &format!(
                "\n{:<36}{:>10.0}{:>8.2}{:>9.0}{:>8}{:>8}{:>9}{:>12.2}{:>8.2}{:>8}",
                row.name,
                row.rate,
                row.rate / base.rate,
                row.throughput,
                micros(row.p50),
                micros(row.p99),
                micros(row.p999),
                row.cpu,
                row.cpu / base.cpu,
                row.errors,
            );
        }
        table
    }
}

/// Nothing where latencies are not told.
fn micros(latency: f64) -> String {
    match latency > 0.0 {
        true => format!("{latency:.0}"),
        false => "-".to_owned(),
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => numbers[count / 2],
        count => (numbers[count / 2 - 1] + numbers[count / 2]) / 2.0,
    }
}
