//! What a secret looks like in a text.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::Masker;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What RFC 3986 (section 2.3) leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What JavaScript's `encodeURIComponent` leaves as it is besides.
const COMPONENT: &AsciiSet = &UNRESERVED
    .remove(b'!')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*');
/// What Python's `urllib.parse.quote` leaves as it is besides.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Adds all forms of a value that are long enough.
pub(super) fn add(value: &str, forms: &mut Vec<Vec<u8>>) {
    // A secret that is read from a file ends with a line's end, which programs take off.
    for value in [value, value.trim()] {
        if value.len() < Masker::SHORTEST {
            continue;
        }
        let bytes = value.as_bytes();
        forms.push(bytes.to_vec());
        // A terminal ends lines so.
        forms.push(value.replace('\n', "\r\n").into_bytes());
        base64_forms(bytes, forms);
        percent_forms(bytes, forms);
        let quoted = serde_json::Value::from(value).to_string();
        forms.push(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
    }
}

/// A value alone, and what its bytes always come to within a longer text, at each of the three
/// places that they can have among its groups of three.
fn base64_forms(value: &[u8], forms: &mut Vec<Vec<u8>>) {
    for alphabet in [STANDARD, URL_SAFE] {
        let alone = base64(value, alphabet);
        let mut padded = alone.clone();
        while !padded.len().is_multiple_of(4) {
            padded.push(b'=');
        }
        forms.extend([alone, padded]);
        for before in 0..3 {
            let text = [&vec![0; before], value].concat();
            let first = (8 * before).div_ceil(6);
            let last = 8 * text.len() / 6;
            forms.push(base64(&text, alphabet)[first..last].to_vec());
        }
    }
}

/// Base64 (RFC 4648, sections 4 and 5) without padding.
fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=group.len() {
            text.push(alphabet[(bits >> (18 - 6 * digit) & 63) as usize]);
        }
    }
    text
}

/// As different programs do it: what they leave alone, a blank as `+`, digits in either case.
fn percent_forms(value: &[u8], forms: &mut Vec<Vec<u8>>) {
    for set in [NON_ALPHANUMERIC, UNRESERVED, COMPONENT, PATH] {
        let upper = percent_encode(value, set).to_string();
        for text in [lower_digits(&upper), upper] {
            forms.push(text.replace("%20", "+").into_bytes());
            forms.push(text.into_bytes());
        }
    }
}

fn lower_digits(encoded: &str) -> String {
    let mut text = String::with_capacity(encoded.len());
    let mut parts = encoded.split('%');
    text.extend(parts.next());
    for part in parts {
        let (digits, rest) = part.split_at(2);
        text.extend(["%", &digits.to_lowercase(), rest]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{STANDARD, base64, lower_digits};

    /// RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes(), STANDARD), expected.as_bytes());
        }
    }

    #[test]
    fn only_digits_are_put_in_lower_case() {
        assert_eq!(lower_digits("A%2FB%C3%A9C"), "A%2fB%c3%a9C");
        assert_eq!(lower_digits("%2F"), "%2f");
    }
}
