//! A run's outputs, copied out of its folder.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::manifest::suggest::nearest;
use crate::records::{CollectedFile, OutputRecord, Record, RunFolder};

/// What is copied, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// One output; else all.
    pub output: Option<&'a str>,
    /// The folder.
    pub target: &'a Path,
    /// Whether files that are there are overwritten.
    pub is_forced: bool,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The outputs.
    pub outputs: Vec<String>,
    /// How many files.
    pub files: usize,
    /// How many bytes.
    pub bytes: u64,
}

/// Why outputs were not copied.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The run has no such output.
    #[error("run {run} has no output `{output}`")]
    NoOutput {
        /// The run.
        run: String,
        /// What was asked for.
        output: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// The run has none at all.
    #[error("run {run} has no outputs")]
    Nothing {
        /// The run.
        run: String,
    },
    /// Something is there already.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A path would lead out of the folder.
    #[error("the record names a file outside of the output: `{path}`")]
    Escapes {
        /// The path as the record has it.
        path: String,
    },
    /// What is kept is not what was collected.
    #[error("`{path}` is not what was collected: its digest differs from the record's")]
    Differs {
        /// The path in the output.
        path: String,
    },
    /// The disk is in the way.
    #[error("can't copy to `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GetError {
    /// How to mend it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoOutput { output, known, .. } => {
                let meant = nearest(output, known.iter().map(String::as_str));
                Some(match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it has {}", known.join(", ")),
                })
            }
            Self::Exists { .. } => Some("take another folder, or `--force`".to_owned()),
            Self::Differs { .. } => {
                Some("the disk or somebody changed it; run the job again".to_owned())
            }
            Self::Nothing { .. } | Self::Escapes { .. } | Self::Io { .. } => None,
        }
    }
}

/// Copies a run's outputs. All paths are looked at before anything is written.
///
/// # Errors
///
/// See [`GetError`]. Files that were copied before are left; each is whole.
pub fn get(folder: &RunFolder, record: &Record, request: &Request) -> Result<Copied, GetError> {
    let mut copies = Vec::new();
    let outputs = chosen(record, request.output)?;
    for (name, output) in &outputs {
        let from = folder.output(name);
        let to = match request.output {
            Some(_) => request.target.to_owned(),
            None => request.target.join(inner(name)?),
        };
        for file in &output.files {
            copies.push(Copy {
                from: from.join(inner(&file.path)?),
                to: to.join(inner(&file.path)?),
                file,
            });
        }
    }
    for copy in &copies {
        copy.check(request)?;
    }
    for copy in &copies {
        copy.make(request)?;
    }
    Ok(Copied {
        outputs: outputs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        files: copies.len(),
        bytes: copies.iter().map(|copy| copy.file.bytes).sum(),
    })
}

fn chosen<'a>(
    record: &'a Record,
    output: Option<&str>,
) -> Result<Vec<(&'a str, &'a OutputRecord)>, GetError> {
    let all = record.outputs.iter();
    let all = all.map(|(name, output)| (name.as_str(), output));
    let chosen: Vec<_> = all
        .filter(|(name, _)| output.is_none_or(|output| output == *name))
        .collect();
    let run = record.id.short();
    match output {
        _ if !chosen.is_empty() => Ok(chosen),
        Some(output) if !record.outputs.is_empty() => Err(GetError::NoOutput {
            run,
            output: output.to_owned(),
            known: record.outputs.keys().cloned().collect(),
        }),
        _ => Err(GetError::Nothing { run }),
    }
}

/// A path that leads nowhere but down.
fn inner(path: &str) -> Result<&Path, GetError> {
    let is_inner = |part: Component| matches!(part, Component::Normal(_));
    let inner = Path::new(path);
    if !path.is_empty() && inner.components().all(is_inner) {
        return Ok(inner);
    }
    let path = path.to_owned();
    Err(GetError::Escapes { path })
}

/// A file and where it goes.
struct Copy<'a> {
    from: PathBuf,
    to: PathBuf,
    file: &'a CollectedFile,
}

impl Copy<'_> {
    /// Looks whether it can be made: a link in the way could lead anywhere.
    fn check(&self, request: &Request) -> Result<(), GetError> {
        let exists = |path: &Path| GetError::Exists {
            path: path.to_owned(),
        };
        if let Some(link) = &self.file.link
            && leads_out(Path::new(&self.file.path), Path::new(link))
        {
            return Err(GetError::Escapes {
                path: format!("{} → {link}", self.file.path),
            });
        }
        let between = self.to.ancestors().skip(1);
        for folder in between.take_while(|folder| *folder != request.target) {
            match fs::symlink_metadata(folder) {
                Ok(found) if !found.is_dir() => return Err(exists(folder)),
                _ => {}
            }
        }
        match fs::symlink_metadata(&self.to) {
            Ok(found) if found.is_dir() || !request.is_forced => Err(exists(&self.to)),
            _ => Ok(()),
        }
    }

    fn make(&self, request: &Request) -> Result<(), GetError> {
        let failed = |source| GetError::Io {
            path: self.to.clone(),
            source,
        };
        // Again, as links that were copied may be in the way.
        self.check(request)?;
        let folder = self.to.parent().unwrap_or(request.target);
        fs::create_dir_all(folder).map_err(failed)?;
        if let Some(link) = &self.file.link {
            self.verify(&Sha256::digest(link))?;
            if request.is_forced {
                let _ = fs::remove_file(&self.to);
            }
            return std::os::unix::fs::symlink(link, &self.to).map_err(failed);
        }
        let mut copy =
            tempfile::NamedTempFile::with_prefix_in(".jobctl-", folder).map_err(failed)?;
        let (digest, mode) = self.copy_to(copy.as_file_mut()).map_err(failed)?;
        self.verify(&digest)?;
        let mode = fs::Permissions::from_mode(mode);
        copy.as_file().set_permissions(mode).map_err(failed)?;
        let placed = if request.is_forced {
            copy.persist(&self.to)
        } else {
            copy.persist_noclobber(&self.to)
        };
        placed.map(drop).map_err(|error| failed(error.error))
    }

    /// Copies the bytes, and says what they are and who may use them.
    fn copy_to(&self, copy: &mut File) -> io::Result<(Vec<u8>, u32)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut from = File::from(rustix::fs::open(&self.from, flags, Mode::empty())?);
        let metadata = from.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("what is kept is not a file"));
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                // Whoever copies it can write it, whatever user the job was.
                let mode = (metadata.permissions().mode() & 0o755) | 0o600;
                return Ok((hasher.finalize().to_vec(), mode));
            }
            hasher.update(&buffer[..read]);
            copy.write_all(&buffer[..read])?;
        }
    }

    fn verify(&self, digest: &[u8]) -> Result<(), GetError> {
        let recorded = &self.file.sha256;
        let recorded = recorded.strip_prefix("sha256:").unwrap_or(recorded);
        if recorded.eq_ignore_ascii_case(&crate::records::hex(digest)) {
            return Ok(());
        }
        let path = self.file.path.clone();
        Err(GetError::Differs { path })
    }
}

/// Whether a link leads out of the folder that its path is in.
fn leads_out(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    for part in link.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return true,
        }
    }
    false
}
