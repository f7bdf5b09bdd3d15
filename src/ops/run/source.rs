//! The source of a job: the commit that it was built from, and what differed from it.
//!
//! The patch has what a build is given and the commit does not have: changes of tracked files, and new
//! files that enter the build context. What is ignored by docker or by git is not in it, nor are files
//! that usually hold secrets, nor large ones; the last two are named in the record. Which files there are
//! and how large they are is known before one of them is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use self::part::{Budget, Candidate, Found, Part};
use crate::context::{Filter, Kind, build_files, walk};
use crate::facts::{self, Blob, Repository};
use crate::model::Secret;
use crate::records::mask::Masker;
use crate::records::{LeftOut, SourceRecord};

mod part;

/// The file in a run's folder that has what differed from the commit.
pub(super) const PATCH: &str = "source.patch";
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
