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

/// What is longer is looked for as it is alone: it is a file, and nobody puts that into an address.
const LONG_BYTES: usize = 16 << 10;

/// What a secret looks like.
#[derive(Default)]
pub(super) struct Forms {
    /// In a text as it is.
    pub(super) plain: Vec<Vec<u8>>,
    /// In a text whose lines are joined: base64 has an end of a line wherever its program likes.
    pub(super) joined: Vec<Vec<u8>>,
}

impl Forms {
    /// Adds all forms of a value that are long enough; and those of its lines, since programs show
    /// them one by one, indented or behind something.
    pub(super) fn add(&mut self, value: &str) {
        // A secret that is read from a file ends with a line's end, which programs take off.
        for value in [value, value.trim()] {
            if value.len() < Masker::SHORTEST {
                continue;
            }
            self.add_text(value);
            if value.len() <= LONG_BYTES {
                self.add_base64(value.as_bytes());
            }
        }
        // A key in a variable often has `\n` for the ends of its lines.
        for end in ["\n", "\\n"].into_iter().filter(|end| value.contains(end)) {
            let lines = value.split(end).map(str::trim);
            for line in lines.filter(|line| line.len() >= Masker::SHORTEST) {
                self.add_text(line);
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        self.plain.push(text.as_bytes().to_vec());
        // A terminal ends lines so.
        self.plain.push(text.replace('\n', "\r\n").into_bytes());
        let is_word = |byte: u8| byte.is_ascii_alphanumeric();
        if text.len() > LONG_BYTES || text.bytes().all(is_word) {
            return;
        }
        percent_forms(text.as_bytes(), &mut self.plain);
        for form in json_forms(text).into_iter().chain(quoted_forms(text)) {
            self.plain.push(form.into_bytes());
        }
    }

    /// A value alone, and what its bytes always come to within a longer text, at each of the three
    /// places that they can have among its groups of three.
    fn add_base64(&mut self, value: &[u8]) {
        for alphabet in [STANDARD, URL_SAFE] {
            let alone = base64(value, alphabet);
            let mut padded = alone.clone();
            while !padded.len().is_multiple_of(4) {
                padded.push(b'=');
            }
            let mut forms = vec![alone, padded];
            for before in 0..3 {
                let text = [&vec![0; before], value].concat();
                let first = (8 * before).div_ceil(6);
                let last = 8 * text.len() / 6;
                forms.push(base64(&text, alphabet)[first..last].to_vec());
            }
            self.joined.extend(forms);
        }
    }
}

/// As JSON has it: as it must, in ASCII, as Go and PHP write it, and as JSON within JSON.
fn json_forms(text: &str) -> Vec<String> {
    let quoted = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let json = quoted(text);
    let mut ascii = String::new();
    for letter in json.chars() {
        if letter.is_ascii() {
            ascii.push(letter);
        } else {
            let units = letter.encode_utf16(&mut [0; 2]).to_vec();
            ascii.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    let go = ['<', '>', '&'].iter().fold(json.clone(), |text, sign| {
        text.replace(*sign, &format!("\\u{:04x}", u32::from(*sign)))
    });
    vec![json.replace('/', "\\/"), quoted(&json), ascii, go, json]
}

/// As shells and Python quote it: `printf %q`, `set -x`, `declare -p`, `repr`.
fn quoted_forms(text: &str) -> Vec<String> {
    /// What bash's `printf %q` leaves as it is.
    const BARE: &str = "%+-./:=@_~#";

    let backslashes = |is_quoted: fn(char) -> bool| {
        let letters = text.chars().flat_map(|letter| {
            let backslash = is_quoted(letter).then_some('\\');
            backslash.into_iter().chain([letter])
        });
        letters.collect::<String>()
    };
    let bash = backslashes(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !BARE.contains(c));
    let double = backslashes(|c| matches!(c, '"' | '$' | '`' | '\\'));
    let mut forms = vec![bash, double];
    for quote in [r"'\''", "'\"'\"'"] {
        forms.push(text.replace('\'', quote));
    }
    for quote in ['\'', '"', '\0'] {
        let mut form = String::new();
        for letter in text.chars() {
            match letter {
                '\n' => form.push_str("\\n"),
                '\r' => form.push_str("\\r"),
                '\t' => form.push_str("\\t"),
                '\\' => form.push_str("\\\\"),
                letter if letter == quote => form.extend(['\\', letter]),
                letter => form.push(letter),
            }
        }
        forms.push(form);
    }
    forms
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
