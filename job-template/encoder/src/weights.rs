//! The weights of a Hugging Face directory: `model.safetensors`, or several files with
//! `model.safetensors.index.json`.
//!
//! Names may have the prefix `bert.`, and `gamma` and `beta` for the `weight` and `bias` of a `LayerNorm`, as in
//! BERT's first checkpoints. F64, F16 and BF16 are converted to binary32. Other tensors, such as the
//! heads of pre-training, are ignored.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tch::Tensor;

use crate::architecture::{Architecture, ModelError};
use crate::parameters::{Slot, count, layout};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The bytes of all weight files of a directory.
pub(crate) struct WeightFiles {
    /// The path for error messages: the one file, or the index.
    path: PathBuf,
    files: Vec<WeightFile>,
    /// SHA-256 in hexadecimal: of the file; of several, of their names and SHA-256s.
    pub(crate) sha256: String,
}

struct WeightFile {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The names of the tensors to read from it; none: all.
    names: Option<Vec<String>>,
}

/// A directory's tensors, by [`canonical`] names.
pub(crate) struct Tensors<'a> {
    path: &'a Path,
    by_name: HashMap<String, (String, TensorView<'a>)>,
}

/// Parameters read from files.
pub(crate) struct Weights {
    /// All parameters, binary32 `[numbers]` on the CPU; 0 for those that are not in the directory.
    pub(crate) flat_params: Tensor,
    /// Whether the directory has a pooler.
    pub(crate) has_pooler: bool,
    /// Encoder layers that the files have.
    pub(crate) stored_layers: usize,
    /// Whether the directory has a classifier that was read.
    pub(crate) has_classifier: bool,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Reads `directory`'s files.
    ///
    /// # Errors
    /// They are missing, or in a format that isn't supported; then the message has the conversion.
    pub(crate) fn read(directory: &Path) -> Result<Self, ModelError> {
        let path = directory.join(SINGLE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Self {
                sha256: format!("{:x}", Sha256::digest(&bytes)),
                files: vec![WeightFile {
                    path: path.clone(),
                    bytes,
                    names: None,
                }],
                path,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::read_index(directory)?.ok_or_else(|| missing(directory, &error))
            }
            Err(error) => Err(ModelError::new(&path, error.to_string())),
        }
    }

    fn read_index(directory: &Path) -> Result<Option<Self>, ModelError> {
        let path = directory.join(INDEX);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| ModelError::new(&path, error.to_string()))?,
        };
        let error = |reason: String| ModelError::new(&path, reason);
        let index: Index = serde_json::from_slice(&text)
            .map_err(|reason| error(format!("not an index of weights: {reason}")))?;
        let mut names: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (tensor, file) in &index.weight_map {
            // A path could lead out of the directory.
            if Path::new(file).file_name() != Some(file.as_ref()) {
                return Err(error(format!(
                    "`{tensor}` is in {file:?}, which is not the name of a file beside it"
                )));
            }
            names.entry(file).or_default().push(tensor.clone());
        }
        let mut files = Vec::new();
        let mut hash = Sha256::new();
        for (file, names) in names {
            let path = directory.join(file);
            let bytes =
                fs::read(&path).map_err(|reason| ModelError::new(&path, reason.to_string()))?;
            hash.update(format!("{file} {:x}\n", Sha256::digest(&bytes)));
            files.push(WeightFile {
                path,
                bytes,
                names: Some(names),
            });
        }
        Ok(Some(Self {
            sha256: format!("{:x}", hash.finalize()),
            path,
            files,
        }))
    }

    /// The tensors in the files.
    ///
    /// # Errors
    /// A file is damaged, lacks a tensor that the index lists, or has one under two names.
    pub(crate) fn tensors(&self) -> Result<Tensors<'_>, ModelError> {
        let mut by_name = HashMap::new();
        for WeightFile { path, bytes, names } in &self.files {
            let error = |reason: String| ModelError::new(path, reason);
            let file = SafeTensors::deserialize(bytes)
                .map_err(|reason| error(format!("damaged, or not a file of tensors: {reason}")))?;
            let mut names = names.clone().unwrap_or_else(|| {
                let names = file.names().into_iter();
                names.map(ToString::to_string).collect()
            });
            names.sort_unstable();
            for name in names {
                let tensor = file
                    .tensor(&name)
                    .map_err(|_| error(format!("has no tensor `{name}`, which {INDEX} names")))?;
                let before = by_name.insert(canonical(&name), (name.clone(), tensor));
                if let Some((before, _)) = before {
                    return Err(error(format!(
                        "has `{before}` and `{name}`, which are names of the same tensor"
                    )));
                }
            }
        }
        Ok(Tensors {
            path: &self.path,
            by_name,
        })
    }
}

/// A line of Python that converts pickled weights, in one file or several.
const CONVERSION: &str = "python3 -c \"import glob, torch; from safetensors.torch import save_file; \
     save_file({k: v.clone().contiguous() for f in glob.glob('pytorch_model*.bin') for k, v in \
     torch.load(f, map_location='cpu', weights_only=True).items()}, 'model.safetensors', \
     {'format': 'pt'})\"";

/// The error for a directory without `model.safetensors`.
fn missing(directory: &Path, error: &io::Error) -> ModelError {
    for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
        let path = directory.join(pickled);
        if path.exists() {
            let reason = format!(
                "pickled weights are not read, as they can run code. Convert them, in that directory: \
                 {CONVERSION}"
            );
            return ModelError::new(&path, reason);
        }
    }
    ModelError::new(&directory.join(SINGLE), error.to_string())
}

/// A tensor's name as in [`layout`]: without `bert.`, and with `PyTorch`'s names for a `LayerNorm`'s parameters.
fn canonical(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
        if let Some(layer) = name.strip_suffix(old)
            && layer.ends_with("LayerNorm.")
        {
            return format!("{layer}{new}");
        }
    }
    name.to_owned()
}

impl Tensors<'_> {
    /// The number of the classifier's labels, from its weight's shape; none where there is no classifier.
    pub(crate) fn classifier_labels(&self) -> Option<usize> {
        let (_, tensor) = self.by_name.get("classifier.weight")?;
        Some(tensor.shape().first().copied().unwrap_or_default())
    }

    /// The parameters of a model of this architecture. A pooler may be missing; so may a classifier, which is
    /// read with `with_classifier` only.
    ///
    /// # Errors
    /// A tensor is missing, has another shape or an unsupported dtype, or has a number that is not finite.
    pub(crate) fn weights(
        &self,
        architecture: &Architecture,
        with_classifier: bool,
    ) -> Result<Weights, ModelError> {
        let error = |reason: String| ModelError::new(self.path, reason);
        let has = |name: &str| self.by_name.keys().any(|known| known.starts_with(name));
        let has_pooler = has("pooler.");
        let has_classifier = with_classifier && has("classifier.");
        let is_there = |slot: &Slot| {
            let is_absent = (slot.name.starts_with("pooler.") && !has_pooler)
                || (slot.name.starts_with("classifier.") && !has_classifier);
            !is_absent
        };
        // All shapes first, so that sizes in config.json allocate nothing that the file doesn't have.
        let slots = layout(architecture).into_iter().filter(is_there);
        let mut found = Vec::new();
        for slot in slots {
            let (name, tensor) = self.by_name.get(&slot.name).ok_or_else(|| {
                error(format!(
                    "has no tensor `{}`{}",
                    slot.full_name(),
                    self.hint()
                ))
            })?;
            let shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
            if shape != slot.shape {
                return Err(error(format!(
                    "`{name}` has the shape {shape:?}, and config.json wants {:?}",
                    slot.shape
                )));
            }
            found.push((slot, name, tensor));
        }
        let mut flat_params = vec![0_f32; count(architecture) as usize];
        for (slot, name, tensor) in found {
            let target =
                &mut flat_params[slot.offset as usize..(slot.offset + slot.len()) as usize];
            copy_numbers(tensor, target).map_err(|dtype| {
                error(format!(
                    "`{name}` has the dtype {dtype:?}; F64, F32, F16 and BF16 are read"
                ))
            })?;
            if !target.iter().all(|number| number.is_finite()) {
                return Err(error(format!("`{name}` has numbers that are not finite")));
            }
        }
        Ok(Weights {
            flat_params: Tensor::from_slice(&flat_params),
            has_pooler,
            stored_layers: self.stored_layers(),
            has_classifier,
        })
    }

    /// One more than the highest number of a layer.
    fn stored_layers(&self) -> usize {
        let numbers = self.by_name.keys().filter_map(|name| {
            let (number, _) = name.strip_prefix("encoder.layer.")?.split_once('.')?;
            number.parse::<usize>().ok()
        });
        numbers.max().map_or(0, |number| number.saturating_add(1))
    }

    /// For a file that is not of a BERT at all: the first of its tensors.
    fn hint(&self) -> String {
        if self
            .by_name
            .contains_key("embeddings.word_embeddings.weight")
        {
            return String::new();
        }
        let first = self.by_name.values().map(|(name, _)| name).min();
        first.map_or_else(String::new, |first| {
            format!("; its first of {} is `{first}`", self.by_name.len())
        })
    }
}

/// Copies a tensor's numbers as binary32.
///
/// # Errors
/// The tensor's dtype, where it isn't supported.
fn copy_numbers(tensor: &TensorView<'_>, target: &mut [f32]) -> Result<(), Dtype> {
    let bytes = tensor.data();
    let pairs = || {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&pair| u16::from_le_bytes(pair))
    };
    match tensor.dtype() {
        Dtype::F64 => {
            for (target, &number) in target.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *target = f64::from_le_bytes(number) as f32;
            }
        }
        Dtype::F32 => {
            for (target, &number) in target.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *target = f32::from_le_bytes(number);
            }
        }
        Dtype::F16 => {
            let numbers: Vec<_> = pairs().map(half::f16::from_bits).collect();
            for (target, number) in target.iter_mut().zip(numbers) {
                *target = number.to_f32();
            }
        }
        Dtype::BF16 => {
            for (target, bits) in target.iter_mut().zip(pairs()) {
                *target = f32::from_bits(u32::from(bits) << 16);
            }
        }
        dtype => return Err(dtype),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_names_are_understood() {
        for name in [
            "embeddings.LayerNorm.weight",
            "bert.embeddings.LayerNorm.gamma",
        ] {
            assert_eq!(canonical(name), "embeddings.LayerNorm.weight");
        }
        assert_eq!(canonical("bert.x.LayerNorm.beta"), "x.LayerNorm.bias");
        // Only a LayerNorm's.
        assert_eq!(canonical("bert.layer.gamma"), "layer.gamma");
        assert_eq!(canonical("classifier.bias"), "classifier.bias");
    }

    #[test]
    fn other_float_types_are_converted() {
        let read = |dtype, bytes: &[u8]| {
            let mut target = [0.0; 2];
            let tensor = TensorView::new(dtype, vec![2], bytes).unwrap();
            copy_numbers(&tensor, &mut target).map(|()| target)
        };
        let expected = [0.5, -2.0];
        let bytes: Vec<u8> = [0.5_f64, -2.0]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        assert_eq!(read(Dtype::F64, &bytes), Ok(expected));
        let bytes: Vec<u8> = [0.5_f32, -2.0]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        assert_eq!(read(Dtype::F32, &bytes), Ok(expected));
        assert_eq!(read(Dtype::F16, &[0x00, 0x38, 0x00, 0xc0]), Ok(expected));
        assert_eq!(read(Dtype::BF16, &[0x00, 0x3f, 0x00, 0xc0]), Ok(expected));
        assert_eq!(read(Dtype::I8, &[1, 2]), Err(Dtype::I8));
    }
}
