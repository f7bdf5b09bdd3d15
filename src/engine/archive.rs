//! What is in an image: reads the archives that `docker save` writes.
//!
//! Both layouts are read in one pass: docker's own (a folder for each layer, up to Engine 24) and
//! the OCI image layout (`blobs/sha256/…`), with layers that are plain or gzip. File contents are
//! only hashed, so that memory grows with the number of files, not with their sizes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::tar_names::TarNames;

/// A JSON document of an image is not larger.
const LARGEST_DOCUMENT_BYTES: u64 = 16 << 20;
/// And all of them together are not.
const ALL_DOCUMENTS_BYTES: usize = 64 << 20;
/// A tar header's block; what an entry is can be told from so much of it.
const BLOCK_BYTES: usize = 512;
/// Where in a tar header its format is named.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// What is in an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageContent {
    /// Its configuration, as the image has it.
    pub config: Value,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// The entries of a layer, by their paths; without a slash at either end.
pub type Layer = BTreeMap<Vec<u8>, Node>;

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its permissions.
    pub mode: u32,
    /// Its owner and group, by number.
    pub owner: (u64, u64),
    /// How many bytes it has, if it is a file.
    pub size: u64,
    /// Where it leads, if it is a link.
    pub link: Vec<u8>,
    /// When it was changed, in seconds since 1970.
    pub modified: u64,
    /// Its extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// Its content's SHA-256, if it is a file.
    pub content: Option<[u8; 32]>,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another name of a file in the same layer.
    HardLink,
    /// A device with its numbers, or a pipe.
    Special {
        /// The type as tar has it.
        flag: u8,
        /// Major and minor.
        device: (u32, u32),
    },
}

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It ends too early, or is no tar.
    #[error("the image's archive can't be read")]
    Broken(#[from] io::Error),
    /// It has no manifest, or one that names what is not there.
    #[error("the image's archive lacks {0}")]
    Incomplete(String),
    /// A document is not as it should be.
    #[error("`{name}` in the image's archive can't be read")]
    Document {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A layer is compressed with something that is not known here.
    #[error("the layer `{0}` is compressed in a way that jobctl can't read")]
    Compression(String),
}

/// Reads the archive of one image.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn read_image(archive: impl Read) -> Result<ImageContent, ArchiveError> {
    let mut parts = Parts::default();
    for entry in Archive::new(TarNames::new(archive)).entries()? {
        parts.take(entry?)?;
    }
    parts.image()
}

/// What an entry of an image's archive is.
enum Part {
    Document(Vec<u8>),
    Layer(Layer),
    /// The same as another entry.
    Alias(String),
    /// Neither; a layer, if the manifest says so.
    Unknown,
}

#[derive(Default)]
struct Parts {
    by_name: HashMap<String, Part>,
    document_bytes: usize,
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

impl Parts {
    fn take<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), ArchiveError> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let part = match entry.header().entry_type() {
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                Part::Alias(resolved(&name, &String::from_utf8_lossy(&target)))
            }
            EntryType::Regular | EntryType::Continuous => part(&mut entry)?,
            _ => return Ok(()),
        };
        if let Part::Document(text) = &part {
            self.document_bytes += text.len();
            if self.document_bytes > ALL_DOCUMENTS_BYTES {
                return Err(io::Error::other("its documents are too large").into());
            }
        }
        self.by_name.insert(name, part);
        Ok(())
    }

    fn image(mut self) -> Result<ImageContent, ArchiveError> {
        let listed = match self.document("manifest.json") {
            Ok(document) => parsed::<Vec<Listed>>("manifest.json", document)?.pop(),
            Err(_) => Some(self.listed_in("index.json")?),
        };
        let listed = listed
            .ok_or_else(|| ArchiveError::Incomplete("an image in its manifest".to_owned()))?;
        let config = parsed(&listed.config, self.document(&listed.config)?)?;
        let mut layers = Vec::new();
        for name in &listed.layers {
            layers.push(self.layer(name)?);
        }
        Ok(ImageContent { config, layers })
    }

    /// The image that an OCI index leads to: its first manifest that is an image.
    fn listed_in(&self, name: &str) -> Result<Listed, ArchiveError> {
        let document: Value = parsed(name, self.document(name)?)?;
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            format!("blobs/{}", digest.replacen(':', "/", 1))
        };
        if let Some(manifests) = document["manifests"].as_array() {
            let image = manifests.iter().find(|manifest| {
                // What buildx attests of an image is listed beside it, for no platform.
                manifest["platform"]["os"] != "unknown"
            });
            let image =
                image.ok_or_else(|| ArchiveError::Incomplete(format!("an image in `{name}`")))?;
            return self.listed_in(&blob(image));
        }
        let layers = document["layers"].as_array();
        Ok(Listed {
            config: blob(&document["config"]),
            layers: layers.into_iter().flatten().map(blob).collect(),
        })
    }

    fn document(&self, name: &str) -> Result<&[u8], ArchiveError> {
        match self.by_name.get(name) {
            Some(Part::Document(text)) => Ok(text),
            _ => Err(ArchiveError::Incomplete(format!("`{name}`"))),
        }
    }

    fn layer(&mut self, name: &str) -> Result<Layer, ArchiveError> {
        let mut name = name;
        let mut seen = 0;
        while let Some(Part::Alias(other)) = self.by_name.get(name)
            && seen < self.by_name.len()
        {
            name = other;
            seen += 1;
        }
        match self.by_name.get(name) {
            // The same layer may be in an image twice.
            Some(Part::Layer(layer)) => Ok(layer.clone()),
            Some(Part::Unknown) => Err(ArchiveError::Compression(name.to_owned())),
            _ => Err(ArchiveError::Incomplete(format!("the layer `{name}`"))),
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(name: &str, text: &[u8]) -> Result<T, ArchiveError> {
    serde_json::from_slice(text).map_err(|source| ArchiveError::Document {
        name: name.to_owned(),
        source,
    })
}

/// A link's target, seen from the archive's root: `a/layer.tar` + `../b/layer.tar`.
fn resolved(name: &str, target: &str) -> String {
    let mut parts: Vec<_> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Tells by its first bytes what an entry is, and reads it.
fn part<R: Read>(entry: &mut Entry<'_, R>) -> Result<Part, ArchiveError> {
    let size = entry.size();
    let mut head = Vec::with_capacity(BLOCK_BYTES);
    entry
        .by_ref()
        .take(BLOCK_BYTES as u64)
        .read_to_end(&mut head)?;
    let is_document = matches!(head.first(), Some(b'{' | b'[')) && size <= LARGEST_DOCUMENT_BYTES;
    if head.get(TAR_MAGIC) == Some(b"ustar") || is_empty_tar(&head) {
        return Ok(Part::Layer(layer(head.chain(entry))?));
    }
    if head.starts_with(&[0x1f, 0x8b]) {
        let plain = MultiGzDecoder::new(head.chain(entry));
        return Ok(Part::Layer(layer(plain)?));
    }
    if is_document {
        entry.read_to_end(&mut head)?;
        return Ok(Part::Document(head));
    }
    Ok(Part::Unknown)
}

/// A layer without entries is nothing but zeros.
fn is_empty_tar(head: &[u8]) -> bool {
    head.len() == BLOCK_BYTES && head.iter().all(|byte| *byte == 0)
}

fn layer(tar: impl Read) -> Result<Layer, ArchiveError> {
    let mut layer = Layer::new();
    for entry in Archive::new(TarNames::new(tar)).entries()? {
        let mut entry = entry?;
        let path = trimmed(&entry.path_bytes());
        let node = node(&mut entry)?;
        layer.insert(path, node);
    }
    Ok(layer)
}

fn trimmed(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let start = path.iter().position(|byte| *byte != b'/');
    let end = path.iter().rposition(|byte| *byte != b'/');
    match (start, end) {
        (Some(start), Some(end)) => path[start..=end].to_vec(),
        _ => Vec::new(),
    }
}

fn node<R: Read>(entry: &mut Entry<'_, R>) -> Result<Node, ArchiveError> {
    const ATTRIBUTE: &str = "SCHILY.xattr.";

    let mut attributes = BTreeMap::new();
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            let record = record?;
            let key = record.key().unwrap_or_default();
            if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            }
        }
    }
    // A number that is left out is 0, as engines read it.
    let header = entry.header();
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous => NodeKind::File,
        EntryType::Directory => NodeKind::Folder,
        EntryType::Symlink => NodeKind::Symlink,
        EntryType::Link => NodeKind::HardLink,
        other => NodeKind::Special {
            flag: other.as_byte(),
            device: (
                header.device_major().ok().flatten().unwrap_or_default(),
                header.device_minor().ok().flatten().unwrap_or_default(),
            ),
        },
    };
    let mode = header.mode().unwrap_or_default() & 0o7777;
    let owner = (
        header.uid().unwrap_or_default(),
        header.gid().unwrap_or_default(),
    );
    let modified = header.mtime().unwrap_or_default();
    let link = entry.link_name_bytes().unwrap_or_default().into_owned();
    let (size, content) = if kind == NodeKind::File {
        let mut hasher = Sha256::new();
        let size = io::copy(entry, &mut hasher)?;
        (size, Some(hasher.finalize().into()))
    } else {
        (0, None)
    };
    Ok(Node {
        kind,
        mode,
        owner,
        size,
        link,
        modified,
        attributes,
        content,
    })
}

#[cfg(test)]
mod tests;
