//! What a build came to.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::printable;
use super::trust::host_program;
use crate::diagnostic::{Diagnostic, Source};
use crate::engine::build::{BuildError, FailedStep, Place, Reuse, SecretSource};
use crate::facts::shown_address;
use crate::model::{Digest, STARS, Version};
use crate::ops::build::{BaseError, Failure, Image, Reason, State};
use crate::plan::build::{BuildSpec, Item, VersionChoice};
use crate::plan::dockerfile::{Base, Sources};
use crate::plan::push::turn;

/// A line for each image: its name and its id.
#[must_use]
pub fn build_human(images: &[Image]) -> String {
    let mut text = String::new();
    for image in images {
        let name = image
            .tags
            .first()
            .map_or(image.title.clone(), ToString::to_string);
        let _ = writeln!(text, "{name} {} ({})", image.id, words(image.state));
    }
    text
}

fn words(state: State) -> &'static str {
    match state {
        State::Built => "built",
        State::UpToDate => "up to date",
        State::Present => "present",
        State::Pulled => "pulled",
        State::Bootstrapped => "made here",
    }
}

/// `{"schema":"jobctl.build/1","images":[…]}`.
#[must_use]
pub fn build_json(images: &[Image]) -> Value {
    let images: Vec<_> = images
        .iter()
        .map(|image| {
            json!({
                "name": image.title,
                "id": image.id.as_str(),
                "tags": image.tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "version": image.version.as_ref().map(ToString::to_string),
                "context": image.context.as_ref().map(Digest::as_str),
                "state": match image.state {
                    State::Built => "built",
                    State::UpToDate => "up_to_date",
                    State::Present => "present",
                    State::Pulled => "pulled",
                    State::Bootstrapped => "bootstrapped",
                },
                "provenance": image.provenance.as_ref().map(|path| path.display().to_string()),
            })
        })
        .collect();
    json!({ "schema": "jobctl.build/1", "images": images })
}

/// Why a build failed.
#[must_use]
pub fn build_failure(failure: &Failure) -> Diagnostic {
    let title = &failure.title;
    let mut diagnostic = match &failure.reason {
        Reason::Build(BuildError::Step(failed)) => step(failure, failed),
        reason => Diagnostic::error("build-failed", format!("`{title}` is not built: {reason}")),
    };
    if let Reason::Base(error) = &failure.reason
        && let BaseError::Failed { log, .. } = &**error
    {
        diagnostic.notes = said(log);
    }
    if let Reason::Base(error) = &failure.reason
        && let BaseError::Untrusted(untrusted) = &**error
    {
        diagnostic.notes.push(host_program(&untrusted.program));
    }
    match failure.reason.help() {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// A program's lines, as they can be shown.
fn said(log: &[String]) -> Vec<String> {
    log.iter().map(|line| printable::line(line)).collect()
}

/// The step, its last lines, and its place in the Dockerfile.
fn step(failure: &Failure, failed: &FailedStep) -> Diagnostic {
    let message = match &failed.name {
        Some(name) => format!("`{}` is not built: it failed at {name}", failure.title),
        None => format!("`{}` is not built", failure.title),
    };
    let mut diagnostic = Diagnostic::error("build-failed", message);
    diagnostic.notes = said(&failed.log);
    match (&failed.place, &failure.dockerfile) {
        (Some(place), Some(dockerfile)) => at_place(diagnostic, place, dockerfile, &failed.message),
        _ => {
            diagnostic.notes.push(failed.message.clone());
            diagnostic
        }
    }
}

fn at_place(diagnostic: Diagnostic, place: &Place, dockerfile: &Path, message: &str) -> Diagnostic {
    let mut start = 0;
    let mut end = 0;
    for (index, line) in place.text.split_inclusive('\n').enumerate() {
        if index + 1 < *place.lines.start() {
            start += line.len();
        }
        if index < *place.lines.end() {
            end += line.len();
        }
    }
    let shown = place.text[start..end.max(start)].trim_end().len();
    let source = Arc::new(Source {
        path: dockerfile.to_owned(),
        text: place.text.clone(),
    });
    diagnostic.at(&source, start..start + shown, message)
}

/// What would be built, and as which docker command, and from what, if that was read.
#[must_use]
pub fn build_plan_human(items: &[Item], sources: &[Option<Sources>]) -> String {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        match item {
            Item::Base(base) => {
                let _ = write!(text, "{}: pull {}", base.title, base.image);
                if let Some(bootstrap) = &base.bootstrap {
                    let program = bootstrap.program.display();
                    let _ = write!(text, ", or make it with {program}");
                }
                text.push('\n');
            }
            Item::Build(spec) => {
                let _ = writeln!(
                    text,
                    "{}: build {}",
                    spec.title,
                    spec.recipe.context.display()
                );
                let _ = writeln!(text, "  {}", docker_command(spec));
                let Names { held_back, pushed } = names(spec);
                if !pushed.is_empty() {
                    let _ = writeln!(text, "  push {}", pushed.join(", "));
                }
                if !held_back.is_empty() {
                    let place = if pushed.is_empty() {
                        "the engine has no"
                    } else {
                        "neither the engine nor the registry has a"
                    };
                    let names = held_back.join(", ");
                    let _ = writeln!(text, "  only if {place} newer release: {names}");
                }
                if let Some(Some(sources)) = sources.get(index) {
                    let _ = writeln!(text, "  {}", from(spec, sources));
                }
            }
        }
    }
    text
}

/// `{"schema":"jobctl.build-plan/1","steps":[…]}`.
#[must_use]
pub fn build_plan_json(items: &[Item], sources: &[Option<Sources>]) -> Value {
    let steps: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(index, item)| match item {
            Item::Base(base) => json!({
                "name": base.title,
                "action": "pull",
                "image": base.image.to_string(),
                "bootstrap": base.bootstrap.as_ref().map(|bootstrap| &bootstrap.program),
            }),
            Item::Build(spec) => {
                let Names { held_back, pushed } = names(spec);
                let mut step = json!({
                    "name": spec.title,
                    "action": "build",
                    "context": spec.recipe.context,
                    "dockerfile": spec.recipe.dockerfile,
                    "target": spec.recipe.target,
                    "version": version(spec),
                    "docker": docker_command(spec),
                    "if_newest": held_back,
                    "push": pushed,
                });
                if let Some(Some(sources)) = sources.get(index) {
                    step["sources"] = sources_json(spec, sources);
                }
                step
            }
        })
        .collect();
    json!({ "schema": "jobctl.build-plan/1", "steps": steps })
}

/// What an image is made from: `from debian:trixie-slim (base), tool:1`.
fn from(spec: &BuildSpec, sources: &Sources) -> String {
    let discretion = spec.discretion();
    let shown = |name: &String| discretion.words(std::slice::from_ref(name)).concat();
    let remote = |name: &String| shown(&shown_address(name));
    let images = sources.images.iter().map(|name| match &sources.base {
        Base::Image(base) if base == name => format!("{} (base)", shown(name)),
        _ => shown(name),
    });
    let mut names: Vec<_> = images.chain(sources.remotes.iter().map(remote)).collect();
    if names.is_empty() {
        names.push(
            if sources.is_certain {
                "nothing"
            } else {
                "what the engine reads"
            }
            .to_owned(),
        );
    }
    let certainty = if sources.is_certain {
        ""
    } else {
        "; not certain: the engine names them when it builds"
    };
    format!("from {}{certainty}", names.join(", "))
}

fn sources_json(spec: &BuildSpec, sources: &Sources) -> Value {
    let discretion = spec.discretion();
    let shown = |name: &String| discretion.words(std::slice::from_ref(name)).concat();
    let remote = |name: &String| shown(&shown_address(name));
    let base = match &sources.base {
        Base::Image(base) => Some(shown(base)),
        Base::Scratch | Base::Unknown => None,
    };
    json!({
        "images": sources.images.iter().map(shown).collect::<Vec<_>>(),
        "urls": sources.remotes.iter().map(remote).collect::<Vec<_>>(),
        "base": base,
        "certain": sources.is_certain,
    })
}

fn version(spec: &BuildSpec) -> Option<String> {
    match &spec.version {
        VersionChoice::None => None,
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => {
            Some(version.to_string())
        }
        VersionChoice::Git => Some("git".to_owned()),
    }
}

/// Which names of an image depend on what else there is, and which are pushed, in their order.
struct Names {
    held_back: Vec<String>,
    pushed: Vec<String>,
}

fn names(spec: &BuildSpec) -> Names {
    let version = known_version(spec);
    // One that can't be named is refused when it is built.
    let names = spec.names(version, None).unwrap_or_default();
    let held_back = names.iter().filter(|name| spec.is_held_back(name, version));
    let mut pushed: Vec<_> = names.iter().filter(|name| spec.is_pushed(name)).collect();
    pushed.sort_by_key(|name| turn(name));
    Names {
        held_back: held_back.map(ToString::to_string).collect(),
        pushed: pushed.into_iter().map(ToString::to_string).collect(),
    }
}

fn known_version(spec: &BuildSpec) -> Option<&Version> {
    match &spec.version {
        VersionChoice::Exact(version) | VersionChoice::Declared(version) => Some(version),
        VersionChoice::None | VersionChoice::Git => None,
    }
}

/// The docker command that does the same, secrets masked.
fn docker_command(spec: &BuildSpec) -> String {
    let mut words = vec!["docker".to_owned(), "build".to_owned()];
    let mut flag = |name: &str, value: String| {
        words.push(name.to_owned());
        words.push(value);
    };
    flag("--file", spec.recipe.dockerfile.display().to_string());
    // One that can't be named is refused when it is built.
    for name in spec.names(known_version(spec), None).unwrap_or_default() {
        flag("--tag", name.to_string());
    }
    if let Some(target) = &spec.recipe.target {
        flag("--target", target.clone());
    }
    if let Some(platform) = &spec.recipe.platform {
        flag("--platform", platform.clone());
    }
    for (name, value) in spec.shown_args() {
        flag("--build-arg", format!("{name}={}", value.unwrap_or(STARS)));
    }
    let discretion = spec.discretion();
    for (name, value) in &spec.labels {
        let label = [format!("{name}={value}")];
        flag("--label", discretion.words(&label).concat());
    }
    for (id, source) in &spec.recipe.secrets {
        flag(
            "--secret",
            match source {
                SecretSource::File(path) => format!("id={id},src={}", path.display()),
                SecretSource::Value(_) => format!("id={id},env={STARS}"),
            },
        );
    }
    for (id, socket) in &spec.recipe.agents {
        flag("--ssh", format!("{id}={}", socket.display()));
    }
    if spec.recipe.reuse == Reuse::Nothing {
        words.push("--no-cache".to_owned());
    }
    if spec.pulls {
        words.push("--pull".to_owned());
    }
    words.push(spec.recipe.context.display().to_string());
    printable::command(words)
}
