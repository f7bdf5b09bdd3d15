//! Who else may change a file before it is used.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const OTHERS_MAY_WRITE: u32 = 0o002;
const GROUP_MAY_WRITE: u32 = 0o020;
/// In such a directory nobody replaces what is another's (`chmod(1)`, restricted deletion).
const STICKY: u32 = 0o1000;
/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// Who may change what is the user's own.
#[derive(Debug, Clone, Copy)]
struct Owners {
    user: u32,
    /// Who has called `sudo`, as git's `safe.directory` takes it.
    caller: Option<u32>,
}

impl Owners {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is a part of who the process is, as the user's number"
    )]
    fn here() -> Self {
        let user = rustix::process::geteuid().as_raw();
        let caller = std::env::var("SUDO_UID").ok().filter(|_| user == 0);
        Self {
            user,
            caller: caller.and_then(|uid| uid.parse().ok()),
        }
    }

    fn has(self, id: u32) -> bool {
        id == 0 || id == self.user || Some(id) == self.caller
    }

    /// Whether somebody else may change it. The group that has a user's own number is his alone.
    fn share(self, found: &Metadata) -> bool {
        let mode = found.mode();
        let is_sticky = found.is_dir() && mode & STICKY != 0;
        let is_written =
            mode & OTHERS_MAY_WRITE != 0 || mode & GROUP_MAY_WRITE != 0 && !self.has(found.gid());
        !self.has(found.uid()) || is_written && !is_sticky
    }
}

/// The file, or the directory or link on the way to it, through which others than the user and root may put
/// something else in its place.
///
/// # Errors
///
/// The file can't be reached.
pub fn exposure(path: &Path) -> io::Result<Option<PathBuf>> {
    exposure_to(path, Owners::here())
}

fn exposure_to(path: &Path, owners: Owners) -> io::Result<Option<PathBuf>> {
    let mut seen = BTreeSet::new();
    let mut links = 0;
    let mut ways = vec![std::path::absolute(path)?];
    while let Some(way) = ways.pop() {
        for step in way.ancestors() {
            if !seen.insert(step.to_owned()) {
                continue;
            }
            let found = fs::symlink_metadata(step)?;
            if found.is_symlink() {
                if !owners.has(found.uid()) {
                    return Ok(Some(step.to_owned()));
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                ways.push(step.parent().unwrap_or(step).join(fs::read_link(step)?));
            } else if owners.share(&found) {
                return Ok(Some(step.to_owned()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_others_may_write_on_the_way_is_found() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for name in ["a/b", "links"] {
            fs::create_dir_all(top.join(name)).unwrap();
        }
        let program = top.join("a/b/make");
        fs::write(&program, "").unwrap();
        let link = top.join("links/make");
        symlink("../a/b/make", &link).unwrap();
        let set = |name: &str, mode| {
            fs::set_permissions(top.join(name), Permissions::from_mode(mode)).unwrap();
        };
        let open = |path: &Path| exposure(path).unwrap();
        for (name, is_seen_by_file) in [
            ("a", true),
            ("a/b", true),
            ("a/b/make", true),
            ("links", false),
        ] {
            set(name, 0o757);
            assert_eq!(open(&link).unwrap().canonicalize().unwrap(), top.join(name));
            assert_eq!(open(&program).is_some(), is_seen_by_file, "{name}");
            set(name, 0o755);
            assert_eq!((open(&link), open(&program)), (None, None), "{name}");
        }
        // Others may add to it, and not take what is there.
        set("a", 0o1777);
        assert_eq!(open(&program), None);
        // The group of the user's own number is his alone; another's files and groups are not his.
        set("a/b/make", 0o775);
        let found = program.metadata().unwrap();
        let owners = |user| Owners { user, caller: None };
        assert_eq!(
            owners(found.uid()).share(&found),
            ![0, found.uid()].contains(&found.gid())
        );
        if found.uid() == 0 {
            std::os::unix::fs::chown(&program, Some(1234), Some(1234)).unwrap();
            assert_eq!(exposure_to(&program, owners(1234)).unwrap(), None);
            assert_eq!(
                exposure_to(&program, owners(0)).unwrap(),
                Some(program.clone())
            );
            let sudo = Owners {
                user: 0,
                caller: Some(1234),
            };
            assert_eq!(exposure_to(&program, sudo).unwrap(), None);
            std::os::unix::fs::chown(&program, Some(1234), Some(1235)).unwrap();
            assert_eq!(exposure_to(&program, sudo).unwrap(), Some(program));
        }
        let round = top.join("links/round");
        symlink("../links/round", &round).unwrap();
        assert!(exposure(&round).is_err());
    }
}
