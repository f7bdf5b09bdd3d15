//! What must be known of a Dockerfile before it is built: which images it begins from.
//!
//! The engine reads the Dockerfile for real, names what it builds from, and reports what is wrong with
//! it. This reading serves what comes before: what is pulled first, and what is expected. It follows
//! BuildKit's parser and shell lexer, in each of the versions that read a file differently, and says
//! where they disagree or where only the engine can know.

mod instructions;
mod stage;
mod words;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::model::ImageRef;

use self::instructions::{HereDocuments, Instruction, parse, syntax};
use self::stage::{Origin, Stage};
use self::words::{Problem, Variable, blank_words, expand, quoted_words};

/// Variables that the engine sets itself, from its platform.
const PLATFORM_ARGS: [&str; 11] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

/// How many stages are read: nobody writes more.
const MOST_STAGES: usize = 500;

/// The instructions that there are, but for `FROM` and `ARG`.
const KEYWORDS: [&str; 16] = [
    "ADD",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A Dockerfile, as each version of BuildKit reads it that does not refuse it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The image that reads the Dockerfile, if it names one (`# syntax=`).
    pub syntax: Option<String>,
    readings: Vec<Reading>,
}

/// What an image is made from, as far as that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Images, as the Dockerfile names them, in order and without doubles.
    pub images: Vec<String>,
    /// The image that the built one continues.
    pub base: Base,
    /// Addresses that files are fetched from.
    pub remotes: Vec<String>,
    /// Of each instruction that takes the whole context, the patterns of what it leaves out.
    pub whole: Vec<Vec<String>>,
    /// Whether these are the sources, whatever the version of the engine. Instructions of a base image
    /// (`ONBUILD`) may add others.
    pub is_certain: bool,
}

/// The image that a built one continues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Base {
    /// That can't be read.
    #[default]
    Unknown,
    /// None: it begins from nothing.
    Scratch,
    /// This, as the Dockerfile names it.
    Image(String),
}

impl Dockerfile {
    /// Reads a Dockerfile; what can't be understood is left for the engine to report.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut readings = Vec::new();
        for version in HereDocuments::ALL {
            if let Ok(reading) = Reading::of(text, version)
                && !readings.contains(&reading)
            {
                readings.push(reading);
            }
        }
        Self {
            syntax: syntax(text),
            readings,
        }
    }

    /// What the image of a stage (the last if none is named) is made from, with these arguments.
    #[must_use]
    pub fn sources(&self, target: Option<&str>, args: &BTreeMap<String, String>) -> Sources {
        let mut found = self
            .readings
            .iter()
            .filter_map(|reading| reading.sources(target, args).ok());
        let Some(mut sources) = found.next() else {
            return Sources::default();
        };
        for other in found {
            sources.is_certain &= other == sources;
            if other.base != sources.base {
                sources.base = Base::Unknown;
            }
        }
        // Another image may read it in another way.
        sources.is_certain &= self.syntax.is_none() && !args.contains_key("BUILDKIT_SYNTAX");
        sources
    }
}

/// A Dockerfile as a version of BuildKit reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    escape: char,
    stages: Vec<Stage>,
    /// `ARG`s before the first `FROM`, with their defaults as they are written.
    globals: Vec<(String, Option<String>)>,
    is_certain: bool,
}

impl Reading {
    fn of(text: &str, version: HereDocuments) -> Result<Self, Problem> {
        let parsed = parse(text, version);
        if parsed.problem == Some(Problem::Refused) {
            return Err(Problem::Refused);
        }
        let mut reading = Self {
            escape: parsed.escape,
            stages: Vec::new(),
            globals: Vec::new(),
            is_certain: parsed.problem.is_none(),
        };
        for instruction in &parsed.instructions {
            match (instruction.keyword.as_str(), reading.stages.last_mut()) {
                ("FROM", _) => reading.stages.push(Stage::begun(instruction)?),
                ("ARG", None) => reading.globals(instruction)?,
                ("ARG", Some(_)) => {}
                (keyword, Some(stage)) if KEYWORDS.contains(&keyword) => {
                    stage.note(instruction, parsed.escape)?;
                }
                _ => return Err(Problem::Refused),
            }
        }
        if reading.stages.is_empty() || reading.stages.len() > MOST_STAGES {
            return Err(Problem::Refused);
        }
        Ok(reading)
    }

    fn globals(&mut self, instruction: &Instruction) -> Result<(), Problem> {
        for word in quoted_words(&instruction.rest, self.escape) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if name.is_empty() {
                return Err(Problem::Refused);
            }
            self.globals.push((name.to_owned(), value));
        }
        Ok(())
    }

    fn sources(
        &self,
        target: Option<&str>,
        args: &BTreeMap<String, String>,
    ) -> Result<Sources, Problem> {
        let index = match target {
            // The classic builder takes numbers as well.
            Some(target) => self
                .named(target)
                .or_else(|| {
                    target
                        .parse()
                        .ok()
                        .filter(|index| *index < self.stages.len())
                })
                .ok_or(Problem::Refused)?,
            None => self.stages.len() - 1,
        };
        let mut sources = Sources {
            is_certain: self.is_certain,
            ..Sources::default()
        };
        let bases = self.bases(args);
        let mut seen = vec![false; self.stages.len()];
        self.collect(index, &bases, &mut seen, &mut sources)?;
        sources.base = self.base_of(index, &bases);
        Ok(sources)
    }

    /// What each stage begins from, with the variables' values.
    fn bases(&self, args: &BTreeMap<String, String>) -> Vec<Result<String, Problem>> {
        let mut variables = BTreeMap::new();
        let expanded = |text: &str, variables: &BTreeMap<String, Variable>| {
            expand(text, self.escape, &|name| {
                if PLATFORM_ARGS.contains(&name) {
                    return Variable::Unknown;
                }
                variables.get(name).cloned().unwrap_or(Variable::Unset)
            })
        };
        for (name, default) in &self.globals {
            let value = match (args.get(name), default) {
                (Some(value), _) => Variable::Set(value.clone()),
                (None, Some(default)) => match expanded(default, &variables) {
                    Ok(value) => Variable::Set(value),
                    // Old versions take what they can't read for nothing, newer ones refuse it.
                    Err(Problem::Refused) => Variable::Set(String::new()),
                    Err(Problem::Unknown) => Variable::Unknown,
                },
                // Old versions forget the value that there was, newer ones keep it.
                (None, None) if variables.contains_key(name) => Variable::Unknown,
                (None, None) => continue,
            };
            variables.insert(name.clone(), value);
        }
        let stages = self.stages.iter();
        stages
            .map(|stage| match expanded(&stage.base, &variables)? {
                base if base.is_empty() => Err(Problem::Refused),
                base => Ok(base),
            })
            .collect()
    }

    /// The last stage of a name.
    fn named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        let is_it = |stage: &Stage| stage.name.as_ref() == Some(&name);
        self.stages.iter().rposition(is_it)
    }

    /// The stage that another begins from.
    fn begun_from(&self, base: &str, before: usize) -> Option<usize> {
        let is_it = |stage: &Stage| stage.name.as_deref() == Some(base);
        self.stages[..before].iter().rposition(is_it)
    }

    fn collect(
        &self,
        index: usize,
        bases: &[Result<String, Problem>],
        seen: &mut [bool],
        sources: &mut Sources,
    ) -> Result<(), Problem> {
        if std::mem::replace(&mut seen[index], true) {
            return Ok(());
        }
        let stage = &self.stages[index];
        sources.is_certain &= !stage.is_uncertain;
        sources.whole.extend(stage.whole.iter().cloned());
        match &bases[index] {
            Ok(base) => match self.begun_from(base, index) {
                Some(inner) => self.collect(inner, bases, seen, sources)?,
                None => sources.image(base),
            },
            Err(Problem::Unknown) => sources.is_certain = false,
            Err(Problem::Refused) => return Err(Problem::Refused),
        }
        for origin in &stage.origins {
            let (name, number) = match origin {
                Origin::Copy(name) => (name, name.parse::<i64>().ok()),
                Origin::Mount(name) => (name, None),
            };
            let inner = match number {
                Some(number) => Some(usize::try_from(number).map_err(|_| Problem::Refused)?),
                None => self.named(name),
            };
            match inner {
                // A stage can only take from those before it.
                Some(inner) if inner >= index => return Err(Problem::Refused),
                Some(inner) => self.collect(inner, bases, seen, sources)?,
                None => sources.image(name),
            }
        }
        for remote in &stage.remotes {
            if !sources.remotes.contains(remote) {
                sources.remotes.push(remote.clone());
            }
        }
        Ok(())
    }

    fn base_of(&self, index: usize, bases: &[Result<String, Problem>]) -> Base {
        let Ok(base) = &bases[index] else {
            return Base::Unknown;
        };
        match self.begun_from(base, index) {
            Some(inner) => self.base_of(inner, bases),
            None if base == "scratch" => Base::Scratch,
            None => Base::Image(base.clone()),
        }
    }
}

impl Sources {
    fn image(&mut self, name: &str) {
        if name == "scratch" || self.images.iter().any(|known| known == name) {
            return;
        }
        self.is_certain &= name.parse::<ImageRef>().is_ok();
        self.images.push(name.to_owned());
    }
}

/// The lines (from 1) of a step as the engine names it (`[2/4] RUN make`), or that its message
/// names, for engines that do not say where it is.
#[must_use]
pub fn lines_of(text: &str, step: Option<&str>, message: &str) -> Option<RangeInclusive<usize>> {
    if let Some((_, rest)) = message.split_once("parse error") {
        let (_, rest) = rest.split_once("line ")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        let line = digits.parse().ok()?;
        return Some(line..=line);
    }
    let (_, wanted) = step?.split_once("] ")?;
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let image = wanted.strip_prefix("load metadata for ");
    let is_it = |instruction: &Instruction| match image {
        Some(image) => {
            let words = blank_words(&instruction.rest);
            instruction.keyword == "FROM" && words.iter().any(|word| image.ends_with(word))
        }
        None => words(&instruction.text) == words(wanted),
    };
    let readings = HereDocuments::ALL.map(|version| parse(text, version).instructions);
    let found = readings.into_iter().flatten().find(is_it)?;
    Some(found.lines)
}

#[cfg(test)]
mod tests;
