//! What must be known of a Dockerfile before it is built: which images it begins from.
//!
//! The engine reads the Dockerfile for real and reports what is wrong with it. This reading looks
//! for `FROM`, `COPY --from`, `RUN --mount=…,from=` and `ADD` of remote sources only, after the
//! Dockerfile reference: parser directives, continuation lines, here-documents, and `ARG` before
//! the first `FROM`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The stages of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerfile {
    /// The image that reads the Dockerfile, if it names one (`# syntax=`).
    pub syntax: Option<String>,
    stages: Vec<Stage>,
    /// `ARG`s before the first `FROM`, with their defaults.
    globals: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stage {
    name: Option<String>,
    base: String,
    /// Whatever `--from` names.
    sources: Vec<String>,
    has_remote: bool,
    /// What each instruction leaves out that takes the whole context otherwise.
    whole: Vec<Vec<String>>,
}

/// What an image is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Images, as the Dockerfile names them, in order and without doubles.
    pub images: Vec<String>,
    /// The image that the built one continues.
    pub base: Option<String>,
    /// Of each instruction that takes the whole context, the patterns of what it leaves out.
    pub whole: Vec<Vec<String>>,
    /// Whether everything is known here: nothing is fetched from elsewhere, no name depends on
    /// what only the engine knows.
    pub is_closed: bool,
}

impl Dockerfile {
    /// Reads a Dockerfile; what can't be understood is left for the engine to report.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (syntax, escape) = directives(text);
        let mut dockerfile = Self {
            syntax,
            ..Self::default()
        };
        for Instruction { text, .. } in instructions(text, escape) {
            let (keyword, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
            match keyword.to_ascii_uppercase().as_str() {
                "ARG" if dockerfile.stages.is_empty() => {
                    for word in rest.split_whitespace() {
                        let (name, value) = match word.split_once('=') {
                            Some((name, value)) => (name, Some(unquoted(value).to_owned())),
                            None => (word, None),
                        };
                        dockerfile.globals.push((name.to_owned(), value));
                    }
                }
                "FROM" => dockerfile.stages.extend(stage(rest)),
                keyword => {
                    if let Some(stage) = dockerfile.stages.last_mut() {
                        stage.note(keyword, rest);
                    }
                }
            }
        }
        dockerfile
    }

    /// What the image of a stage (the last if none is named) is made from, with these arguments.
    #[must_use]
    pub fn sources(&self, target: Option<&str>, args: &BTreeMap<String, String>) -> Sources {
        let mut sources = Sources {
            is_closed: self.syntax.is_none(),
            ..Sources::default()
        };
        let index = match target {
            Some(target) => self.stage_named(target, self.stages.len()),
            None => self.stages.len().checked_sub(1),
        };
        let Some(index) = index else {
            sources.is_closed = false;
            return sources;
        };
        let variables = self.variables(args);
        let mut seen = vec![false; self.stages.len()];
        self.collect(index, &variables, &mut seen, &mut sources);
        sources.base = self.base_of(index, &variables);
        sources
    }

    fn variables(&self, args: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for (name, default) in &self.globals {
            let default = default
                .as_deref()
                .and_then(|text| substitute(text, &variables));
            if let Some(value) = args.get(name).cloned().or(default) {
                variables.insert(name.clone(), value);
            }
        }
        variables
    }

    /// A stage before `end`, by its name or number.
    fn stage_named(&self, name: &str, end: usize) -> Option<usize> {
        let is_named = |stage: &Stage| {
            stage
                .name
                .as_deref()
                .is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        let stages = &self.stages[..end];
        stages
            .iter()
            .rposition(is_named)
            .or_else(|| name.parse().ok().filter(|index| *index < end))
    }

    fn collect(
        &self,
        index: usize,
        variables: &BTreeMap<String, String>,
        seen: &mut [bool],
        sources: &mut Sources,
    ) {
        if std::mem::replace(&mut seen[index], true) {
            return;
        }
        let stage = &self.stages[index];
        sources.is_closed &= !stage.has_remote;
        sources.whole.extend(stage.whole.iter().cloned());
        for name in std::iter::once(&stage.base).chain(&stage.sources) {
            let Some(name) = substitute(name, variables) else {
                sources.is_closed = false;
                continue;
            };
            if let Some(inner) = self.stage_named(&name, index) {
                self.collect(inner, variables, seen, sources);
            } else if name != "scratch" && !sources.images.contains(&name) {
                sources.images.push(name);
            }
        }
    }

    fn base_of(&self, index: usize, variables: &BTreeMap<String, String>) -> Option<String> {
        let base = substitute(&self.stages[index].base, variables)?;
        match self.stage_named(&base, index) {
            Some(inner) => self.base_of(inner, variables),
            None => (base != "scratch").then_some(base),
        }
    }
}

impl Stage {
    fn note(&mut self, keyword: &str, rest: &str) {
        let flags = rest
            .split_whitespace()
            .take_while(|word| word.starts_with("--"));
        self.whole.extend(whole(keyword, rest));
        match keyword {
            "COPY" => self
                .sources
                .extend(flags.filter_map(|flag| flag.strip_prefix("--from=").map(str::to_owned))),
            "RUN" => {
                let mounts = flags.filter_map(|flag| flag.strip_prefix("--mount="));
                let fields = mounts.flat_map(|mount| mount.split(','));
                self.sources.extend(
                    fields.filter_map(|field| field.strip_prefix("from=").map(str::to_owned)),
                );
            }
            "ADD" => {
                let is_remote = |word: &str| word.contains("://") || word.starts_with("git@");
                self.has_remote |= rest.split_whitespace().any(is_remote);
            }
            _ => {}
        }
    }
}

/// What an instruction leaves out of the context, if it takes the whole of it otherwise.
fn whole(keyword: &str, rest: &str) -> Option<Vec<String>> {
    let (flags, words): (Vec<_>, Vec<_>) = rest
        .split_whitespace()
        .partition(|word| word.starts_with("--"));
    let values = |name: &str| {
        let values = flags.iter().filter_map(move |flag| flag.strip_prefix(name));
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let is_all = |path: &str| matches!(path, "." | "./" | "/" | "*" | "./*" | "/*");
    let takes_all = match keyword {
        "COPY" | "ADD" if values("--from=").is_empty() => {
            let words = words
                .iter()
                .map(|word| unquoted(word.trim_matches(['[', ']', ','])));
            let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
            let sources = words.split_last().map_or(&[][..], |(_, sources)| sources);
            sources.iter().any(|source| is_all(source))
        }
        "RUN" => values("--mount=").iter().any(|mount| {
            let field = |name: &str| mount.split(',').find_map(|field| field.strip_prefix(name));
            let source = field("source=").or_else(|| field("src=")).unwrap_or(".");
            field("type=").is_none_or(|kind| kind == "bind")
                && field("from=").is_none()
                && is_all(source)
        }),
        _ => false,
    };
    takes_all.then(|| values("--exclude="))
}

fn stage(rest: &str) -> Option<Stage> {
    let mut words = rest
        .split_whitespace()
        .skip_while(|word| word.starts_with("--"));
    let base = words.next()?.to_owned();
    let name = match (words.next(), words.next()) {
        (Some(word), Some(name)) if word.eq_ignore_ascii_case("as") => Some(name.to_owned()),
        _ => None,
    };
    Some(Stage {
        name,
        base,
        sources: Vec::new(),
        has_remote: false,
        whole: Vec::new(),
    })
}

/// The directives at the very top: `# syntax=…` and `# escape=…`.
fn directives(text: &str) -> (Option<String>, char) {
    let mut syntax = None;
    let mut escape = '\\';
    for line in text.lines() {
        let Some(comment) = line.trim_start().strip_prefix('#') else {
            break;
        };
        let Some((key, value)) = comment.split_once('=') else {
            break;
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "syntax" => syntax = Some(value.trim().to_owned()),
            "escape" if value.trim() == "`" => escape = '`',
            "escape" | "check" => {}
            _ => break,
        }
    }
    (syntax, escape)
}

/// An instruction as one line, and the lines (from 1) that it has in the file.
struct Instruction {
    text: String,
    lines: RangeInclusive<usize>,
}

/// The instructions, without comments and here-documents.
fn instructions(text: &str, escape: char) -> Vec<Instruction> {
    let mut instructions = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, first)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut last = first;
        let mut instruction = line.to_owned();
        while let Some(begun) = instruction.trim_end().strip_suffix(escape) {
            let begun = begun.to_owned();
            // Comments and empty lines between the parts of an instruction do not end it.
            let next = lines
                .by_ref()
                .find(|(line, _)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
            instruction = match next {
                Some((next, number)) => {
                    last = number;
                    format!("{begun} {}", next.trim())
                }
                None => begun,
            };
        }
        for end in here_documents(&instruction) {
            if let Some((_, number)) = lines
                .by_ref()
                .find(|(line, _)| line.trim_start_matches('\t') == end)
            {
                last = number;
            }
        }
        instructions.push(Instruction {
            text: instruction,
            lines: first..=last,
        });
    }
    instructions
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
    let (_, escape) = directives(text);
    let (_, instruction) = step?.split_once("] ")?;
    if let Some(image) = instruction.strip_prefix("load metadata for ") {
        let found = instructions(text, escape).into_iter().find(|instruction| {
            let mut words = instruction.text.split_whitespace();
            let is_from = words
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case("FROM"));
            is_from && words.any(|word| !word.starts_with("--") && image.ends_with(word))
        })?;
        return Some(found.lines);
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = words(instruction);
    let found = instructions(text, escape)
        .into_iter()
        .find(|instruction| words(&instruction.text) == wanted)?;
    Some(found.lines)
}

/// The words that end the here-documents of an instruction that may have some.
fn here_documents(instruction: &str) -> Vec<String> {
    let keyword = instruction.split_whitespace().next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].contains(&keyword.to_ascii_uppercase().as_str()) {
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut rest = instruction;
    while let Some(start) = rest.find("<<") {
        rest = &rest[start + 2..];
        if let Some(here_string) = rest.strip_prefix('<') {
            rest = here_string;
            continue;
        }
        let word = rest.trim_start_matches('-');
        let word = word
            .split(|c: char| c.is_whitespace() || ";&|<>()".contains(c))
            .next()
            .unwrap_or_default();
        let word = unquoted(word);
        if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            words.push(word.to_owned());
        }
    }
    words
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(text)
}

/// Puts values for `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}`; `None` if one is
/// not known here.
fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let (name, form, after) = if let Some(braced) = rest.strip_prefix('{') {
            let end = braced.find('}')?;
            let inner = &braced[..end];
            let name_end = inner
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(inner.len());
            (&inner[..name_end], &inner[name_end..], &braced[end + 1..])
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            (&rest[..end], "", &rest[end..])
        };
        let value = variables.get(name).filter(|value| !value.is_empty());
        let value = match (form.get(..2), value) {
            (None, Some(value)) if form.is_empty() => value.clone(),
            (Some(":-"), Some(value)) => value.clone(),
            (Some(":-"), None) => substitute(&form[2..], variables)?,
            (Some(":+"), Some(_)) => substitute(&form[2..], variables)?,
            (Some(":+"), None) => String::new(),
            _ => return None,
        };
        result.push_str(&value);
        rest = after;
    }
    result.push_str(rest);
    Some(result)
}

#[cfg(test)]
mod tests;
