//! Numbers and sizes in words.

use std::time::Duration;

use crate::model::number;

/// `1 error`, `2 errors`.
#[must_use]
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    // More than that is many.
    let count = count.try_into().unwrap_or(u64::MAX);
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// A duration with three digits or so: `0.2s`, `12.3s`, `4m 05s`, `2h 03m`.
#[must_use]
pub fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// How long ago something was: `12s ago`, `5m ago`, `3h ago`, `8d ago`.
#[must_use]
pub fn ago(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..172_800 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A figure with four digits or so: `0.8765`, `12`, `1.235e-7`.
#[must_use]
pub fn figure(value: f64) -> String {
    if let Some(name) = number::name(value) {
        return name.to_owned();
    }
    let size = value.abs();
    if value == 0.0 || (1e-3..1e6).contains(&size) {
        let decimals = match size {
            1000.0.. => 0,
            100.0.. => 1,
            10.0.. => 2,
            1.0.. => 3,
            _ => 4,
        };
        let text = format!("{value:.decimals$}");
        return match text.split_once('.') {
            Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            None => text,
        };
    }
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{power}")
        }
        None => text,
    }
}

/// A number of bytes as docker shows it, in powers of 1000: `12.3 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    scaled(count, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB"])
}

/// An amount of memory as docker shows it, in powers of 1024, as limits are given: `12.3 MiB`.
#[must_use]
pub(super) fn memory(count: u64) -> String {
    scaled(count, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(count: u64, step: f64, units: [&str; 6]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= step - 0.05 && unit + 1 < units.len() {
        scaled /= step;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{scaled:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ago, bytes, counted, elapsed, figure, memory};

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(0, "error"), "0 errors");
        assert_eq!(counted(1, "error"), "1 error");
        assert_eq!(counted(2, "error"), "2 errors");
    }

    #[test]
    fn sizes_are_in_powers_of_1000() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn memory_is_in_powers_of_1024() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (200 << 20, "200.0 MiB"),
            ((8 << 30) - 1, "8.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(memory(count), text);
        }
    }

    #[test]
    fn times_past_have_one_unit() {
        for (seconds, text) in [
            (0, "0s ago"),
            (119, "1m ago"),
            (7200, "2h ago"),
            (172_800, "2d ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn figures_have_four_digits_or_so() {
        for (value, text) in [
            (0.0, "0"),
            (-0.5, "-0.5"),
            (0.876_54, "0.8765"),
            (1.5, "1.5"),
            (12.0, "12"),
            (123.456, "123.5"),
            (10_000.0, "10000"),
            (123_456.7, "123457"),
            (6.5e-5, "6.5e-5"),
            (1.234_56e9, "1.235e9"),
            (1e-7, "1e-7"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (milliseconds, text) in [
            (0, "0.0s"),
            (230, "0.2s"),
            (59_900, "59.9s"),
            (65_000, "1m 05s"),
            (7_380_000, "2h 03m"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(milliseconds)), text);
        }
    }
}
