//! Files for CI systems, which get jobctl from one place that cannot change behind their back.

mod project;
mod workflow;

use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

pub use self::project::Project;
pub use self::workflow::Workflow;
use crate::model::{Digest, ImageRef};

/// Where an image has jobctl.
const PROGRAM: &str = "/usr/local/bin/jobctl";

/// A CI system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// GitHub Actions.
    GitHub,
    /// GitLab CI.
    GitLab,
}

/// Where a CI system gets jobctl from, pinned to its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A git repository, built by cargo.
    Git {
        /// Its address.
        address: String,
        /// The tag that the user named.
        tag: Option<String>,
        /// The commit, whole.
        commit: String,
    },
    /// An image with a digest.
    Image(ImageRef),
    /// A file of the repository.
    File {
        /// Its path there.
        path: String,
        /// Its content's.
        digest: Digest,
    },
}

/// Why jobctl can't be had from there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OriginError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl OriginError {
    /// What a source can be.
    pub const HELP: &str = "name a git address with a tag or commit (`https://git.example/jobctl@v1.2.3`), an image \
                            with its digest (`registry.example/jobctl@sha256:…`), or a file of this repository \
                            (`tools/jobctl`)";

    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Self::HELP.to_owned(),
        }
    }
}

impl Origin {
    /// What the user named, pinned: a tag is looked up, a file is read. Paths are those of the repository in
    /// `directory`.
    ///
    /// # Errors
    ///
    /// It is none of the three, or there is no such tag or file.
    pub fn pin(source: &str, directory: &Path) -> Result<Self, OriginError> {
        let source = &in_workflow(source.trim())?;
        if let Some(address) = git_address(source) {
            return pin_git(address);
        }
        if directory.join(source).is_file() {
            return pin_file(source, directory);
        }
        match source.parse::<ImageRef>() {
            Ok(image) if image.digest().is_some() => Ok(Self::Image(image)),
            _ => Err(OriginError::new(format!(
                "`{source}` is neither a git address, nor an image with a digest, nor a file here"
            ))),
        }
    }

    /// What it is, for people.
    fn what(&self) -> String {
        match self {
            Self::Git {
                address,
                tag: Some(tag),
                ..
            } => format!("jobctl {tag} of {address}, built by cargo"),
            Self::Git { address, .. } => format!("jobctl of {address}, built by cargo"),
            Self::Image(image) => format!("jobctl of an image, which has it as {PROGRAM}: {image}"),
            Self::File { path, .. } => format!("jobctl as this repository has it: {path}"),
        }
    }

    /// The lines of a shell that install it.
    fn install(&self, system: System) -> Vec<String> {
        let quoted = |text: &str| shell_words::quote(text).into_owned();
        let place = match system {
            System::GitHub => "$RUNNER_TEMP/jobctl",
            System::GitLab => "$CI_PROJECT_DIR.tmp/jobctl",
        };
        let mut lines = match self {
            Self::Git {
                address, commit, ..
            } => vec![format!(
                "cargo install --quiet --locked --git {} --rev {commit} --root \"{place}\" jobctl",
                quoted(address)
            )],
            Self::Image(image) => vec![
                format!("mkdir -p \"{place}/bin\""),
                format!("container=$(docker create {})", quoted(&image.to_string())),
                format!("docker cp \"$container:{PROGRAM}\" \"{place}/bin/jobctl\""),
                "docker rm \"$container\"".to_owned(),
            ],
            Self::File { path, digest } => vec![
                format!(
                    "echo {} | sha256sum -c",
                    quoted(&format!("{}  {path}", digest.encoded()))
                ),
                format!("install -D -m 755 {} \"{place}/bin/jobctl\"", quoted(path)),
            ],
        };
        lines.push(match system {
            System::GitHub => format!("echo \"{place}/bin\" >>\"$GITHUB_PATH\""),
            System::GitLab => format!("export PATH=\"{place}/bin:$PATH\""),
        });
        lines
    }
}

/// A text that may be in a workflow: what is a variable or ends a line there, quoted or not, is refused.
fn in_workflow(text: &str) -> Result<String, OriginError> {
    // The last two end a line for YAML 1.1.
    let ends_line = |c: char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c);
    if text.contains("${{") || text.chars().any(ends_line) {
        return Err(OriginError::new(format!("`{text}` can't be in a workflow")));
    }
    Ok(text.to_owned())
}

/// The address, if it is git's. A scheme that says so is left out.
fn git_address(source: &str) -> Option<&str> {
    let address = source.strip_prefix("git+").unwrap_or(source);
    let is_short = || {
        // As git's own `user@host:path`; an image's digest has no `/` behind its colon.
        let (host, path) = source.split_once(':')?;
        (host.contains('@') && !host.contains('/') && path.contains('/')).then_some(())
    };
    (address.contains("://") || is_short().is_some()).then_some(address)
}

fn pin_git(source: &str) -> Result<Origin, OriginError> {
    let refuse = |why: &str| Err(OriginError::new(format!("`{source}`: {why}")));
    let Some((scheme, rest)) = source.split_once("://") else {
        return refuse("write it as `ssh://git@HOST/PATH@TAG`");
    };
    if !["https", "ssh"].contains(&scheme) {
        return refuse("the address begins with `https://` or `ssh://`");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    if user.is_some_and(|user| scheme == "https" || user.contains(':')) {
        // It is not repeated.
        return Err(OriginError::new("the git address has credentials in it"));
    }
    let (path, reference) = match path.rsplit_once(['@', '#']) {
        Some((path, reference)) if !path.is_empty() => (path, reference),
        _ => return refuse("there is no tag or commit behind it"),
    };
    let address = format!("{scheme}://{authority}/{path}");
    let is_plain = |text: &str, first: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || first.contains(c))
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._/+~".contains(c))
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    if !is_host || !is_plain(reference, "") || !is_plain(path, "~_.") {
        return refuse("this is not the name of a repository with a tag or commit");
    }
    if is_commit(reference) {
        return Ok(Origin::Git {
            address,
            tag: None,
            commit: reference.to_owned(),
        });
    }
    match commit_of(&address, reference) {
        Ok(Some(commit)) => Ok(Origin::Git {
            address,
            tag: Some(reference.to_owned()),
            commit,
        }),
        Ok(None) => Err(OriginError::new(format!(
            "{address} has no tag `{reference}`"
        ))),
        Err(why) => Err(OriginError {
            message: format!("can't look up the tag `{reference}` of {address}: {why}"),
            help: "name the whole commit instead of the tag, and nothing is looked up".to_owned(),
        }),
    }
}

fn is_commit(text: &str) -> bool {
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hex && [40, 64].contains(&text.len())
}

/// The commit of a tag; git says it of what an annotated tag leads to, too.
fn commit_of(address: &str, tag: &str) -> Result<Option<String>, String> {
    let name = format!("refs/tags/{tag}");
    let peeled = format!("{name}^{{}}");
    let output = Command::new("git")
        .args(["ls-remote", "--quiet", "--", address, &name, &peeled])
        // No repository's own settings count.
        .current_dir("/")
        .env_remove("GIT_DIR")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("can't run git: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().filter_map(|line| line.split_once('\t'));
    let of = |wanted: &str| {
        let mut found = lines.clone().filter(|(_, name)| *name == wanted);
        found.next().map(|(commit, _)| commit.to_owned())
    };
    let commit = of(&peeled).or_else(|| of(&name));
    Ok(commit.filter(|commit| is_commit(commit)))
}

fn pin_file(source: &str, directory: &Path) -> Result<Origin, OriginError> {
    let failed = |error: io::Error| OriginError::new(format!("can't read `{source}`: {error}"));
    let path = Path::new(source);
    let mut parts = path.components();
    let stays = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let whole = directory.join(path).canonicalize().map_err(failed)?;
    let top = directory.canonicalize().map_err(failed)?;
    if !stays || !whole.starts_with(top) {
        let message = format!("`{source}` is not in the repository, and CI has nothing else");
        return Err(OriginError::new(message));
    }
    let mut hash = Sha256::new();
    let mut file = File::open(whole).map_err(failed)?;
    io::copy(&mut file, &mut hash).map_err(failed)?;
    let path: std::path::PathBuf = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    Ok(Origin::File {
        path: path.display().to_string(),
        digest: Digest::from(<[u8; 32]>::from(hash.finalize())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn pin(source: &str) -> Result<Origin, String> {
        let nowhere = Path::new("/nowhere");
        Origin::pin(source, nowhere).map_err(|error| error.message)
    }

    #[test]
    fn a_git_address_has_a_commit() {
        for (source, address) in [
            (
                "https://git.example/a/jobctl@",
                "https://git.example/a/jobctl",
            ),
            (
                "git+https://git.example/jobctl.git#",
                "https://git.example/jobctl.git",
            ),
            (
                "ssh://git@git.example:22/~a/jobctl@",
                "ssh://git@git.example:22/~a/jobctl",
            ),
        ] {
            let expected = Origin::Git {
                address: address.to_owned(),
                tag: None,
                commit: COMMIT.to_owned(),
            };
            assert_eq!(pin(&format!("{source}{COMMIT}")), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_host_or_ends_a_line_is_refused() {
        for source in [
            "https://ho st/x",
            "https://host;id/x",
            "ssh://-oProxyCommand=id/x",
            "ssh://git@-oProxyCommand=id/x",
            "https:///x",
            "https://git.example/a\u{2028}b",
        ] {
            assert!(pin(&format!("{source}@{COMMIT}")).is_err(), "{source}");
        }
    }

    #[test]
    fn what_is_not_pinned_is_refused() {
        for (source, why) in [
            ("", "neither"),
            ("jobctl", "neither"),
            ("registry.example/jobctl:1.2.3", "neither"),
            ("tools/jobctl", "neither"),
            ("https://git.example/a/jobctl", "no tag or commit"),
            ("https://git.example/a/jobctl@", "not the name"),
            (
                "https://git.example/a/jobctl@--upload-pack=x",
                "not the name",
            ),
            ("https://git.example/a/jobctl@v*", "not the name"),
            ("http://git.example/a/jobctl@v1", "`https://` or `ssh://`"),
            ("ext::sh -c evil", "neither"),
            ("ext://sh@v1", "`https://` or `ssh://`"),
            ("git@git.example:a/jobctl@v1", "`ssh://git@HOST/PATH@TAG`"),
            (
                "https://me:hunter2@git.example/jobctl@v1",
                "has credentials",
            ),
            ("https://token@git.example/jobctl@v1", "has credentials"),
            ("tools/${{ github.token }}", "can't be in a workflow"),
            ("tools/a\nb", "can't be in a workflow"),
        ] {
            let found = pin(source).unwrap_err();
            assert!(found.contains(why), "{source:?}: {found}");
            assert!(!found.contains("hunter2"));
        }
    }

    #[test]
    fn an_image_has_a_digest() {
        let name = format!("registry.example/jobctl:1@sha256:{}", "a".repeat(64));
        let origin = pin(&name).unwrap();
        assert_eq!(origin, Origin::Image(name.parse().unwrap()));
        let file = Workflow::new(origin).file(System::GitHub);
        assert!(
            file.contains(&format!("          container=$(docker create {name})\n")),
            "{file}"
        );
    }

    #[test]
    fn a_file_is_the_repositorys_and_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("repo");
        std::fs::create_dir_all(top.join("my tools")).unwrap();
        std::fs::write(top.join("my tools/jobctl"), "x").unwrap();
        std::fs::write(folder.path().join("outside"), "x").unwrap();
        let origin = Origin::pin("./my tools/jobctl", &top).unwrap();
        let digest = Digest::of(b"x");
        let expected = Origin::File {
            path: "my tools/jobctl".to_owned(),
            digest: digest.clone(),
        };
        assert_eq!(origin, expected);
        let file = Workflow::new(origin).file(System::GitLab);
        let check = format!(
            "      echo '{}  my tools/jobctl' | sha256sum -c\n",
            digest.encoded()
        );
        assert!(file.contains(&check), "{file}");
        std::os::unix::fs::symlink("../outside", top.join("link")).unwrap();
        let absolute = top.join("my tools/jobctl");
        for outside in ["../outside", "link", absolute.to_str().unwrap()] {
            let refused = Origin::pin(outside, &top).unwrap_err();
            assert!(
                refused.message.contains("is not in the repository"),
                "{refused}"
            );
        }
    }
}
