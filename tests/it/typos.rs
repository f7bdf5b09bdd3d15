//! One wrong letter in any key of `jobs.yaml` is answered with the right one.

use std::collections::BTreeSet;
use std::path::Path;

use jobctl::facts::Environment;
use jobctl::manifest::{self, Rule};
use serde_json::Value;

use crate::support::{Bench, run};

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

/// The keys of a service in the Compose Specification that a job does not have, and those that people
/// try besides.
const KEYS_OF_COMPOSE: &str = "annotations args attach blkio_config cap_add cap_drop cgroup cgroup_parent \
     cmd configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime \
     cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt \
     dns_search domainname driver_opts env envs expose extends external_links extra_hosts group_add hostname \
     init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness \
     memory memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform \
     post_start pre_stop privileged profiles provider pull_policy read_only runtime scale secrets security_opt \
     shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket \
     userns_mode uts volumes_from";

#[test]
fn every_key_of_a_compose_service_has_a_hint_of_its_own() {
    let help_of = |verb| run(Bench::new().jobctl().args([verb, "--help"])).stdout;
    let helps = [("run", help_of("run")), ("build", help_of("build"))];
    let named = regex::Regex::new("`jobctl (run|build) (--[a-z-]+)").unwrap();
    let mut flags = 0;
    for key in KEYS_OF_COMPOSE.split_whitespace() {
        let text = format!("version: 1\nname: t\njobs: {{ a: {{ image: b, {key}: 1 }} }}\n");
        let environment = Environment::new([("A", "x")], "/");
        let found = manifest::parse(&text, Path::new("jobs.yaml"), Path::new("/"), &environment);
        let found = found.expect_err(key);
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        let help = found[0].help.concat();
        assert!(!help.contains("the keys of"), "{key}: {help}");
        for flag in named.captures_iter(&help) {
            let (_, help) = helps.iter().find(|(verb, _)| *verb == &flag[1]).unwrap();
            let shown = regex::Regex::new(&format!("{}\\b", &flag[2])).unwrap();
            assert!(shown.is_match(help), "{key}: {}", &flag[0]);
            flags += 1;
        }
    }
    assert!(flags > 20, "{flags}");
}
