//! What a repository has of a build context: which of its files are in a patch, and what is written of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::bytes::Regex;
use rustix::fs::{Mode, OFlags};

use super::Difference;
use crate::context::{Filter, holds_secrets};
use crate::facts::{Blob, Edit, Repository, Tracked};
use crate::model::masked_source;
use crate::records::mask::Masker;
use crate::records::{LeftOut, LeftOutReason};

/// Files with more bytes than this are left out of the patch.
const LARGEST_FILE: u64 = 10_000_000;
/// So many bytes are read for a patch, at most.
const LARGEST_PATCH: u64 = 64_000_000;
/// A patch has so many files, at most.
const MOST_FILES: usize = 10_000;

/// A repository that files of the context are of: the one that it is in, or a submodule.
pub(super) struct Part {
    pub(super) repository: Repository,
    /// The commit; nothing for a submodule that is new.
    pub(super) commit: Option<String>,
    /// Its place in the repository of all, with a slash at the end; empty for that one.
    pub(super) prefix: Vec<u8>,
    /// What git tracks of it.
    pub(super) tracked: HashMap<Vec<u8>, Tracked>,
    /// Files that are not as in the commit, and what that has of them.
    pub(super) changed: HashMap<Vec<u8>, Option<Blob>>,
    /// Files that may be in the patch.
    pub(super) candidates: BTreeMap<Vec<u8>, Candidate>,
}

/// A file that may be in the patch.
pub(super) struct Candidate {
    /// Nothing where it is there no more.
    pub(super) found: Option<Found>,
    pub(super) committed: Option<Blob>,
    /// The bytes that it has, and those that it had.
    pub(super) bytes: u64,
}

/// A file of the context.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) is_program: bool,
    pub(super) bytes: u64,
    /// The target of a link.
    pub(super) link: Option<Vec<u8>>,
}

impl Found {
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        let target = metadata.is_symlink().then(|| path.read_link());
        let link = target.transpose()?;
        Ok(Self {
            is_program: metadata.permissions().mode() & 0o100 != 0,
            bytes: metadata.size(),
            link: link.map(|target| target.into_os_string().into_vec()),
            path,
        })
    }

    /// Its content; of a file that is no longer as it was, as much as is wanted of it.
    fn read(&self) -> io::Result<Vec<u8>> {
        if let Some(target) = &self.link {
            return Ok(target.clone());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut content = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
        Ok(content)
    }
}

/// What may still be read for the patch.
pub(super) struct Budget {
    bytes: u64,
    files: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: LARGEST_PATCH,
            files: MOST_FILES,
        }
    }
}

impl Part {
    /// Adds what the commit has and the context has no more.
    pub(super) fn add_removed(&mut self, place: &[u8], filter: &Filter, seen: &HashSet<Vec<u8>>) {
        for (path, committed) in &self.changed {
            let Some(committed) = committed.as_ref().filter(|blob| !blob.is_submodule()) else {
                continue;
            };
            let whole = [self.prefix.as_slice(), path].concat();
            if seen.contains(&whole) {
                continue;
            }
            let file = self.repository.top().join(OsStr::from_bytes(path));
            let is_there = file.symlink_metadata().is_ok_and(|file| !file.is_dir());
            let in_context = whole.strip_prefix(place);
            if is_there || in_context.is_some_and(|path| filter.excludes.matches(path)) {
                continue;
            }
            let candidate = Candidate {
                found: None,
                committed: Some(committed.clone()),
                bytes: 0,
            };
            self.candidates.insert(path.clone(), candidate);
        }
    }

    /// Leaves out new files that git ignores.
    pub(super) fn forget_ignored(&mut self) -> io::Result<()> {
        let untracked = self.candidates.keys();
        let untracked: Vec<_> = untracked
            .filter(|path| !self.tracked.contains_key(*path))
            .filter(|path| !self.changed.contains_key(*path))
            .map(Vec::as_slice)
            .collect();
        for path in self.repository.ignored(&untracked)? {
            self.candidates.remove(&path);
        }
        Ok(())
    }

    /// Adds how many bytes the candidates had as they were committed.
    pub(super) fn measure(&mut self) -> io::Result<()> {
        let mut committed: Vec<_> = (self.candidates.values_mut())
            .filter_map(|candidate| Some((candidate.committed.clone()?, &mut candidate.bytes)))
            .collect();
        let objects: Vec<_> = committed
            .iter()
            .map(|(blob, _)| blob.object.as_str())
            .collect();
        let sizes = self.repository.sizes(&objects)?;
        for ((_, bytes), size) in committed.iter_mut().zip(sizes) {
            **bytes += size.unwrap_or_default();
        }
        Ok(())
    }

    /// Leaves out what is not to be in a patch, and what there is no room for: the largest files.
    pub(super) fn choose(&mut self, budget: &mut Budget, left_out: &mut Vec<LeftOut>) {
        let mut sizes: Vec<_> = (self.candidates.iter())
            .map(|(path, candidate)| (candidate.bytes, path.clone()))
            .collect();
        sizes.sort();
        for (bytes, path) in sizes {
            let reason = if holds_secrets(&path) {
                LeftOutReason::SecretName
            } else if bytes > LARGEST_FILE {
                LeftOutReason::TooLarge
            } else if bytes > budget.bytes || budget.files == 0 {
                LeftOutReason::PatchTooLarge
            } else {
                budget.bytes -= bytes;
                budget.files -= 1;
                continue;
            };
            self.candidates.remove(&path);
            left_out.push(self.left_out(&path, reason, bytes));
        }
    }

    fn left_out(&self, path: &[u8], reason: LeftOutReason, bytes: u64) -> LeftOut {
        LeftOut {
            path: shown(&[self.prefix.as_slice(), path].concat()),
            reason,
            bytes,
        }
    }

    /// Reads what was chosen, and adds what differs.
    pub(super) fn write(self, masker: &Masker, difference: &mut Difference) -> io::Result<()> {
        let mut edits = Vec::new();
        for (path, candidate) in &self.candidates {
            let Some(found) = &candidate.found else {
                edits.push((path.clone(), Edit::Remove));
                continue;
            };
            let reason = match found.read() {
                Ok(content) if content.len() as u64 > LARGEST_FILE => LeftOutReason::TooLarge,
                Ok(content) if has_private_key(&content) => LeftOutReason::PrivateKey,
                Ok(content) => {
                    let mode = self.mode(found, candidate.committed.as_ref());
                    edits.push((path.clone(), Edit::Write(mode, masked(masker, &content))));
                    continue;
                }
                Err(error) => {
                    tracing::info!("{}: {error}", found.path.display());
                    LeftOutReason::Unreadable
                }
            };
            let left_out = self.left_out(path, reason, candidate.bytes);
            difference.left_out.push(left_out);
        }
        if edits.is_empty() {
            return Ok(());
        }
        let commit = self.commit.as_deref();
        let (patch, files) = self.repository.patch(commit, &edits, &self.prefix)?;
        // Lines that are taken away, and those around a change, are of the commit.
        let public = masked(masker, &patch);
        difference.is_masked |= public != patch;
        difference.patch.extend(public);
        difference
            .files
            .extend(files.iter().map(|path| shown(path)));
        Ok(())
    }

    fn mode(&self, found: &Found, committed: Option<&Blob>) -> String {
        let mode = match (&found.link, committed) {
            (Some(_), _) => "120000",
            (None, Some(blob)) if !self.repository.has_modes() && blob.mode.starts_with("100") => {
                &blob.mode
            }
            (None, _) if found.is_program && self.repository.has_modes() => "100755",
            (None, _) => "100644",
        };
        mode.to_owned()
    }
}

/// A path as a record has it: bytes that are no text are escaped.
fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(path) => path.to_owned(),
        Err(_) => path.escape_ascii().to_string(),
    }
}

/// Whether there is a private key in a file: in PEM (RFC 7468), also within JSON, of PGP, or of `PuTTY`.
fn has_private_key(content: &[u8]) -> bool {
    static KEY: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-[0-9]")
            .expect("the expression is valid")
    });
    KEY.is_match(content)
}

fn masked(masker: &Masker, text: &[u8]) -> Vec<u8> {
    let mut masker = masker.clone();
    let mut masked = masker.feed(text).into_owned();
    masked.extend(masker.finish());
    match std::str::from_utf8(&masked).map(masked_source) {
        Ok(Cow::Owned(text)) => text.into_bytes(),
        _ => masked,
    }
}

#[cfg(test)]
mod tests {
    use super::has_private_key;

    #[test]
    fn private_keys_are_found_wherever_they_are() {
        for (text, is_one) in [
            ("-----BEGIN PRIVATE KEY-----\nMII", true),
            (
                r#"{"private_key": "-----BEGIN PRIVATE KEY-----\nMII"}"#,
                true,
            ),
            ("x = \"-----BEGIN OPENSSH PRIVATE KEY-----", true),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----", true),
            ("PuTTY-User-Key-File-2: ssh-rsa", true),
            ("-----BEGIN CERTIFICATE-----\nMII", false),
            ("-----BEGIN PUBLIC KEY-----", false),
            ("a PRIVATE KEY is", false),
        ] {
            assert_eq!(has_private_key(text.as_bytes()), is_one, "{text}");
        }
        assert!(has_private_key(
            b"\xff\n-----BEGIN RSA PRIVATE KEY-----\n\xfe"
        ));
    }
}
