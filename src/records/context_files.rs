//! What images were built from, file by file, so that `up` can name what changed.
//!
//! `images/ID/context.jsonl` has an object a line: `path`, and a `digest` under the project's key, so that
//! nobody can guess what a small file has.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::durable;
use super::error::StoreError;
use super::store::Store;

/// The list in an image's directory.
const LIST: &str = "context.jsonl";
/// So many images have their lists kept, the newest.
const MOST_IMAGES: usize = 100;
/// So many digits of a digest are kept: no two files of a project have the same by chance.
const DIGITS: usize = 16;

impl Store {
    /// Keeps what an image was built from, unless that is known.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn keep_context(
        &self,
        image: &str,
        files: &[(String, [u8; 32])],
    ) -> Result<(), StoreError> {
        let path = self.context_list(image)?;
        if files.is_empty() || path.exists() {
            return Ok(());
        }
        let key = self.key()?;
        let mut text = String::new();
        for (name, sha256) in files {
            let digest = key.digest(sha256);
            let digest = digest.rsplit(':').next().unwrap_or_default();
            let line = json!({ "path": name, "digest": digest.get(..DIGITS) });
            writeln!(text, "{line}").expect("a text takes all");
        }
        self.write_list(path, &text)
    }

    /// Says of an image that it was built from the same as another: what differs made no difference.
    ///
    /// # Errors
    ///
    /// It can't be written.
    pub fn follow_context(&self, image: &str, other: &str) -> Result<(), StoreError> {
        let other = self.context_list(other)?;
        match durable::read(&other) {
            Ok(text) => self.write_list(self.context_list(image)?, &String::from_utf8_lossy(&text)),
            _ => Ok(()),
        }
    }

    /// The files that two images were not both built from, sorted; nothing where that is not known.
    #[must_use]
    pub fn changed_context(&self, image: &str, other: &str) -> Vec<String> {
        let lists = [image, other].map(|image| self.context_files(image));
        let [Some(then), Some(now)] = lists else {
            return Vec::new();
        };
        let names = then.keys().chain(now.keys());
        let mut changed: Vec<_> = names
            .filter(|name| then.get(*name) != now.get(*name))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }

    fn context_files(&self, image: &str) -> Option<BTreeMap<String, String>> {
        let text = durable::read(&self.context_list(image).ok()?).ok()?;
        let text = String::from_utf8(text).ok()?;
        let file = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let field = |name: &str| Some(line[name].as_str()?.to_owned());
            Some((field("path")?, field("digest")?))
        };
        text.lines().map(file).collect()
    }

    /// An image's list, by its id.
    fn context_list(&self, image: &str) -> Result<PathBuf, StoreError> {
        let id = image.rsplit(':').next().unwrap_or_default();
        // A record may have come with a cloned repository.
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = if is_id { id } else { "unknown" };
        Ok(self.images()?.join(id).join(LIST))
    }

    fn write_list(&self, path: PathBuf, text: &str) -> Result<(), StoreError> {
        let directory = path.parent().unwrap_or(&path);
        durable::create_directory(directory)
            .and_then(|()| durable::write(&path, text.as_bytes()))
            .map_err(|error| StoreError::write(path, error))?;
        self.forget_old_lists()
    }

    fn forget_old_lists(&self) -> Result<(), StoreError> {
        let images = self.images()?;
        let entries = fs::read_dir(&images).map_err(|error| StoreError::read(&images, error))?;
        let lists = entries.flatten().filter_map(|entry| {
            let list = entry.path().join(LIST);
            let modified = list.symlink_metadata().and_then(|found| found.modified());
            Some((modified.ok()?, list))
        });
        let mut lists: Vec<_> = lists.collect();
        lists.sort();
        let old = lists.len().saturating_sub(MOST_IMAGES);
        for (_, list) in &lists[..old] {
            // Another process may have been first.
            let _ = fs::remove_file(list);
            let _ = list.parent().map(fs::remove_dir);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, u8)]) -> Vec<(String, [u8; 32])> {
        let files = files.iter();
        files
            .map(|(name, content)| ((*name).to_owned(), [*content; 32]))
            .collect()
    }

    #[test]
    fn what_changed_between_two_images_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join(".jobctl"));
        let (a, b) = ("sha256:aa", "sha256:bb");
        let then = files(&[("same", 1), ("gone", 2), ("edited", 3)]);
        store.keep_context(a, &then).unwrap();
        assert_eq!(store.changed_context(a, b), [""; 0]);
        let now = files(&[("same", 1), ("edited", 4), ("new", 5)]);
        store.keep_context(b, &now).unwrap();
        assert_eq!(store.changed_context(a, b), ["edited", "gone", "new"]);
        store.follow_context(a, b).unwrap();
        assert_eq!(store.changed_context(a, b), [""; 0]);
    }

    #[test]
    fn the_lists_of_old_images_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join(".jobctl"));
        for image in 0..MOST_IMAGES + 5 {
            let image = format!("sha256:{image:x}");
            store.keep_context(&image, &files(&[("a", 1)])).unwrap();
        }
        let images = fs::read_dir(store.images().unwrap()).unwrap();
        assert_eq!(images.count(), MOST_IMAGES);
    }
}
