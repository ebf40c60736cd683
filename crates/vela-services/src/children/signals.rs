use std::fs;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Handles the signals that this program ignores, by nothing.
///
/// In the background of a shell INT and QUIT are ignored, and under `nohup` HUP. A program that is
/// executed inherits that, and a server would not hear its stop signal; but what is handled is back
/// at its default there. To reset it in the new process alone takes code that is not safe. For this
/// program nothing changes, except that whatever else it starts hears these signals too.
pub(super) fn handle_ignored() -> io::Result<()> {
    let ignored = ignored();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ] {
        if ignored & (1 << (kind.as_raw_value() - 1)) != 0 {
            // The handler stays when nobody listens.
            drop(signal(kind)?);
        }
    }
    Ok(())
}

/// A bit for each signal, the lowest for the first. None where the kernel does not tell.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or_default()
}
