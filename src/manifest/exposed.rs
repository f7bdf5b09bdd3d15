//! Secrets that were put into values that are stored and shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Rule;
use super::node::{Kind, Node};
use crate::diagnostic::{Diagnostic, Source};
use crate::model::{Secret, Sensitive};

/// Values that may have secrets: they are masked wherever they are kept or shown. `*` is any key, and a
/// prefix of a path is enough.
const CONFIDENTIAL: [&[&str]; 4] = [
    &["jobs", "*", "environment"],
    &["jobs", "*", "command"],
    &["jobs", "*", "entrypoint"],
    &["jobs", "*", "healthcheck", "test"],
];

/// Refuses secrets that variables put into values that can't be kept confidential: paths, patterns, names,
/// build arguments. Such a value is taken out of the tree.
pub(super) fn check(
    root: &mut Node,
    interpolated: &BTreeMap<String, Option<Secret>>,
    source: &Arc<Source>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let sensitive = Sensitive::new(declared(root));
    let given = interpolated.iter();
    let given = given.filter_map(|(name, value)| Some((name.as_str(), value.as_ref()?.expose())));
    let secrets: BTreeMap<_, _> = given
        .filter(|(name, value)| !value.is_empty() && sensitive.is_secret(name, value))
        .collect();
    let mut checker = Checker {
        secrets,
        source,
        diagnostics,
    };
    if !checker.secrets.is_empty() {
        checker.check(root, &mut Vec::new());
    }
}

struct Checker<'a> {
    /// The secrets by the names of their variables.
    secrets: BTreeMap<&'a str, &'a str>,
    source: &'a Arc<Source>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn check(&mut self, node: &mut Node, path: &mut Vec<String>) {
        let is_confidential = CONFIDENTIAL.iter().any(|keys| {
            let mut pairs = keys.iter().zip(path.iter());
            keys.len() <= path.len() && pairs.all(|(key, at)| matches!(*key, "*") || key == at)
        });
        if is_confidential {
            return;
        }
        let place = node.place();
        match &mut node.kind {
            Kind::Null | Kind::Broken => {}
            Kind::Scalar(text) => {
                let mut names = text.variables.iter();
                let holds = |name: &&String| {
                    let secret = self.secrets.get(name.as_str());
                    secret.is_some_and(|secret| text.value.contains(secret))
                };
                if let Some(name) = names.find(holds) {
                    let diagnostic = Rule::ExposedSecret
                        .error(format!(
                            "`${{{name}}}` puts a secret into `{}`, which is stored and shown as it is",
                            path.join(".")
                        ))
                        .at(self.source, place, "")
                        .help(
                            "pass it to the job by `environment`, or to the build by `secrets` and \
                             `RUN --mount=type=secret,id=…`",
                        );
                    self.diagnostics.push(diagnostic);
                    node.kind = Kind::Broken;
                }
            }
            Kind::List(items) => items.iter_mut().for_each(|item| self.check(item, path)),
            Kind::Map(entries) => {
                for (key, value) in entries.iter_mut().filter(|(key, _)| !key.is_extension()) {
                    path.push(key.text.clone());
                    self.check(value, path);
                    path.pop();
                }
            }
        }
    }
}

/// The names of variables that the manifest calls secrets: the sources of `secrets`, and what is in the
/// jobs' `sensitive`.
fn declared(root: &Node) -> Vec<String> {
    let named = |key| root.get(key).into_iter().flat_map(Node::values);
    let sources = named("secrets").filter_map(|secret| secret.get("environment"));
    let listed = named("jobs").filter_map(|job| job.get("sensitive"));
    let listed = listed.flat_map(Node::values);
    let names = sources.chain(listed).filter_map(|node| match &node.kind {
        Kind::Scalar(text) => Some(text.value.clone()),
        _ => None,
    });
    names.collect()
}
