//! Whether there is room for a run, before anything is begun.

use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::error::StoreError;

/// What must be free: 64 MB or 1 % of the file system, whichever is more.
const LEAST_BYTES: u64 = 64_000_000;
/// On a large file system, 1 % would refuse what has room for years.
const MOST_BYTES: u64 = 1_000_000_000;
/// A run has a dozen files, and its outputs some more.
const LEAST_FILES: u64 = 64;

/// Refuses a folder on a file system that is all but full, or that can't be written to. The folder
/// need not be there yet.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    let Some(existing) = folder.ancestors().find(|ancestor| ancestor.exists()) else {
        return Ok(());
    };
    let status =
        rustix::fs::statvfs(existing).map_err(|errno| StoreError::read(existing, errno.into()))?;
    let folder = || folder.to_owned();
    if status.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(StoreError::ReadOnly { folder: folder() });
    }
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let whole = status.f_blocks.saturating_mul(status.f_frsize);
    let needed = (whole / 100).clamp(LEAST_BYTES, MOST_BYTES);
    if free < needed {
        return Err(StoreError::Full {
            folder: folder(),
            free_mb: free / 1_000_000,
            needed_mb: needed.div_ceil(1_000_000),
        });
    }
    // A file system that does not count files says that it has none.
    if status.f_files > 0 && status.f_favail < LEAST_FILES {
        return Err(StoreError::NoFiles { folder: folder() });
    }
    Ok(())
}
