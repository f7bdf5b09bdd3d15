//! The source of a job: the commit that it was built from, and what differed from it.
//!
//! The patch has what a build is given and the commit does not have: changes of tracked files, and new
//! files that enter the build context. What is ignored by docker or by git is not in it, nor are files
//! that usually hold secrets, nor large ones; the last two are named in the record. Which files there are
//! and how large they are is known before one of them is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::bytes::Regex;
use rustix::fs::{Mode, OFlags};

use crate::context::{Filter, Kind, build_files, holds_secrets, walk};
use crate::facts::{self, Blob, Edit, Repository, Tracked};
use crate::model::{Secret, masked_source};
use crate::records::mask::Masker;
use crate::records::{LeftOut, LeftOutReason, SourceRecord};

/// The file in a run's folder that has what differed from the commit.
pub(super) const PATCH: &str = "source.patch";
/// Files with more bytes than this are left out of the patch.
const LARGEST_FILE: u64 = 10_000_000;
/// So many bytes are read for a patch, at most.
const LARGEST_PATCH: u64 = 64_000_000;
/// A patch has so many files, at most.
const MOST_FILES: usize = 10_000;
/// So many files that are left out are named.
const MOST_NAMED: usize = 1000;

/// What git knows of a build context, and what differs from the commit; nothing where git knows nothing.
/// What can't be found out is reported as text.
pub(super) fn source(
    context: &Path,
    dockerfile: &Path,
    secrets: &[Secret],
) -> Option<(SourceRecord, Option<Vec<u8>>, Option<String>)> {
    let files = build_files(context, dockerfile);
    let git = facts::git(context, &files).ok()?;
    let mut record = SourceRecord {
        revision: git.revision,
        is_dirty: git.is_dirty,
        origin: git.origin,
        patch: None,
        files: Vec::new(),
        left_out: Vec::new(),
        left_out_unnamed: 0,
    };
    match difference(context, dockerfile, &record.revision, &Masker::new(secrets)) {
        Ok(found) => {
            let patch = (!found.patch.is_empty()).then_some(found.patch);
            record.patch = patch.is_some().then(|| PATCH.to_owned());
            record.files = found.files;
            record.is_dirty |= !record.files.is_empty();
            record.left_out_unnamed = found.left_out.len().saturating_sub(MOST_NAMED);
            record.left_out = found.left_out;
            record.left_out.truncate(MOST_NAMED);
            let warning = found.is_masked.then(|| {
                "source.patch does not apply: lines of the commit in it have secrets, and are masked"
                    .to_owned()
            });
            Some((record, patch, warning))
        }
        Err(error) => {
            let warning = format!("what differs from the commit is not kept: {error}");
            Some((record, None, Some(warning)))
        }
    }
}

/// What differs from a commit.
#[derive(Default)]
struct Difference {
    patch: Vec<u8>,
    files: Vec<String>,
    left_out: Vec<LeftOut>,
    /// Whether lines of the commit are not as they are there, as they have secrets.
    is_masked: bool,
}

/// A repository that files of the context are of: the one that it is in, or a submodule.
struct Part {
    repository: Repository,
    /// The commit; nothing for a submodule that is new.
    commit: Option<String>,
    /// Its place in the repository of all, with a slash at the end; empty for that one.
    prefix: Vec<u8>,
    /// What git tracks of it.
    tracked: HashMap<Vec<u8>, Tracked>,
    /// Files that are not as in the commit, and what that has of them.
    changed: HashMap<Vec<u8>, Option<Blob>>,
    /// Files that may be in the patch.
    candidates: BTreeMap<Vec<u8>, Candidate>,
}

/// A file that may be in the patch.
struct Candidate {
    /// Nothing where it is there no more.
    found: Option<Found>,
    committed: Option<Blob>,
    /// The bytes that it has, and those that it had.
    bytes: u64,
}

/// A file of the context.
struct Found {
    path: PathBuf,
    is_program: bool,
    bytes: u64,
    /// The target of a link.
    link: Option<Vec<u8>>,
}

fn difference(
    context: &Path,
    dockerfile: &Path,
    commit: &str,
    masker: &Masker,
) -> io::Result<Difference> {
    let context = context.canonicalize()?;
    let gone = || io::Error::other("its git repository is gone");
    let repository = Repository::open(&context)?.ok_or_else(gone)?;
    let top = repository.top().to_owned();
    let place = context.strip_prefix(&top).map_err(io::Error::other)?;
    let mut place = place.as_os_str().as_bytes().to_vec();
    if !place.is_empty() {
        place.push(b'/');
    }
    // They decide what is built, wherever they are, and whether or not the context has them.
    let mut build_files = build_files(&context, dockerfile);
    // Those of a submodule in the context are found with that.
    build_files.retain(|file| {
        let found = file.parent().map(Repository::top_of);
        matches!(found, Some(Ok(Some(found))) if found == top)
    });
    let mut parts = Vec::new();
    add(
        &mut parts,
        repository,
        Some(commit.to_owned()),
        Vec::new(),
        &build_files,
    )?;
    let filter = Filter::of_build(&context, dockerfile).map_err(io::Error::other)?;
    let mut seen = HashSet::new();
    for entry in walk(&context, &filter, &mut |_, _| {}) {
        let entry = entry.map_err(io::Error::other)?;
        if entry.kind == Kind::Folder {
            continue;
        }
        let found = Found {
            path: context.join(OsStr::from_bytes(&entry.path)),
            is_program: entry.mode & 0o100 != 0,
            bytes: entry.stamp.size,
            link: entry.link.filter(|_| entry.kind == Kind::Symlink),
        };
        let path = [place.as_slice(), &entry.path].concat();
        offer(&mut parts, &path, found);
        seen.insert(path);
    }
    for file in build_files {
        let path = file.strip_prefix(&top).map_err(io::Error::other)?;
        let path = path.as_os_str().as_bytes().to_vec();
        if !seen.contains(&path) && file.symlink_metadata().is_ok() {
            offer(&mut parts, &path, Found::at(file)?);
            seen.insert(path);
        }
    }
    let mut difference = Difference::default();
    let mut budget = Budget::default();
    for part in &mut parts {
        part.add_removed(&place, &filter, &seen);
        part.forget_ignored()?;
        part.measure()?;
    }
    for part in &mut parts {
        part.choose(&mut budget, &mut difference.left_out);
    }
    for part in parts {
        part.write(masker, &mut difference)?;
    }
    difference.files.sort();
    difference.left_out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(difference)
}

/// Adds a repository with its submodules.
fn add(
    parts: &mut Vec<Part>,
    repository: Repository,
    commit: Option<String>,
    prefix: Vec<u8>,
    others: &[PathBuf],
) -> io::Result<()> {
    let tracked = repository.tracked(others)?;
    // One that is not here can't be compared with.
    let commit = match &commit {
        Some(commit) if repository.sizes(&[commit])? == [None] => {
            let reason = format!("the commit {commit} is not here");
            return Err(io::Error::other(reason));
        }
        _ => commit,
    };
    let staged = match &commit {
        Some(commit) => repository.staged(commit, others)?,
        None => (tracked.iter().map(|file| (file.path.clone(), None))).collect(),
    };
    let mut changed: HashMap<_, _> = repository
        .modified(others)?
        .into_iter()
        .map(|path| (path, None))
        .collect();
    for file in &tracked {
        let is_changed = changed.get_mut(&file.path);
        let is_unwatched = file.is_unwatched;
        match is_changed {
            Some(committed) => *committed = Some(file.blob.clone()),
            None if is_unwatched => {
                changed.insert(file.path.clone(), Some(file.blob.clone()));
            }
            None => {}
        }
    }
    changed.extend(staged);
    for (file, submodule) in repository.submodules(&tracked) {
        let commit = match changed.get(&file.path) {
            Some(committed) => committed.clone().filter(Blob::is_submodule),
            None => Some(file.blob),
        };
        let commit = commit.map(|blob| blob.object);
        let prefix = [&prefix, file.path.as_slice(), b"/"].concat();
        add(parts, submodule, commit, prefix, &[])?;
    }
    let tracked = tracked.into_iter().map(|file| (file.path.clone(), file));
    // Submodules come before what they are in.
    parts.push(Part {
        repository,
        commit,
        prefix,
        tracked: tracked.collect(),
        changed,
        candidates: BTreeMap::new(),
    });
    Ok(())
}

/// Takes a file of the context into account.
fn offer(parts: &mut [Part], path: &[u8], found: Found) {
    // git has no such files.
    let is_git = |name: &[u8]| name.eq_ignore_ascii_case(b".git");
    if path.split(|byte| *byte == b'/').any(is_git) {
        return;
    }
    let Some(part) = parts.iter_mut().find(|part| path.starts_with(&part.prefix)) else {
        return;
    };
    let path = &path[part.prefix.len()..];
    let committed = match part.changed.get(path) {
        Some(committed) => committed.clone(),
        None if part.tracked.contains_key(path) => return,
        None => None,
    };
    let candidate = Candidate {
        bytes: found.bytes,
        found: Some(found),
        committed,
    };
    part.candidates.insert(path.to_vec(), candidate);
}

impl Found {
    fn at(path: PathBuf) -> io::Result<Self> {
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
struct Budget {
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
    fn add_removed(&mut self, place: &[u8], filter: &Filter, seen: &HashSet<Vec<u8>>) {
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
    fn forget_ignored(&mut self) -> io::Result<()> {
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
    fn measure(&mut self) -> io::Result<()> {
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
    fn choose(&mut self, budget: &mut Budget, left_out: &mut Vec<LeftOut>) {
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
    fn write(self, masker: &Masker, difference: &mut Difference) -> io::Result<()> {
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
