//! Amounts of memory and of processor.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// A number of bytes, in powers of 1024 whatever the unit's spelling, as docker's `--memory` and
/// `--shm-size` have it (docker/go-units, `RAMInBytes`).
///
/// It is shown as it was written. Two that are written differently and mean the same are equal.
#[derive(Debug, Clone)]
pub struct ByteSize {
    bytes: u64,
    /// Nothing where that is the usual form.
    written: Option<Box<str>>,
}

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same in the usual form, whatever was written.
    #[must_use]
    pub fn in_usual_form(&self) -> Self {
        Self::from(self.bytes)
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self {
            bytes,
            written: None,
        }
    }
}

impl PartialEq for ByteSize {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for ByteSize {}

/// The letters of the units, each 1024 times the one before.
const LETTERS: [char; 5] = ['k', 'm', 'g', 't', 'p'];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text);
        let shift = shift(unit.strip_prefix(' ').unwrap_or(unit));
        let bytes = shift.and_then(|shift| scaled(number, shift));
        let Some(bytes) = bytes else {
            let error = ValueError::new("this is not an amount of memory");
            return Err(
                match unit.trim().chars().next().map(|c| c.to_ascii_lowercase()) {
                    Some(letter) if LETTERS.contains(&letter) && scaled(number, 0).is_some() => {
                        error.help(format!("write `{number}{letter}b`"))
                    }
                    _ => error.help("write a number and a unit: `8gb`, `512mb`"),
                },
            );
        };
        let usual = Self::from(bytes);
        let is_usual = usual.to_string() == text;
        Ok(Self {
            written: (!is_usual).then(|| text.into()),
            ..usual
        })
    }
}

/// A number, and what is behind its last digit.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.');
    text.split_at(end.map_or(0, |end| end + 1))
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
    let Decimal { digits, decimals } = Decimal::read(number)?;
    let unit = u128::from(1_u64 << shift);
    let bytes = if decimals <= 0 {
        let factor = 10_u128.checked_pow(decimals.unsigned_abs())?;
        digits.checked_mul(factor)?.checked_mul(unit)?
    } else {
        // The product is below 2^115: there are 20 digits at most.
        let divisor = 10_u128.checked_pow(decimals.unsigned_abs());
        divisor.map_or(0, |divisor| digits * unit / divisor)
    };
    u64::try_from(bytes).ok()
}

/// A decimal number as Go's `strconv.ParseFloat` and `big.Rat` read it, without a sign or with `+`: `1`, `.5`,
/// `5.`, `1e3`.
struct Decimal {
    /// Its first 20 digits.
    digits: u128,
    /// How many of them are behind the point; less than nothing for further zeros.
    decimals: i32,
}

impl Decimal {
    /// More digits than these are more than memory and processors have.
    const MOST_DIGITS: usize = 20;

    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i16>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.len() > Self::MOST_DIGITS {
            return None;
        }
        let kept = fraction.len().min(Self::MOST_DIGITS - whole.len());
        let digits = format!("0{whole}{}", &fraction[..kept]);
        Some(Self {
            digits: digits.parse().ok()?,
            decimals: i32::try_from(kept).ok()? - i32::from(exponent),
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            return f.write_str(written);
        }
        for (power, letter) in LETTERS.iter().enumerate().rev() {
            let unit = 1_u64 << (10 * (power + 1));
            if self.bytes >= unit && self.bytes.is_multiple_of(unit) {
                return write!(f, "{}{letter}b", self.bytes / unit);
            }
        }
        write!(f, "{}", self.bytes)
    }
}

impl Scalar for ByteSize {
    const NAME: &'static str = "ByteSize";
    const EXPECTED: &'static str = "an amount of memory such as `8gb`";
    const PATTERN: &'static str =
        r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? ?[kKmMgGtTpP]?[iI]?[bB]?$";
    const EXAMPLES: &'static [&'static str] = &["8gb", "512mb"];
    const ACCEPTS_NUMBERS: bool = true;
}

/// A number of processor cores, in billionths, as docker's `--cpus` has it: `2`, `1.5`, `1/2`. None of them
/// is no limit.
///
/// It is shown as it was written. Two that are written differently and mean the same are equal.
#[derive(Debug, Clone)]
pub struct Cpus {
    nano: u64,
    /// Nothing where that is the usual form.
    written: Option<Box<str>>,
}

/// Billionths of a core in one.
const NANO: u64 = 1_000_000_000;
/// How many decimals a billionth has.
const MOST_DECIMALS: i32 = 9;

impl Cpus {
    /// Billionths of a core, as the engine's `NanoCpus`.
    #[must_use]
    pub fn nano(&self) -> u64 {
        self.nano
    }

    /// The same in the usual form, whatever was written.
    #[must_use]
    pub fn in_usual_form(&self) -> Self {
        Self::from_nano(self.nano)
    }

    fn from_nano(nano: u64) -> Self {
        Self {
            nano,
            written: None,
        }
    }
}

impl PartialEq for Cpus {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Cpus {}

impl FromStr for Cpus {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |message: &str| ValueError::new(message).help("write `2` or `1.5`");
        let nano = match text.split_once('/') {
            Some((parts, of)) => fraction(parts, of).map_err(refuse)?,
            None => decimal(text).map_err(refuse)?,
        };
        let nano = u64::try_from(nano);
        let nano = nano.map_err(|_| refuse("this is more cores than can be counted"))?;
        let usual = Self::from_nano(nano);
        let is_usual = usual.to_string() == text;
        Ok(Self {
            written: (!is_usual).then(|| text.into()),
            ..usual
        })
    }
}

const NOT_CORES: &str = "this is not a number of cores";
const TOO_PRECISE: &str = "a number of cores has at most nine decimals";

/// Billionths of a core in a fraction: `1/2`.
fn fraction(parts: &str, of: &str) -> Result<u128, &'static str> {
    let whole = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    match (whole(parts.strip_prefix('+').unwrap_or(parts)), whole(of)) {
        (Some(parts), Some(of)) if of > 0 => {
            let (nano, of) = (u128::from(parts) * u128::from(NANO), u128::from(of));
            if nano.is_multiple_of(of) {
                Ok(nano / of)
            } else {
                Err(TOO_PRECISE)
            }
        }
        _ => Err(NOT_CORES),
    }
}

/// Billionths of a core in a decimal number.
fn decimal(text: &str) -> Result<u128, &'static str> {
    let number = Decimal::read(text).ok_or(NOT_CORES)?;
    let zeros = MOST_DECIMALS - number.decimals;
    if zeros < 0 && number.digits > 0 {
        return Err(TOO_PRECISE);
    }
    let factor = 10_u128.checked_pow(zeros.unsigned_abs());
    let nano = factor.and_then(|factor| number.digits.checked_mul(factor));
    Ok(nano.unwrap_or(u128::MAX))
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            return f.write_str(written);
        }
        let fraction = format!("{:09}", self.nano % NANO);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{}", self.nano / NANO),
            fraction => write!(f, "{}.{fraction}", self.nano / NANO),
        }
    }
}

impl Scalar for Cpus {
    const NAME: &'static str = "Cpus";
    const EXPECTED: &'static str = "a number of cores such as `2` or `1.5`";
    const PATTERN: &'static str =
        r"^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[0-9]+/[0-9]+)$";
    const EXAMPLES: &'static [&'static str] = &["2", "1.5"];
    const ACCEPTS_NUMBERS: bool = true;
}

#[cfg(test)]
mod tests;
