//! One wrong letter in any key of `jobs.yaml` is answered with the right one.

use std::collections::BTreeSet;
use std::path::Path;

use jobctl::facts::Environment;
use jobctl::manifest::{self, Rule};
use serde_json::Value;

/// All keys that the schema has anywhere.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                found.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// All words that are one slip away: a letter left out, doubled or swapped with the next, a wrong
/// letter, a letter too many.
fn slips(word: &str, letters: &str) -> BTreeSet<String> {
    let chars: Vec<char> = word.chars().collect();
    let mut slips = BTreeSet::new();
    for at in 0..chars.len() {
        let (before, after) = (&chars[..at], &chars[at + 1..]);
        let join = |middle: &[char]| before.iter().chain(middle).chain(after).collect::<String>();
        slips.insert(join(&[]));
        slips.insert(join(&[chars[at], chars[at]]));
        for letter in letters.chars() {
            slips.insert(join(&[letter]));
            slips.insert(join(&[letter, chars[at]]));
            slips.insert(join(&[chars[at], letter]));
        }
        if at + 1 < chars.len() {
            let mut swapped = chars.clone();
            swapped.swap(at, at + 1);
            slips.insert(swapped.into_iter().collect());
        }
    }
    slips.remove(word);
    slips.remove("");
    slips
}

#[test]
fn every_slip_in_every_key_is_answered_with_the_key() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/valid");
    let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    let environment = Environment::new([("HF_TOKEN", "x")], "/");
    let mut known = BTreeSet::new();
    keys(&manifest::json_schema(), &mut known);
    // All letters take minutes; these are enough to see a change.
    let is_full = std::env::var_os("JOBCTL_TEST_FULL").is_some();
    let letters = if is_full {
        "abcdefghijklmnopqrstuvwxyz_"
    } else {
        "ae"
    };

    let pattern = regex::Regex::new(r"(?m)(?:^ *|[{,] *)(?:- )?([a-z_]+):(?: |$)").unwrap();
    let (mut right, mut wrong) = (0_usize, Vec::new());
    let mut seen = BTreeSet::new();
    for text in [read("full.yaml"), read("other-keys.yaml")] {
        for key in pattern
            .captures_iter(&text)
            .filter_map(|found| found.get(1))
        {
            let line = text[..key.start()].rsplit('\n').next().unwrap_or_default();
            if !known.contains(key.as_str()) || line.contains('#') {
                continue;
            }
            seen.insert(key.as_str().to_owned());
            for slip in slips(key.as_str(), letters).difference(&known) {
                let broken = format!("{}{slip}{}", &text[..key.start()], &text[key.end()..]);
                let found = manifest::parse(&broken, Path::new("jobs.yaml"), &folder, &environment)
                    .expect_err(slip);
                let answer = found.iter().find(|diagnostic| {
                    diagnostic.rule == Rule::UnknownKey.name()
                        && diagnostic.primary.as_ref().unwrap().span.start == key.start()
                });
                let expected = format!("write `{}`", key.as_str());
                match answer {
                    Some(answer) if answer.help.first() == Some(&expected) => right += 1,
                    _ => wrong.push(format!("{slip} for {}", key.as_str())),
                }
            }
        }
    }
    let share = right * 1000 / (right + wrong.len());
    println!(
        "{right} of {} slips answered rightly ({share} ‰)",
        right + wrong.len()
    );
    assert!(share >= 950, "{share} ‰; wrong: {wrong:?}");
    assert_eq!(seen, known, "the examples have all keys");
}
