use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::Digest;

use super::error::{DownloadError, write_failed};
use super::{Download, Sha256};

/// How long the other side may say nothing.
const STALLED: Duration = Duration::from_secs(30);

/// Writes the file to `archive`, and gives its checksum. Blocks; `cancelled` is looked at after
/// each piece.
pub(super) fn fetch(
    download: &Download,
    archive: &mut File,
    dir: &Path,
    cancelled: &AtomicBool,
) -> Result<Sha256, DownloadError> {
    let url = download.url();
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(download.timeout))
        .timeout_connect(Some(STALLED))
        .timeout_recv_response(Some(STALLED))
        .timeout_per_read(Some(STALLED))
        // What was asked for safely is not taken unsafely.
        .https_only(url.starts_with("https://"))
        .http_status_as_error(false)
        .user_agent(concat!("vela-services/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let response = agent
        .get(&url)
        .call()
        .map_err(|error| DownloadError::Unreachable(error.into()))?;
    let status = response.status();
    if !status.is_success() {
        return Err(DownloadError::Status {
            status: status.as_u16(),
        });
    }
    let limit = download.max_bytes;
    let too_large = DownloadError::TooLarge { limit };
    if response.body().content_length() > Some(limit) {
        return Err(too_large);
    }

    // One byte more than may be, to see that there is more.
    let mut body = response.into_body().into_reader().take(limit + 1);
    let mut digest = sha2::Sha256::new();
    let mut received = 0;
    let mut piece = vec![0; 64 << 10];
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(DownloadError::Cancelled);
        }
        let length = body
            .read(&mut piece)
            .map_err(|source| DownloadError::CutOff { received, source })?;
        if length == 0 {
            return Ok(Sha256::new(digest.finalize().into()));
        }
        received += length as u64;
        if received > limit {
            return Err(too_large);
        }
        digest.update(&piece[..length]);
        archive
            .write_all(&piece[..length])
            .map_err(write_failed(dir))?;
    }
}
