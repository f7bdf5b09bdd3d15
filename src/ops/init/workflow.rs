//! The text of a CI system's file.

use std::path::Path;

use super::{Origin, Project, System, in_workflow};
use crate::manifest::{self, Manifest};
use crate::model::ImageRef;

/// What a CI system's file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    origin: Origin,
    /// The branch whose images are pushed.
    pub branch: String,
    /// The words by which jobctl finds jobs.yaml from the top of the repository.
    pub flags: Vec<String>,
    /// The registry that jobs.yaml names in `image.prefix`.
    pub registry: Option<String>,
}

impl Workflow {
    /// One for a jobs.yaml at the top of the repository that names no registry.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            branch: "main".to_owned(),
            flags: Vec::new(),
            registry: None,
        }
    }

    /// One for a project and its jobs.yaml.
    ///
    /// # Errors
    ///
    /// The jobs.yaml is not in the repository, or its path can't be in a file of a CI system.
    pub fn of(
        origin: Origin,
        project: &Project,
        manifest: Option<&Manifest>,
    ) -> Result<Self, String> {
        let mut workflow = Self::new(origin);
        workflow.branch = project.branch.clone().unwrap_or(workflow.branch);
        if let Some(file) = &project.manifest {
            workflow.flags = flags(file, &project.top)?;
        }
        let prefix = manifest.and_then(|manifest| manifest.root.image.as_ref()?.prefix.as_ref());
        workflow.registry = prefix.map(|prefix| registry(prefix));
        Ok(workflow)
    }

    /// The file.
    #[must_use]
    pub fn file(&self, system: System) -> String {
        let template = match system {
            System::GitHub => include_str!("../../../ci/github.yml"),
            System::GitLab => include_str!("../../../ci/gitlab.yml"),
        };
        let registry = self.registry.as_deref();
        let mut text = String::new();
        for line in template.lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let lines = match line.trim_start() {
                "# @WHAT@" => vec![format!("# {}", self.origin.what())],
                "# @PACKAGES@" if registry.is_none_or(|registry| registry == GHCR) => {
                    vec!["packages: write".to_owned()]
                }
                "# @PACKAGES@" => Vec::new(),
                "@INSTALL@" => self.origin.install(system),
                "# @TOKEN@" => token(system, registry),
                "@PUSH@" => self.push(system),
                line => vec![
                    line.replace("@BRANCH@", &branch_filter(&self.branch))
                        .replace("@JOBCTL@", &self.jobctl()),
                ],
            };
            for line in lines {
                text.extend([indent, &line, "\n"]);
            }
        }
        text
    }

    /// jobctl, called on jobs.yaml.
    fn jobctl(&self) -> String {
        let flags = self.flags.iter().map(|flag| shell_words::quote(flag));
        let words = ["jobctl".into()].into_iter().chain(flags);
        words.collect::<Vec<_>>().join(" ")
    }

    /// The lines of a shell that push.
    fn push(&self, system: System) -> Vec<String> {
        let own = match system {
            System::GitHub => (GHCR, "$TOKEN", "$GITHUB_ACTOR"),
            System::GitLab => (
                "\"$CI_REGISTRY\"",
                "$CI_REGISTRY_PASSWORD",
                "$CI_REGISTRY_USER",
            ),
        };
        let (registry, password, user) = match self.registry.as_deref() {
            Some(registry) if !is_own(system, registry) => {
                (registry, "$REGISTRY_PASSWORD", "$REGISTRY_USER")
            }
            _ => own,
        };
        // What jobs.yaml has is not said again.
        let prefix = match (&self.registry, system) {
            (Some(_), _) => "",
            (None, System::GitHub) => " --image-prefix \"ghcr.io/${GITHUB_REPOSITORY_OWNER,,}/\"",
            (None, System::GitLab) => " --image-prefix \"$CI_REGISTRY_IMAGE/\"",
        };
        vec![
            format!(
                "printf %s \"{password}\" | jobctl login {registry} -u \"{user}\" --password-stdin"
            ),
            format!("{} build --deploy{prefix}", self.jobctl()),
        ]
    }
}

/// The flags by which jobctl finds a jobs.yaml from the top of its repository.
fn flags(file: &Path, top: &Path) -> Result<Vec<String>, String> {
    let Ok(file) = file.strip_prefix(top) else {
        return Err(format!(
            "`{}` is not in the repository, and CI has nothing else",
            file.display()
        ));
    };
    let is_found = manifest::FILE_NAMES.map(|name| file.ends_with(name));
    let (flag, path) = match file.parent() {
        Some(directory) if is_found.contains(&true) => ("-C", directory),
        _ => ("-f", file),
    };
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let path = path.to_string_lossy();
    let path = in_workflow(&path).map_err(|error| error.message)?;
    Ok(vec![flag.to_owned(), path])
}

/// The registry of the images that a prefix is put before.
fn registry(prefix: &str) -> String {
    let image = format!("{prefix}x").parse::<ImageRef>();
    let image = image.ok().map(|image| image.canonical());
    let domain = image.as_ref().and_then(ImageRef::domain);
    domain.unwrap_or("docker.io").to_owned()
}

/// GitHub's own registry.
const GHCR: &str = "ghcr.io";

/// Whether a CI system brings the credentials of a registry along.
fn is_own(system: System, registry: &str) -> bool {
    match system {
        System::GitHub => registry == GHCR,
        System::GitLab => registry == "registry.gitlab.com",
    }
}

/// Where the credentials of the registry come from.
fn token(system: System, registry: Option<&str>) -> Vec<String> {
    let registry = registry.filter(|registry| !is_own(system, registry));
    match (system, registry) {
        (System::GitHub, None) => vec!["TOKEN: ${{ secrets.GITHUB_TOKEN }}".to_owned()],
        (System::GitHub, Some(registry)) => vec![
            format!("# Secrets of the repository, for {registry}."),
            "REGISTRY_USER: ${{ secrets.REGISTRY_USER }}".to_owned(),
            "REGISTRY_PASSWORD: ${{ secrets.REGISTRY_PASSWORD }}".to_owned(),
        ],
        (System::GitLab, None) => Vec::new(),
        (System::GitLab, Some(registry)) => vec![format!(
            "# CI/CD variables of the project, for {registry}: REGISTRY_USER, REGISTRY_PASSWORD."
        )],
    }
}

/// A branch as GitHub's filters have it: in YAML's quotes, and with no letter that is a pattern's.
fn branch_filter(branch: &str) -> String {
    let mut pattern = String::new();
    for letter in branch.chars() {
        if "*?+[]!\\".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    let is_plain = branch.starts_with(|c: char| c.is_ascii_alphabetic())
        && branch
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !WORDS.contains(&branch.to_ascii_lowercase().as_str());
    if is_plain {
        pattern
    } else {
        format!("'{}'", pattern.replace('\'', "\'\'"))
    }
}

/// What YAML takes for something else than text.
const WORDS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "y", "n"];

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow() -> Workflow {
        let image: ImageRef = format!("jobctl@sha256:{}", "a".repeat(64)).parse().unwrap();
        Workflow::new(Origin::Image(image))
    }

    #[test]
    fn nothing_of_a_template_is_left() {
        for (system, registry) in [
            (System::GitHub, None),
            (System::GitHub, Some("registry.example")),
            (System::GitLab, None),
            (System::GitLab, Some("registry.example")),
        ] {
            let workflow = Workflow {
                registry: registry.map(str::to_owned),
                ..workflow()
            };
            let file = workflow.file(system);
            for mark in [
                "WHAT", "INSTALL", "PACKAGES", "TOKEN", "PUSH", "BRANCH", "JOBCTL",
            ] {
                assert!(!file.contains(&format!("@{mark}@")), "{file}");
            }
            assert!(!file.lines().any(|line| line.ends_with(' ')), "{file}");
            // Whatever is used is pinned.
            for used in file.lines().filter_map(|line| line.split_once("uses: ")) {
                let (commit, version) = used.1.split_once(" # v").unwrap();
                let commit = commit.rsplit('@').next().unwrap();
                assert!(super::super::is_commit(commit), "{commit}");
                assert!(!version.is_empty());
            }
            assert!(!file.contains("cargo install --locked jobctl"));
        }
    }

    #[test]
    fn a_registry_of_jobs_yaml_is_logged_in_to_and_not_replaced() {
        for (system, registry, login, prefix) in [
            (System::GitHub, None, "ghcr.io -u \"$GITHUB_ACTOR\"", true),
            (
                System::GitHub,
                Some("ghcr.io"),
                "ghcr.io -u \"$GITHUB_ACTOR\"",
                false,
            ),
            (
                System::GitHub,
                Some("registry.example:5000"),
                "registry.example:5000 -u \"$REGISTRY_USER\"",
                false,
            ),
            (
                System::GitLab,
                None,
                "\"$CI_REGISTRY\" -u \"$CI_REGISTRY_USER\"",
                true,
            ),
            (
                System::GitLab,
                Some("registry.example"),
                "registry.example -u \"$REGISTRY_USER\"",
                false,
            ),
        ] {
            let workflow = Workflow {
                registry: registry.map(str::to_owned),
                ..workflow()
            };
            let file = workflow.file(system);
            assert!(file.contains(&format!("jobctl login {login}")), "{file}");
            assert_eq!(file.contains("--image-prefix"), prefix, "{file}");
            let is_ghcr = registry.is_none_or(|registry| registry == GHCR);
            let writes = system == System::GitHub && is_ghcr;
            assert_eq!(file.contains("packages: write"), writes, "{file}");
        }
    }

    #[test]
    fn a_branch_is_no_pattern_and_is_text() {
        for (branch, expected) in [
            ("main", "main"),
            ("release/1.x", "release/1.x"),
            ("on", "'on'"),
            ("1.0", "'1.0'"),
            ("c++", "'c\\+\\+'"),
            ("it's", "'it''s'"),
            ("#1", "'#1'"),
        ] {
            assert_eq!(branch_filter(branch), expected);
        }
    }

    #[test]
    fn the_flags_are_words_of_a_shell() {
        let workflow = Workflow {
            flags: ["-C", "my jobs"].map(str::to_owned).to_vec(),
            ..workflow()
        };
        for system in [System::GitHub, System::GitLab] {
            let file = workflow.file(system);
            assert_eq!(
                file.matches("jobctl -C 'my jobs' build").count(),
                2,
                "{file}"
            );
        }
    }
}
