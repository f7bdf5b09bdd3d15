//! A stage of a Dockerfile: what it begins from, and what its instructions take from elsewhere.

use super::instructions::Instruction;
use super::words::{Problem, Variable, blank_words, expand, json_words};
use crate::model::csv;

/// A stage, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stage {
    /// In small letters.
    pub(super) name: Option<String>,
    pub(super) base: String,
    pub(super) origins: Vec<Origin>,
    pub(super) remotes: Vec<String>,
    pub(super) is_uncertain: bool,
    /// What each instruction leaves out that takes the whole context otherwise.
    pub(super) whole: Vec<Vec<String>>,
}

/// What `from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In `COPY`: a stage by its name or number, or an image.
    Copy(String),
    /// In a mount: a stage by its name, or an image.
    Mount(String),
}

impl Stage {
    pub(super) fn begun(instruction: &Instruction) -> Result<Self, Problem> {
        let words = blank_words(&instruction.rest);
        let (base, name) = match words[..] {
            [base] => (base, None),
            [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(name)),
            _ => return Err(Problem::Refused),
        };
        let name = name.map(str::to_lowercase);
        let is_name = |name: &String| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(allowed)
        };
        if !name.as_ref().is_none_or(is_name) {
            return Err(Problem::Refused);
        }
        Ok(Self {
            name,
            base: base.to_owned(),
            ..Self::default()
        })
    }

    pub(super) fn note(&mut self, instruction: &Instruction, escape: char) -> Result<(), Problem> {
        let values = |name: &str| {
            let flags = instruction.flags.iter();
            let values = flags.filter_map(|flag| flag.strip_prefix(name)?.strip_prefix('='));
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let excluded = || values("--exclude");
        match instruction.keyword.as_str() {
            "COPY" | "ADD" => {
                let words = match json_words(&instruction.rest)? {
                    Some(words) => words,
                    None => owned(blank_words(&instruction.rest)),
                };
                let [sources @ .., _] = words.as_slice() else {
                    return Err(Problem::Refused);
                };
                let from = values("--from");
                let takes_all = from.is_empty() && sources.iter().any(|path| is_all(path));
                self.whole.extend(takes_all.then(excluded));
                match (instruction.keyword.as_str(), from.as_slice()) {
                    ("ADD", _) => self.add(sources, escape)?,
                    (_, []) => {}
                    (_, [from]) => {
                        self.is_uncertain |= from.contains('$');
                        self.origins.push(Origin::Copy(from.clone()));
                    }
                    _ => return Err(Problem::Refused),
                }
            }
            "RUN" => {
                for mount in values("--mount") {
                    let mount = Mount::read(&mount)?;
                    let takes_all = mount.from.is_none() && mount.is_bound && mount.is_all;
                    self.whole.extend(takes_all.then(excluded));
                    self.is_uncertain |= mount.is_uncertain;
                    self.origins.extend(mount.from.map(Origin::Mount));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes what `ADD` fetches.
    fn add(&mut self, sources: &[String], escape: char) -> Result<(), Problem> {
        for source in sources {
            // What a variable of a stage is, the base image may decide.
            match expand(source, escape, &|_| Variable::Unknown) {
                Ok(source) if source.contains("://") || source.starts_with("git@") => {
                    self.remotes.push(source);
                }
                Ok(source) => self.is_uncertain |= source.contains('@') && source.contains(':'),
                Err(Problem::Unknown) => self.is_uncertain = true,
                Err(Problem::Refused) => return Err(Problem::Refused),
            }
        }
        Ok(())
    }
}

/// A mount of `RUN`.
struct Mount {
    from: Option<String>,
    is_bound: bool,
    /// Whether all that there is is mounted.
    is_all: bool,
    is_uncertain: bool,
}

impl Mount {
    fn read(text: &str) -> Result<Self, Problem> {
        let mut kind = "bind".to_owned();
        let mut from = None;
        let mut source = ".".to_owned();
        for field in csv::fields(text).map_err(|_| Problem::Refused)? {
            let (key, value) = field.split_once('=').unwrap_or((&field, ""));
            match key.to_ascii_lowercase().as_str() {
                "type" => kind = value.to_ascii_lowercase(),
                "from" => from = Some(value.to_owned()).filter(|from| !from.is_empty()),
                "source" | "src" => value.clone_into(&mut source),
                _ => {}
            }
        }
        let is_used = matches!(kind.as_str(), "bind" | "cache");
        let is_uncertain = from
            .as_ref()
            .is_some_and(|from| !is_used || from.contains('$'));
        Ok(Self {
            from,
            is_bound: kind == "bind",
            is_all: is_all(&source),
            is_uncertain,
        })
    }
}

fn is_all(path: &str) -> bool {
    matches!(path, "." | "./" | "/" | "*" | "./*" | "/*")
}

fn owned(words: Vec<&str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}
