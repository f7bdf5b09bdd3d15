//! Mappings whose keys are known.

use std::ops::Range;

use super::{Decoder, Field, list};
use crate::manifest::Rule;
use crate::manifest::node::{Key, Node};
use crate::manifest::suggest::nearest;

/// A mapping whose keys are known.
pub(crate) struct Table<'n> {
    entries: &'n [(Key, Node)],
    span: Range<usize>,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    refused: Vec<&'static str>,
    expected: &'static str,
}

impl<'n> Table<'n> {
    pub(crate) fn open(
        node: &'n Node,
        expected: &'static str,
        decoder: &mut Decoder<'_>,
    ) -> Option<Self> {
        let entries = decoder.map(node)?;
        let span = entries
            .first()
            .map_or_else(|| node.place(), |(key, _)| key.place());
        Some(Self {
            entries,
            span,
            known: Vec::new(),
            missing: Vec::new(),
            refused: Vec::new(),
            expected,
        })
    }

    /// The value of a key. A value that can't be read counts as absent where it may be.
    pub(crate) fn field<T: Field>(
        &mut self,
        key: &'static str,
        decoder: &mut Decoder<'_>,
    ) -> Option<T> {
        self.known.push(key);
        match self.entries.iter().find(|(entry, _)| entry.text == key) {
            Some((_, node)) => decoder
                .within(key, |decoder| T::present(node, decoder))
                .or_else(T::absent),
            None => {
                let value = T::absent();
                if value.is_none() {
                    self.missing.push(key);
                }
                value
            }
        }
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.text == key)
    }

    /// Refuses a key that would have no effect, if it is there.
    pub(crate) fn refuse(&mut self, key: &'static str, help: &str, decoder: &mut Decoder<'_>) {
        self.refused.push(key);
        let found = self.entries.iter().find(|(entry, _)| entry.text == key);
        if let Some((entry, _)) = found {
            let diagnostic = Rule::NotSupported
                .error(format!("`{key}` is not supported yet"))
                .at(decoder.source, entry.place(), "")
                .help(help);
            decoder.report(diagnostic);
        }
    }

    /// Says which keys are unknown and which are missing.
    pub(crate) fn close(mut self, decoder: &mut Decoder<'_>) {
        let unused: Vec<_> = self
            .known
            .iter()
            .copied()
            .filter(|key| !self.has(key))
            .collect();
        for (key, _) in self.entries {
            let text = key.text.as_str();
            if self.known.contains(&text) || self.refused.contains(&text) || key.is_extension() {
                continue;
            }
            // `cpus` of a job is compose's key, and not a slip of `gpus`.
            let elsewhere = elsewhere(&key.text);
            let is_of_compose = elsewhere.is_some() && self.known.contains(&"resources");
            let near = nearest(&key.text, unused.iter().copied());
            let meant = near.filter(|_| !is_of_compose);
            // A key that is misspelt is not missing as well.
            self.missing.retain(|missing| Some(*missing) != meant);
            let label = meant.map_or_else(String::new, |meant| format!("did you mean `{meant}`?"));
            let mut diagnostic = Rule::UnknownKey
                .error(format!("unknown key `{}`{}", key.text, decoder.location()))
                .at(decoder.source, key.place(), label);
            if key.defined.is_some() {
                diagnostic = diagnostic.related(key.span.clone(), "used here");
            }
            decoder.report(match meant {
                Some(meant) => diagnostic.help(format!("write `{meant}`")),
                None => {
                    let keys =
                        || format!("the keys of {} are {}", self.expected, list(&self.known));
                    diagnostic.help(elsewhere.map_or_else(keys, str::to_owned))
                }
            });
        }
        self.close_missing(decoder);
    }

    /// Says which keys are missing.
    pub(crate) fn close_missing(self, decoder: &mut Decoder<'_>) {
        for key in self.missing {
            let diagnostic = Rule::MissingKey
                .error(format!("`{key}` is missing{}", decoder.location()))
                .at(decoder.source, self.span.clone(), "in this mapping")
                .help(format!("add `{key}:`"));
            decoder.report(diagnostic);
        }
    }
}

/// Words from compose, docker and Kubernetes whose meaning has another name or place here.
fn elsewhere(key: &str) -> Option<&'static str> {
    Some(match key {
        "env" | "envs" | "variables" => "variables are set under `environment`",
        "depends_on" | "dependencies" => "what a job needs first goes under `needs`",
        "cmd" | "args" | "script" | "run" => "what the container runs is the job's `command`",
        "mem_limit" | "memory" | "mem" | "cpus" | "cpu" | "shm_size" | "shm-size" => {
            "`cpus`, `memory` and `shm_size` go under the job's `resources`"
        }
        "deploy" | "devices" | "device_ids" => "GPUs are asked for with the job's `gpus`",
        "retries" | "attempts" => "write `retry: { attempts: 2 }` in the job",
        "network_mode" | "networks" | "net" => {
            "the network is the job's `network`: `bridge`, `none`, `host`, or one that exists"
        }
        "gate" => "a gate goes under what is needed: `needs: { JOB: { gate: … } }`",
        "container_name" => "a run's container is named by jobctl; the job's key is its name",
        "services" => "a job that stays up is a job with `service: true`",
        "workdir" => "the directory it starts in is the job's `working_dir`",
        "cap_add"
        | "cap_drop"
        | "device_cgroup_rules"
        | "hostname"
        | "init"
        | "ipc"
        | "labels"
        | "platform"
        | "privileged"
        | "pull_policy"
        | "read_only"
        | "runtime"
        | "security_opt"
        | "stop_grace_period"
        | "stop_signal"
        | "tmpfs"
        | "ulimits"
        | "extra_hosts"
        | "stdin_open"
        | "tty" => "jobs.yaml has no key for it; `jobctl run --help` lists the flag of one run",
        "value" => "a secret is never written down here: name a variable or a file that has it",
        _ => return None,
    })
}
