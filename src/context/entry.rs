//! What is in a context.

use std::fmt;

use rustix::fs::Stat;

/// One thing in a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the context's folder, with `/`; bytes, for names need not be UTF-8.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The permission bits with set-user, set-group and sticky: `st_mode & 0o7777`.
    pub mode: u32,
    /// Bytes of content; 0 for folders and hard links, the target's length for symbolic links.
    pub size: u64,
    /// When it was modified: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// A symbolic link's target, or the path of the entry that a hard link repeats.
    pub link: Option<Vec<u8>>,
    /// What the file system says of it, for caches.
    pub stamp: Stamp,
}

impl Entry {
    /// A regular file.
    pub(super) fn of_file(path: Vec<u8>, stat: &Stat) -> Self {
        let stamp = Stamp::of(stat);
        Self {
            path,
            kind: Kind::File,
            mode: stat.st_mode & 0o7777,
            size: stamp.size,
            modified: stamp.modified,
            link: None,
            stamp,
        }
    }
}

/// The kinds of things that a context may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file, the first of its inode.
    File,
    /// A symbolic link.
    Symlink,
    /// Another name of a file that came earlier in the walk.
    HardLink,
}

/// What the file system says of a file. As long as it stays equal, so does the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// Bytes, also for a hard link.
    pub size: u64,
    /// When the content was modified; anyone may set it.
    pub modified: (i64, u32),
    /// When content or metadata changed; the kernel alone sets it.
    pub changed: (i64, u32),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (
                stat.st_mtime,
                u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            changed: (
                stat.st_ctime,
                u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        }
    }
}

/// What a context can't have and is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        })
    }
}
