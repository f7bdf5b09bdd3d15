//! Compares what is in two images that were built from the same.

use serde_json::Value;

use crate::engine::archive::{ImageContent, Layer, Node};

/// Parts of a configuration that say nothing of the image: digests of the layers, which are compared
/// themselves, and what the classic builder notes of the container it worked in.
const INCIDENTAL: [&str; 6] = [
    "rootfs",
    "container",
    "container_config",
    "config.Image",
    "id",
    "parent",
];

/// What is not the same in two images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// What differs, times apart: the configuration first, then layer by layer, by path.
    pub differences: Vec<Difference>,
    /// Times that differ.
    pub times: Times,
}

/// Times that differ, where all else is the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Times {
    /// Whether those of the image and of its history do.
    pub of_image: bool,
    /// How many files' do.
    pub files: usize,
    /// The path of the first such file.
    pub first: Option<String>,
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A part of the configuration: `config.Env[2]`.
    Config(String),
    /// How many layers there are.
    Layers([usize; 2]),
    /// An entry of a layer.
    File {
        /// The layer, from 1.
        layer: usize,
        /// The instruction that made the layer.
        step: Option<String>,
        /// The entry's path, without a slash before it.
        path: String,
        /// How it differs.
        change: Change,
    },
}

/// How an entry of a layer differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the first image has it.
    OnlyFirst,
    /// Only the second image has it.
    OnlySecond,
    /// Both have it.
    Aspects(Vec<Aspect>),
}

/// What of an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// What it is: a file, a folder, a link.
    Kind,
    /// Its size in bytes.
    Size(u64, u64),
    /// Its content, with the same size.
    Content,
    /// Its permissions.
    Mode(u32, u32),
    /// Its owner or group.
    Owner,
    /// Where it leads.
    Link,
    /// Its extended attributes.
    Attributes,
}

/// Compares two images.
#[must_use]
pub(super) fn compare(first: &ImageContent, second: &ImageContent) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.config("", Some(&first.config), Some(&second.config));
    let counts = [first.layers.len(), second.layers.len()];
    if counts[0] != counts[1] {
        comparison.differences.push(Difference::Layers(counts));
    }
    let steps = steps(&first.config);
    let empty = Layer::new();
    for index in 0..counts[0].max(counts[1]) {
        let step = steps.get(index).cloned().flatten();
        comparison.layer(
            (index + 1, step.as_deref()),
            first.layers.get(index).unwrap_or(&empty),
            second.layers.get(index).unwrap_or(&empty),
        );
    }
    comparison
}

impl Comparison {
    fn config(&mut self, key: &str, first: Option<&Value>, second: Option<&Value>) {
        if first == second || INCIDENTAL.contains(&key) {
            return;
        }
        match (first, second) {
            (Some(Value::Object(first)), Some(Value::Object(second))) => {
                let added = second.keys().filter(|name| !first.contains_key(*name));
                for name in first.keys().chain(added) {
                    let dot = if key.is_empty() { "" } else { "." };
                    let inner = format!("{key}{dot}{name}");
                    self.config(&inner, first.get(name), second.get(name));
                }
            }
            (Some(Value::Array(first)), Some(Value::Array(second))) => {
                for index in 0..first.len().max(second.len()) {
                    let inner = format!("{key}[{index}]");
                    self.config(&inner, first.get(index), second.get(index));
                }
            }
            _ if is_time(key) => self.times.of_image = true,
            _ => self.differences.push(Difference::Config(key.to_owned())),
        }
    }

    fn layer(&mut self, place: (usize, Option<&str>), first: &Layer, second: &Layer) {
        let mut paths: Vec<_> = first.keys().collect();
        paths.extend(second.keys().filter(|path| !first.contains_key(*path)));
        paths.sort();
        for path in paths {
            let shown = || String::from_utf8_lossy(path).into_owned();
            let change = match (first.get(path), second.get(path)) {
                (Some(first), Some(second)) => match aspects(first, second) {
                    aspects if !aspects.is_empty() => Change::Aspects(aspects),
                    _ if first.modified != second.modified => {
                        self.times.files += 1;
                        self.times.first.get_or_insert_with(shown);
                        continue;
                    }
                    _ => continue,
                },
                (Some(_), None) => Change::OnlyFirst,
                (None, _) => Change::OnlySecond,
            };
            self.differences.push(Difference::File {
                layer: place.0,
                step: place.1.map(str::to_owned),
                path: shown(),
                change,
            });
        }
    }
}

/// `created`, and `created` of each step.
fn is_time(key: &str) -> bool {
    key == "created" || (key.starts_with("history[") && key.ends_with("].created"))
}

fn aspects(first: &Node, second: &Node) -> Vec<Aspect> {
    if first.kind != second.kind {
        return vec![Aspect::Kind];
    }
    let content = match (first.size, second.size) {
        (before, after) if before != after => Some(Aspect::Size(before, after)),
        _ => (first.content != second.content).then_some(Aspect::Content),
    };
    let mode = (first.mode != second.mode).then_some(Aspect::Mode(first.mode, second.mode));
    let owner = (first.owner != second.owner).then_some(Aspect::Owner);
    let link = (first.link != second.link).then_some(Aspect::Link);
    let attributes = (first.attributes != second.attributes).then_some(Aspect::Attributes);
    [content, mode, owner, link, attributes]
        .into_iter()
        .flatten()
        .collect()
}

/// The instruction that made each layer, as far as the history tells.
fn steps(config: &Value) -> Vec<Option<String>> {
    let history = config["history"].as_array();
    let made = history
        .into_iter()
        .flatten()
        .filter(|step| step["empty_layer"] != true);
    made.map(|step| step["created_by"].as_str().and_then(instruction))
        .collect()
}

/// `RUN |1 A=1 /bin/sh -c make # buildkit` → `RUN make`.
fn instruction(created_by: &str) -> Option<String> {
    let text = created_by.trim().trim_end_matches("# buildkit").trim_end();
    let text = match text.split_once("/bin/sh -c ") {
        Some((_, command)) => match command.strip_prefix("#(nop)") {
            Some(other) => other.trim_start().to_owned(),
            None => format!("RUN {command}"),
        },
        None => text.to_owned(),
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
