//! Checks of this machine and this project.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Finding, Question};
use crate::facts::{host, read_small};

/// The room that records need at least, in bytes.
const STATE_ROOM: u64 = 64_000_000;
/// No file of certificate authorities is larger.
const LARGEST_CERTIFICATES: u64 = 16 << 20;
/// The folder that records are kept in, beside the manifest.
const STATE_FOLDER: &str = ".jobctl";

pub(super) fn manifest(question: &Question) -> Finding {
    match &question.manifest {
        None => Finding::skipped("there is no jobs.yaml here"),
        Some((path, Some(manifest))) => {
            let warnings = manifest.warnings.len();
            let path = path.display();
            if warnings == 0 {
                Finding::ok(format!("{path} is valid"))
            } else {
                Finding::warning(
                    format!("{path} is valid, but not all of it makes sense"),
                    "see what: `jobctl validate`",
                )
            }
        }
        Some((path, None)) => Finding::failure(
            format!("{} is not valid", path.display()),
            "see what is wrong: `jobctl validate`",
        ),
    }
}

pub(super) fn git(question: &Question) -> Finding {
    match question.environment.find_program("git") {
        Some(path) => Finding::ok(path.display().to_string()),
        None => Finding::warning(
            "git is not there, so builds and runs can't be traced to a commit",
            "install it: `sudo apt-get install git`",
        ),
    }
}

pub(super) fn terminal(question: &Question) -> Finding {
    match question.environment.get_non_empty("TERM") {
        Some("dumb") => Finding::ok("a simple one: progress is shown in plain lines"),
        Some(term) => Finding::ok(term),
        None => Finding::ok("none: progress is shown in plain lines"),
    }
}

/// Programs differ in which case they read, so that two values mean two behaviours.
pub(super) fn proxy(question: &Question) -> Finding {
    let get = |name: &str| question.environment.get_non_empty(name);
    let names = [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "ftp_proxy",
    ];
    for lower in names {
        let upper = lower.to_uppercase();
        if let (Some(one), Some(other)) = (get(lower), get(&upper))
            && one != other
        {
            return Finding::warning(
                format!("`{lower}` and `{upper}` are set to two different values"),
                format!("keep one: `export {upper}=\"${lower}\"`"),
            );
        }
    }
    let set: Vec<_> = names
        .iter()
        .filter(|name| get(name).or(get(&name.to_uppercase())).is_some())
        .map(|name| name.to_uppercase())
        .collect();
    if set.is_empty() {
        Finding::ok("none is set")
    } else {
        // The values can hold passwords.
        Finding::ok(format!("set: {}", set.join(", ")))
    }
}

pub(super) fn ca_bundle(question: &Question) -> Finding {
    let environment = &question.environment;
    let named = ["JOBCTL_CA_BUNDLE", "SSL_CERT_FILE"]
        .into_iter()
        .filter_map(|name| Some((name, environment.path(name)?)))
        .filter(|(name, path)| !(*name == "JOBCTL_CA_BUNDLE" && path == Path::new("host")));
    let mut found = Vec::new();
    for (name, path) in named {
        match certificates(&environment.current_dir().join(&path)) {
            Ok(0) => {
                return Finding::failure(
                    format!(
                        "`{}`, named by {name}, has no certificate in it",
                        path.display()
                    ),
                    format!("name a file with PEM certificates: `export {name}=…`"),
                );
            }
            Ok(count) => found.push(format!("{count} certificates in `{}`", path.display())),
            Err(error) => {
                return Finding::failure(
                    format!(
                        "`{}`, named by {name}, can't be read: {error}",
                        path.display()
                    ),
                    format!("fix the path, or `unset {name}`"),
                );
            }
        }
    }
    if found.is_empty() {
        Finding::ok("this system's own")
    } else {
        Finding::ok(found.join(", "))
    }
}

fn certificates(path: &Path) -> io::Result<usize> {
    let text = read_small(path, LARGEST_CERTIFICATES)?;
    Ok(CertificateDer::pem_slice_iter(&text).flatten().count())
}

pub(super) fn state_folder(question: &Question) -> Finding {
    let folder = state_path(question);
    let shown = folder.display().to_string();
    let fix = "make room or rights there, or name another: `export JOBCTL_STATE_DIR=…`";
    // The folder is made by the first run; until then its parent must let it.
    let Some(existing) = folder.ancestors().find(|path| path.exists()) else {
        return Finding::failure(format!("`{shown}` can't be made"), fix);
    };
    if !existing.is_dir() {
        let existing = existing.display();
        return Finding::failure(
            format!("`{shown}` can't be made: `{existing}` is a file"),
            fix,
        );
    }
    if let Err(error) = try_writing(existing) {
        let why = match error.kind() {
            io::ErrorKind::StorageFull => "the disk is full".to_owned(),
            io::ErrorKind::Unsupported | io::ErrorKind::WouldBlock => {
                "files can't be locked there".to_owned()
            }
            _ => error.to_string(),
        };
        return Finding::failure(format!("`{shown}` can't be written: {why}"), fix);
    }
    match host::room(existing) {
        Ok(room) if room.bytes < STATE_ROOM => Finding::failure(
            format!("`{shown}` has room for {} MB only", room.bytes / 1_000_000),
            fix,
        ),
        Ok(room) if room.files == Some(0) => {
            Finding::failure(format!("`{shown}` has room for no further file"), fix)
        }
        _ => Finding::ok(shown),
    }
}

/// Where records are kept.
fn state_path(question: &Question) -> PathBuf {
    let here = question.environment.current_dir();
    match (
        question.environment.path("JOBCTL_STATE_DIR"),
        &question.manifest,
    ) {
        (Some(path), _) => here.join(path),
        (None, Some((path, _))) => here.join(path).with_file_name(STATE_FOLDER),
        (None, None) => here.join(STATE_FOLDER),
    }
}

/// Writes and locks a file that has no name, so that nothing is left behind.
fn try_writing(folder: &Path) -> io::Result<()> {
    let mut file = unnamed(folder)?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::Error(error) => error,
        std::fs::TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    })
}

fn unnamed(folder: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not all file systems can do it (NFS, overlays on old kernels).
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = folder.join(format!(".jobctl-{}", std::process::id()));
            let file = File::options().write(true).create_new(true).open(&path)?;
            std::fs::remove_file(path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}
