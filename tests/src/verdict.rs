use vela_cli::demo::load::{FailureKind, LoadReport};

/// What a silence may be on a machine that compiles something else at the same time. That the daemon is never silent
/// for 100 ms on a quiet one is what `vela demo` shows.
const LONGEST_SILENCE_MS: u64 = 5000;

/// Fails unless every request was answered as it should be, and no WebSocket ended before its time.
#[track_caller]
pub fn expect_no_failure(report: &LoadReport) {
    let silences = report.failures.iter();
    let silences = silences.filter(|failure| failure.kind == FailureKind::Silence);
    assert_eq!(report.failed, silences.count() as u64, "{report:#?}");
    assert!(
        report.longest_silence_ms < LONGEST_SILENCE_MS,
        "{report:#?}"
    );
}

/// The numbers of a load, in a line.
pub fn summary(report: &LoadReport) -> String {
    format!(
        "{} requests in {} ms, {} new connections, {} slow, {} failed; latency p50 {} p99 {} max {} ms; \
         silent for {} ms at most; WebSockets: {:?}; gaps: {:?} ms",
        report.requests,
        report.duration_ms,
        report.new_connections,
        report.slow,
        report.failed,
        report.latency.p50_ms,
        report.latency.p99_ms,
        report.latency.max_ms,
        report.longest_silence_ms,
        report.websockets,
        report.gaps.iter().map(|gap| gap.ms).collect::<Vec<_>>(),
    )
}
