//! Extended attributes, such as capabilities.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;

use super::error::ContextError;
use super::path::from_bytes;

/// The longest value that Linux has.
const LONGEST_VALUE: usize = 64 << 10;
/// This machine's label of a file, which has no meaning on another.
const LABEL: &[u8] = b"security.selinux";

/// The extended attributes of a file or folder of a context, by name. A file system without them
/// has none; those that only root may read are left out for others.
///
/// # Errors
///
/// The file can't be reached.
pub fn attributes(root: &Path, path: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, ContextError> {
    let file = root.join(from_bytes(path));
    let unreadable = |errno: Errno| ContextError::unreadable(root, path, errno);
    let mut names = match rustix::fs::llistxattr_query(&file) {
        Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(BTreeMap::new()),
        Ok(length) => vec![0; length],
        Err(errno) => return Err(unreadable(errno)),
    };
    let length = rustix::fs::llistxattr(&file, &mut names[..]).map_err(unreadable)?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == LABEL {
            continue;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let mut value = vec![0; LONGEST_VALUE];
        match rustix::fs::lgetxattr(&file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                found.insert(name.to_owned(), value);
            }
            Err(Errno::NODATA | Errno::PERM) => {}
            Err(errno) => return Err(unreadable(errno)),
        }
    }
    Ok(found)
}
