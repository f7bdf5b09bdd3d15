//! Files that git has pointers to (Git LFS, "The Pointer"): the program that makes them is not run, as it is
//! the repository that names it. What it would make of a file is known without it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::{Blob, Repository, failed};

/// A pointer has fewer bytes.
const LARGEST_POINTER: u64 = 1024;
/// So many paths are named to git at once; those in the directory that is asked about need no naming.
const MOST_PATHS: usize = 1000;
/// What is read at once.
const PART: usize = 1 << 20;

/// What a repository has instead of a large file.
#[derive(Debug, PartialEq, Eq)]
struct Pointer {
    /// The SHA-256 of its content, in hexadecimal digits.
    sha256: String,
    size: u64,
}

impl Pointer {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        let version = lines.next()?.strip_prefix("version ")?;
        if !version.starts_with("https://git-lfs.github.com/spec/") {
            return None;
        }
        let (mut sha256, mut size) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) => sha256 = Some(value.strip_prefix("sha256:")?.to_owned()),
                ("size", value) => size = Some(value.parse().ok()?),
                // What else a program has a pointer pass through may change the content.
                _ => return None,
            }
        }
        Some(Self {
            sha256: sha256?,
            size: size?,
        })
    }

    /// Whether it points to what a file has.
    fn is_of(&self, path: &Path) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != self.size {
            return Ok(false);
        }
        let mut digest = Sha256::new();
        let mut part = vec![0; PART];
        loop {
            match file.read(&mut part)? {
                0 => break,
                count => digest.update(&part[..count]),
            }
        }
        Ok(format!("{:x}", digest.finalize()) == self.sha256)
    }
}

impl Repository {
    /// Files that are not as the index has them, without those whose content the index points to.
    pub(in crate::facts) fn without_large_files(
        &self,
        modified: Vec<Vec<u8>>,
    ) -> io::Result<Vec<Vec<u8>>> {
        if modified.is_empty() {
            return Ok(modified);
        }
        let others: HashSet<_> = modified.iter().collect();
        let paths: Vec<_> = (modified.iter())
            .map(|path| self.top().join(OsStr::from_bytes(path)))
            .collect();
        let tracked = self.tracked(&paths[..paths.len().min(MOST_PATHS)])?;
        let blobs = tracked.iter().filter(|file| others.contains(&file.path));
        let blobs: Vec<(&[u8], &Blob)> = blobs
            .filter(|file| file.blob.mode.starts_with("100"))
            .map(|file| (file.path.as_slice(), &file.blob))
            .collect();
        let objects: Vec<_> = blobs.iter().map(|(_, blob)| blob.object.as_str()).collect();
        let sizes = self.sizes(&objects)?;
        let small = blobs.into_iter().zip(sizes);
        let small: Vec<_> = small
            .filter(|(_, size)| size.is_some_and(|size| size < LARGEST_POINTER))
            .map(|(found, _)| found)
            .collect();
        let objects: Vec<_> = small.iter().map(|(_, blob)| blob.object.as_str()).collect();
        let texts = self.contents(&objects)?;
        let mut pointed = HashSet::new();
        for ((path, _), text) in small.into_iter().zip(texts) {
            let file = self.top().join(OsStr::from_bytes(path));
            if let Some(pointer) = Pointer::parse(&text)
                && pointer.is_of(&file).unwrap_or(false)
            {
                pointed.insert(path.to_owned());
            }
        }
        let mut modified = modified;
        modified.retain(|path| !pointed.contains(path));
        Ok(modified)
    }

    /// What small objects have, in their order.
    fn contents(&self, objects: &[&str]) -> io::Result<Vec<Vec<u8>>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let answered = self.tell(
            &["cat-file", "--batch=%(objectsize)"],
            objects.join("\n").as_bytes(),
        )?;
        let mut rest = answered.as_slice();
        let mut contents = Vec::new();
        // A line with the size, the content, and the end of a line.
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let size = std::str::from_utf8(&rest[..end]).ok();
            let size = size.and_then(|size| size.parse::<usize>().ok());
            let content = size.and_then(|size| rest.get(end + 1..)?.get(..size));
            let content = content.ok_or_else(|| failed("cat-file"))?;
            contents.push(content.to_vec());
            rest = rest.get(end + 1 + content.len() + 1..).unwrap_or_default();
        }
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::Pointer;

    #[test]
    fn a_pointer_is_told_from_what_looks_like_one() {
        let digits = "0123456789abcdef".repeat(4);
        let version = "version https://git-lfs.github.com/spec/v1\n";
        let pointer = format!("{version}oid sha256:{digits}\nsize 12\n");
        let expected = Pointer {
            sha256: digits.clone(),
            size: 12,
        };
        assert_eq!(Pointer::parse(pointer.as_bytes()), Some(expected));
        for text in [
            "version https://example.com/v1\noid sha256:0\nsize 1\n".to_owned(),
            format!("{version}ext-0-foo sha256:{digits}\noid sha256:{digits}\nsize 12\n"),
            format!("{version}oid sha256:{digits}\n"),
            format!("{version}oid md5:{digits}\nsize 12\n"),
            format!("{version}oid sha256:{digits}\nsize many\n"),
            version.to_owned(),
            String::new(),
        ] {
            assert_eq!(Pointer::parse(text.as_bytes()), None, "{text}");
        }
    }
}
