//! What differs between an earlier run and one that is about to start, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::RunPlan;
use super::key::{Handed, counts, in_usual_form};
use crate::model::RunId;
use crate::plan::build::is_proxy;
use crate::records::{ImageRecord, InputRecord, Key, Record, VariableRecord};

/// No value is shown with more characters.
const LONGEST: usize = 60;
/// So many files of a context are named.
const FILES: usize = 3;

/// Something that differs. It never has a secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub aspect: Aspect,
    /// Which one, where there can be several.
    pub name: Option<String>,
    /// What it was; nothing if it was not there, or is not known.
    pub old: Option<String>,
    /// What it is; nothing if it is not there any more, or is a secret.
    pub new: Option<String>,
    /// Of an image, the files of its context that differ.
    pub files: Vec<String>,
}

/// What decides what comes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// What is in its image.
    Image,
    /// The command or the entry point.
    Command,
    /// Something else that is asked of the container.
    Container,
    /// An environment variable.
    Variable,
    /// A file or directory that it reads.
    Input,
    /// An output of another job that it reads.
    Output,
    /// Where one of its own outputs is.
    Path,
    /// Something that the record does not show.
    Hidden,
}

impl Aspect {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Command => "command",
            Self::Container => "container",
            Self::Variable => "variable",
            Self::Input => "input",
            Self::Output => "output",
            Self::Path => "path",
            Self::Hidden => "hidden",
        }
    }
}

impl Difference {
    fn new(aspect: Aspect, name: Option<&str>, old: Option<String>, new: Option<String>) -> Self {
        Self {
            aspect,
            name: name.map(str::to_owned),
            old: old.map(|old| shortened(&old)),
            new: new.map(|new| shortened(&new)),
            files: Vec::new(),
        }
    }

    /// What differs, without how: ``variable `STEPS` ``.
    #[must_use]
    pub fn subject(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        match self.aspect {
            Aspect::Image if self.files.is_empty() => "image".to_owned(),
            Aspect::Image => format!("image ({})", named(&self.files)),
            Aspect::Command => "command".to_owned(),
            Aspect::Container => format!("`{name}` of the container"),
            Aspect::Path => format!("path of the output `{name}`"),
            Aspect::Hidden => "something secret in its command, or jobctl's version".to_owned(),
            aspect => format!("{} `{name}`", aspect.word()),
        }
    }
}

impl fmt::Display for Difference {
    /// ``variable `STEPS`: 1 → 2``
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject())?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, ": {old} → {new}"),
            (Some(old), None) => write!(f, ": {old} → not there"),
            (None, Some(new)) => write!(f, ": new: {new}"),
            (None, None) => Ok(()),
        }
    }
}

/// `a, b, c and 2 more`
fn named(files: &[String]) -> String {
    let (first, others) = files.split_at(files.len().min(FILES));
    let first: Vec<_> = first.iter().map(|name| shortened(name)).collect();
    let first = first.join(", ");
    match others.len() {
        0 => first,
        others => format!("{first} and {others} more"),
    }
}

fn shortened(text: &str) -> String {
    let text = text.escape_debug().to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A digest as people are shown it.
fn digest(text: &str) -> String {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    format!("sha256:{}", &text[..text.len().min(12)])
}

/// A run that is about to start.
pub struct Planned<'a> {
    /// How.
    pub plan: &'a RunPlan,
    /// Its image.
    pub image: &'a ImageRecord,
    /// What it reads.
    pub inputs: &'a BTreeMap<String, InputRecord>,
    /// What it is handed by other runs.
    pub handed: &'a Handed,
    /// Its environment variables, as a record has them.
    pub environment: &'a [VariableRecord],
}

/// What is known of an earlier run, besides its record.
pub struct Known<'a> {
    /// The key of the digests of values in it.
    pub project: &'a Key,
    /// The records of the runs that it read.
    pub parents: &'a dyn Fn(RunId) -> Option<Record>,
    /// The files of its image's context that changed since.
    pub files: Vec<String>,
}

/// What of a run differs from an earlier one; never empty.
#[must_use]
pub fn differences(planned: &Planned<'_>, record: &Record, known: Known<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    if !planned.image.is_alike(&record.image) {
        // The image of a run that was named is known once it ended.
        let id = |image: &ImageRecord| Some(image.id.as_deref().map_or("not known".into(), digest));
        let mut image = Difference::new(Aspect::Image, None, id(&record.image), id(planned.image));
        image.files = known.files;
        found.push(image);
    }
    container(planned, record, &mut found);
    variables(planned, record, known.project, &mut found);
    let of_input = |input: &InputRecord| {
        let kind = if input.is_executable {
            ", executable"
        } else {
            ""
        };
        (input.sha256.clone(), format!("{}{kind}", input.target))
    };
    let inputs = |inputs: &BTreeMap<String, InputRecord>| {
        let inputs = inputs.iter();
        inputs
            .map(|(name, input)| (name.clone(), of_input(input)))
            .collect()
    };
    contents(
        Aspect::Input,
        &inputs(&record.inputs),
        &inputs(planned.inputs),
        &mut found,
    );
    let then = record.places().into_iter().flat_map(|(job, outputs)| {
        let parent = record.parents.get(&job).and_then(|id| (known.parents)(*id));
        let outputs = outputs.into_iter().map(move |(output, target)| {
            let kept = parent
                .as_ref()
                .and_then(|parent| parent.outputs.get(&output));
            let sha256 = kept.map(|kept| kept.sha256.clone()).unwrap_or_default();
            (format!("{output} of {job}"), (sha256, target))
        });
        outputs.collect::<Vec<_>>()
    });
    let now = planned.handed.iter().flat_map(|(job, outputs)| {
        let outputs = outputs.iter();
        outputs.map(move |(output, known)| (format!("{output} of {job}"), known.clone()))
    });
    contents(Aspect::Output, &then.collect(), &now.collect(), &mut found);
    let paths = each(&record.policy.outputs, &planned.plan.policy.outputs);
    found.extend(paths.map(|(name, old, new)| {
        Difference::new(Aspect::Path, Some(name), old.cloned(), new.cloned())
    }));
    if found.is_empty() {
        found.push(Difference::new(Aspect::Hidden, None, None, None));
    }
    found
}

/// The entries of two maps that differ.
fn each<'a, V: PartialEq>(
    then: &'a BTreeMap<String, V>,
    now: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a str, Option<&'a V>, Option<&'a V>)> {
    let names: BTreeSet<_> = then.keys().chain(now.keys()).collect();
    let pairs = names
        .into_iter()
        .map(|name| (name.as_str(), then.get(name), now.get(name)));
    pairs.filter(|(_, then, now)| then != now)
}

/// Digests that differ, or places in the container.
fn contents(
    aspect: Aspect,
    then: &BTreeMap<String, (String, String)>,
    now: &BTreeMap<String, (String, String)>,
    found: &mut Vec<Difference>,
) {
    for (name, old, new) in each(then, now) {
        let difference = match (old, new) {
            (Some((old, from)), Some((new, to))) if old == new => {
                Difference::new(aspect, Some(name), Some(from.clone()), Some(to.clone()))
            }
            (old, new) => {
                let shown = |known: Option<&(String, String)>| {
                    let known = known.filter(|(sha256, _)| !sha256.is_empty());
                    known.map(|(sha256, _)| digest(sha256))
                };
                Difference::new(aspect, Some(name), shown(old), shown(new))
            }
        };
        found.push(difference);
    }
}

/// What is asked of the container. Mounts of what a run reads were added to its record's.
fn container(planned: &Planned<'_>, record: &Record, found: &mut Vec<Difference>) {
    let targets: BTreeSet<_> = (record.inputs.values().map(|input| input.target.clone()))
        .chain(
            record
                .places()
                .into_values()
                .flat_map(BTreeMap::into_values),
        )
        .collect();
    let is_service = planned.plan.policy.is_service;
    let fields = |container: &Value| {
        let mut fields = container.as_object().cloned().unwrap_or_default();
        in_usual_form(&mut fields);
        let mut fields: BTreeMap<_, _> = fields
            .into_iter()
            .filter(|(name, _)| counts(name, is_service))
            .collect();
        if let Some(Value::Array(mounts)) = fields.get_mut("mounts") {
            let is_read = |mount: &Value| {
                let target = mount["target"].as_str();
                mount["read_only"] == true && target.is_some_and(|target| targets.contains(target))
            };
            mounts.retain(|mount| !is_read(mount));
            if mounts.is_empty() {
                fields.remove("mounts");
            }
        }
        fields
    };
    let (then, now) = (fields(&record.container), fields(&planned.plan.container()));
    for (name, old, new) in each(&then, &now) {
        let (aspect, shown) = match name {
            "command" | "entrypoint" => (Aspect::Command, None),
            name => (Aspect::Container, Some(name)),
        };
        let (old, new) = (old.map(text), new.map(text));
        found.push(Difference::new(aspect, shown, old, new));
    }
}

/// The words of a command, or another value as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let words: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        value => value.to_string(),
    }
}

fn variables(planned: &Planned<'_>, record: &Record, project: &Key, found: &mut Vec<Difference>) {
    let by_name = |variables: &[VariableRecord]| -> BTreeMap<String, VariableRecord> {
        let variables = variables.iter();
        let variables = variables.filter(|variable| !is_proxy(&variable.name));
        variables
            .map(|variable| (variable.name.clone(), variable.clone()))
            .collect()
    };
    let (then, now) = (by_name(&record.environment), by_name(planned.environment));
    let is_same = |old: &VariableRecord, new: &VariableRecord| {
        let is_service = planned.plan.policy.is_service;
        if new.is_secret && !is_service && planned.plan.sensitive.is_name(&new.name) {
            return true;
        }
        match (&old.digest, &new.value) {
            // An earlier jobctl did not keep the value.
            (Some(digest), Some(value)) => *digest == project.digest(value.as_bytes()),
            _ => old.value == new.value && old.digest == new.digest,
        }
    };
    for (name, old, new) in each(&then, &now) {
        if let (Some(old), Some(new)) = (old, new)
            && is_same(old, new)
        {
            continue;
        }
        let shown = |variable: Option<&VariableRecord>| {
            let variable = variable?;
            let value = variable.value.clone();
            let is_hidden = variable.is_secret || variable.digest.is_some();
            let otherwise = if is_hidden {
                "(not shown)"
            } else {
                "(not set)"
            };
            Some(value.unwrap_or_else(|| otherwise.to_owned()))
        };
        found.push(Difference::new(
            Aspect::Variable,
            Some(name),
            shown(old),
            shown(new),
        ));
    }
}

#[cfg(test)]
mod tests;
