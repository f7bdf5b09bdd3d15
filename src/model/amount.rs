//! Amounts of memory and of processor.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// A number of bytes, in powers of 1024 whatever the unit's spelling, as docker's `--memory` and
/// `--shm-size` have it (docker/go-units, `RAMInBytes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// The letters of the units, each 1024 times the one before.
const LETTERS: [char; 5] = ['k', 'm', 'g', 't', 'p'];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = shift(unit.strip_prefix(' ').unwrap_or(unit));
        let bytes = shift.and_then(|shift| scaled(number, shift));
        bytes.map(Self).ok_or_else(|| {
            let error = ValueError::new("this is not an amount of memory");
            match unit.trim().chars().next().map(|c| c.to_ascii_lowercase()) {
                Some(letter) if LETTERS.contains(&letter) && scaled(number, 0).is_some() => {
                    error.help(format!("write `{number}{letter}b`"))
                }
                _ => error.help("write a number and a unit: `8gb`, `512mb`"),
            }
        })
    }
}

/// How often a unit doubles a byte.
fn shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (letter, binary) = match unit.strip_suffix('i') {
        Some(letter) => (letter, true),
        None => (unit, false),
    };
    match LETTERS
        .iter()
        .position(|known| letter.len() == 1 && letter.starts_with(*known))
    {
        Some(power) => Some(10 * (u32::try_from(power).ok()? + 1)),
        None if letter.is_empty() && !binary => Some(0),
        None => None,
    }
}

/// A decimal number of units in bytes; parts of a byte are dropped.
fn scaled(number: &str, shift: u32) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut part: u128 = 0;
    let mut scale: u128 = 1;
    for digit in fraction.bytes().take(18) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let part = u64::try_from((part << shift) / scale).ok()?;
    whole.checked_mul(1_u64 << shift)?.checked_add(part)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (power, letter) in LETTERS.iter().enumerate().rev() {
            let unit = 1_u64 << (10 * (power + 1));
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{letter}b", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Scalar for ByteSize {
    const NAME: &'static str = "ByteSize";
    const EXPECTED: &'static str = "an amount of memory such as `8gb`";
    const PATTERN: &'static str = r"^[0-9]+(\.[0-9]+)? ?[kKmMgGtTpP]?[iI]?[bB]?$";
    const EXAMPLES: &'static [&'static str] = &["8gb", "512mb"];
    const ACCEPTS_NUMBERS: bool = true;
}

/// A number of processor cores, in billionths, as docker's `--cpus` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpus(u64);

/// Billionths of a core in one.
const NANO: u64 = 1_000_000_000;

impl Cpus {
    /// Billionths of a core, as the engine's `NanoCpus`.
    #[must_use]
    pub fn nano(self) -> u64 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |message: &str| Err(ValueError::new(message).help("write `2` or `1.5`"));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return refuse("this is not a number of cores");
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return refuse("a number of cores has at most nine decimals");
        }
        let whole = if whole.is_empty() {
            Ok(0)
        } else {
            whole.parse::<u64>()
        };
        let part = format!("{fraction:0<9}").parse::<u64>();
        let nano = match (whole, part) {
            (Ok(whole), Ok(part)) => whole
                .checked_mul(NANO)
                .and_then(|nano| nano.checked_add(part)),
            _ => None,
        };
        match nano {
            None => refuse("this is more cores than can be counted"),
            Some(0) => refuse("a job needs a part of a core at least"),
            Some(nano) => Ok(Self(nano)),
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:09}", self.0 % NANO);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{}", self.0 / NANO),
            fraction => write!(f, "{}.{fraction}", self.0 / NANO),
        }
    }
}

impl Scalar for Cpus {
    const NAME: &'static str = "Cpus";
    const EXPECTED: &'static str = "a number of cores such as `2` or `1.5`";
    const PATTERN: &'static str = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)$";
    const EXAMPLES: &'static [&'static str] = &["2", "1.5"];
    const ACCEPTS_NUMBERS: bool = true;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ByteSize, Cpus};

    /// The cases of docker/go-units' `TestRAMInBytes`.
    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32Kb", 32 << 10),
            ("32Kib", 32 << 10),
            ("32KIB", 32 << 10),
            ("32Mb", 32 << 20),
            ("32MiB", 32 << 20),
            ("32Gb", 32 << 30),
            ("32Tb", 32 << 40),
            ("32Pb", 32 << 50),
            ("32 mb", 32 << 20),
            ("32.5kB", 33_280),
            ("32.5 kB", 33_280),
            ("0.5g", 1 << 29),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for text in [
            "",
            "hello",
            "-32",
            ".3kB",
            " 32 ",
            "32m b",
            "32bm",
            "32ib",
            "32.b",
            "1.2.3k",
            "99999999999p",
            "32  kb",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_near_size_is_suggested() {
        for (text, help) in [
            ("8 gigs", "write `8gb`"),
            ("8 GBytes", "write `8gb`"),
            ("much", "write a number and a unit: `8gb`, `512mb`"),
        ] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert_eq!(error.help.as_deref(), Some(help));
        }
    }

    #[test]
    fn cores_are_counted_in_billionths() {
        for (text, nano) in [
            ("1", 1_000_000_000),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("0.000000001", 1),
            ("2.0000000000", 2_000_000_000),
        ] {
            assert_eq!(text.parse::<Cpus>().unwrap().nano(), nano, "{text}");
        }
        for text in [
            "",
            ".",
            "0",
            "two",
            "-1",
            "1.0000000001",
            "1e3",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_are_written_as_they_are_read(bytes in any::<u64>()) {
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }

        #[test]
        fn cores_are_written_as_they_are_read(nano in 1..u64::MAX) {
            let cpus = Cpus(nano);
            prop_assert_eq!(cpus.to_string().parse::<Cpus>(), Ok(cpus));
        }

        #[test]
        fn no_text_makes_them_panic(text in "[0-9.kmgtpib -]{0,30}") {
            let _ = (text.parse::<ByteSize>(), text.parse::<Cpus>());
        }
    }
}
