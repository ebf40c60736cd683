use std::time::Duration;

use jiff::Timestamp;

/// A duration as it stands in a step list: `8 ms`, `1.4 s`, `2m 3s`.
pub(crate) fn took(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        // Rounded up to the minute it would read `60.0 s`.
        1_000..59_950 => format!("{:.1} s", duration.as_secs_f64()),
        _ => {
            let seconds = (ms + 500) / 1_000;
            format!("{}m {}s", seconds / 60, seconds % 60)
        }
    }
}

/// An uptime in its two largest units: `3d 4h`, `5m 2s`.
pub(crate) fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A size: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "one decimal is shown of what an f64 holds to 52 bits"
    )]
    let mut value = count as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// `1 file`, `2 files`.
pub(crate) fn plural(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// What is left of a certificate's life: `9 days`, `1 day`, `expired`.
pub(crate) fn days(left: i64) -> String {
    match u64::try_from(left) {
        Ok(left) => plural(left, "day"),
        Err(_) => "expired".to_owned(),
    }
}

/// A time in UTC, as release ids are.
pub(crate) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (1_449, "1.4 s"),
            (59_949, "59.9 s"),
            (59_960, "1m 0s"),
            (123_000, "2m 3s"),
        ] {
            assert_eq!(took(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn uptimes_have_two_units() {
        assert_eq!(uptime(59), "59s");
        assert_eq!(uptime(302), "5m 2s");
        assert_eq!(uptime(7_260), "2h 1m");
        assert_eq!(uptime(273_600), "3d 4h");
    }

    #[test]
    fn sizes_have_one_decimal() {
        for (count, text) in [
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
