use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::AcmeError;

/// For a provider that takes its time, and a record that has to spread.
const LONGEST: Duration = Duration::from_secs(600);

/// Has the operator's command set or remove a TXT record. Nothing is put into the command but its
/// environment. Dropped, it ends with its shell.
pub(super) async fn run(
    hook: &str,
    action: &'static str,
    name: &str,
    value: &str,
) -> Result<(), AcmeError> {
    let failed = |reason: String| AcmeError::DnsHook {
        name: name.to_owned(),
        reason,
    };
    let running = Command::new("sh")
        .args(["-c", hook])
        .env("VELA_ACME_ACTION", action)
        .env("VELA_ACME_NAME", name)
        .env("VELA_ACME_VALUE", value)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?
        .wait_with_output();
    let output = match timeout(LONGEST, running).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed("it did not end in ten minutes".to_owned())),
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.trim().lines().last().unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    Err(failed(format!("{}: {last}", output.status)))
}
