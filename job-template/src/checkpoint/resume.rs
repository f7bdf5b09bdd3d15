//! What is needed to go on after a break.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use crate::files::{self, WriteError};

/// Training can't go on from what an earlier one left.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// A file is there, and can't be read now.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is missing or damaged.
    #[error(
        "{}: {reason}; remove the directory {} to begin anew",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error(
        "{}: has schema {schema}, and this version of the program reads {SCHEMA}; finish that training with the \
         version that started it, or remove the directory {} to begin anew",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u32,
    },
    /// It was another training.
    #[error(
        "{} is of a training that was broken off and was another: {}. Go on with what it was \
         given, or remove the directory to begin anew",
        path.display(),
        differences.join(", ")
    )]
    Other {
        /// The directory.
        path: PathBuf,
        /// What is different.
        differences: Vec<String>,
    },
}

/// Where a training is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Position {
    /// Steps made.
    pub step: usize,
    /// Sum of the losses since the last line of metrics.
    pub loss_sum: f64,
    /// Examples since then.
    pub loss_examples: usize,
    /// Bytes of the metrics' lines.
    pub metrics_bytes: u64,
    /// Bytes of the trace's lines.
    pub trace_bytes: u64,
    /// The best validation so far, where one is to be known.
    pub best: Option<Best>,
    /// Validations since then.
    pub validations_since_best: usize,
    /// Seconds that training took.
    pub seconds: f64,
    /// Seconds of processors' time that it took.
    pub cpu_seconds: f64,
    /// Steps that were logged, and the seconds until then.
    #[serde(default)]
    pub log: Vec<(usize, f64)>,
}

/// The best validation of a training.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Best {
    /// The steps that the model was trained for.
    pub step: usize,
    /// The metric's value.
    pub value: f64,
}

/// A training that was broken off.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    schema: u32,
    /// What it was given.
    identity: Map<String, Value>,
    position: Position,
}

/// The part of it that all versions have.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

const SCHEMA: u32 = 3;

/// The parameters that are trained, in the state's file and in that of the best model.
pub const PARAMETERS: &str = "parameters";

/// Where a training keeps what it needs to go on.
#[derive(Debug)]
pub struct Resume {
    directory: PathBuf,
    identity: Map<String, Value>,
    /// The step of the best model that the state on disk is with.
    best_step: Option<usize>,
}

impl Resume {
    /// In `output_dir`, for a training that is given `identity`.
    #[must_use]
    pub fn new(output_dir: &Path, identity: Map<String, Value>) -> Self {
        Self {
            directory: output_dir.join(super::DIRECTORY).join("resume"),
            identity,
            best_step: None,
        }
    }

    /// Reads where the training was, if it was broken off, and writes the learner's state into its tensors.
    ///
    /// # Errors
    /// The files are damaged, or of another training.
    pub fn read(
        &mut self,
        tensors: &mut [(&'static str, Tensor)],
    ) -> Result<Option<Position>, ResumeError> {
        let path = self.directory.join("state.json");
        let Some(text) = files::read(&path).map_err(unreadable(&path))? else {
            return Ok(None);
        };
        let parse = |error: serde_json::Error| damaged(&path, &error);
        // What else is in the file depends on it.
        let Schema { schema } = serde_json::from_slice(&text).map_err(parse)?;
        if schema != SCHEMA {
            return Err(ResumeError::Schema { path, schema });
        }
        let state: State = serde_json::from_slice(&text).map_err(parse)?;
        let differences = differences(&state.identity, &self.identity);
        if !differences.is_empty() {
            return Err(ResumeError::Other {
                path: self.directory.clone(),
                differences,
            });
        }
        read_tensors(&self.tensors(state.position.step), tensors)?;
        self.best_step = state.position.best.map(|best| best.step);
        Ok(Some(state.position))
    }

    /// Reads the parameters of the best model, which it had after this step.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub fn read_best(&self, step: usize, parameters: Tensor) -> Result<(), ResumeError> {
        read_tensors(&self.best(step), &mut [(PARAMETERS, parameters)])
    }

    /// Writes the parameters of the best model so far. It counts once a position with it is written; the best
    /// one till then is kept as long.
    ///
    /// # Errors
    /// As of [`Resume::write`].
    pub fn write_best(&self, step: usize, parameters: Tensor) -> Result<(), WriteError> {
        files::make_directory(&self.directory)?;
        files::write(&self.best(step), &serialize(&[(PARAMETERS, parameters)]))?;
        self.remove("best-", &[Some(step), self.best_step]);
        Ok(())
    }

    /// Writes where the training is.
    ///
    /// # Errors
    /// A file can't be written. What was written before still counts then.
    pub fn write(
        &mut self,
        tensors: &[(&'static str, Tensor)],
        position: &Position,
    ) -> Result<(), WriteError> {
        files::make_directory(&self.directory)?;
        files::write(&self.tensors(position.step), &serialize(tensors))?;
        // This file says which of the others counts, so that both change at once.
        let state = State {
            schema: SCHEMA,
            identity: self.identity.clone(),
            position: position.clone(),
        };
        files::write_json(&self.directory.join("state.json"), &state)?;
        // Before what it replaces is removed, in a power cut too.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(WriteError::new(&self.directory))?;
        self.best_step = position.best.map(|best| best.step);
        self.remove("step-", &[Some(position.step)]);
        self.remove("best-", &[self.best_step]);
        Ok(())
    }

    /// Removes everything, once the training is done.
    pub fn clear(&self) {
        let _ = fs::remove_file(self.directory.join("state.json"));
        let _ = fs::remove_dir_all(&self.directory);
    }

    fn tensors(&self, step: usize) -> PathBuf {
        self.directory.join(format!("step-{step}.safetensors"))
    }

    fn best(&self, step: usize) -> PathBuf {
        self.directory.join(format!("best-{step}.safetensors"))
    }

    /// Removes the tensors' files with these names, but of some steps.
    fn remove(&self, prefix: &str, kept_steps: &[Option<usize>]) {
        let kept = kept_steps.iter().flatten();
        let kept: Vec<String> = kept
            .map(|step| format!("{prefix}{step}.safetensors"))
            .collect();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with(prefix) && !kept.contains(&name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn damaged(path: &Path, reason: &dyn Display) -> ResumeError {
    ResumeError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ResumeError {
    let path = path.to_owned();
    |error| ResumeError::Unreadable { path, error }
}

/// Reads tensors by their names, in place.
fn read_tensors(path: &Path, tensors: &mut [(&'static str, Tensor)]) -> Result<(), ResumeError> {
    let bytes = files::read(path)
        .map_err(unreadable(path))?
        .ok_or_else(|| damaged(path, &"is missing"))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(path, &error))?;
    for (name, into) in tensors {
        let tensor = file
            .tensor(name)
            .ok()
            .filter(|tensor| tensor.dtype() == Dtype::F32 && tensor.shape() == [into.numel()])
            .ok_or_else(|| damaged(path, &format!("has no `{name}` of this model")))?;
        let numbers: Vec<f32> = tensor
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&number| f32::from_le_bytes(number))
            .collect();
        into.copy_(&Tensor::from_slice(&numbers));
    }
    Ok(())
}

fn serialize(tensors: &[(&'static str, Tensor)]) -> Vec<u8> {
    let bytes: Vec<_> = tensors.iter().map(|(_, tensor)| bytes_of(tensor)).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, _), bytes)| {
        let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
        (*name, view.expect("the bytes are the numbers'"))
    });
    safetensors::serialize(views, None).expect("names are unique")
}

fn bytes_of(row: &Tensor) -> Vec<u8> {
    let numbers: Vec<f32> =
        Vec::try_from(row.to_device(Device::Cpu)).expect("the row has binary32 numbers");
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// What two trainings were given differently, in words.
fn differences(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let keys = before
        .keys()
        .chain(now.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != now.get(*key))
        .map(|key| {
            let value = |map: &Map<String, Value>| match map.get(key) {
                Some(Value::String(text)) => text.clone(),
                None | Some(Value::Null) => "nothing".to_owned(),
                Some(value) => value.to_string(),
            };
            format!("{key} was {}, is {}", value(before), value(now))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(lr: f64) -> Map<String, Value> {
        let best = (lr > 0.15).then_some("min loss");
        json!({ "BEST": best, "LR": lr, "SEED": 1 })
            .as_object()
            .unwrap()
            .clone()
    }

    fn tensors(value: f32) -> [(&'static str, Tensor); 2] {
        ["parameters", "exp_avg"].map(|name| (name, Tensor::from_slice(&[value; 10])))
    }

    #[test]
    fn a_training_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let mut resume = Resume::new(directory.path(), identity(0.1));
        let mut read = tensors(0.0);
        assert!(resume.read(&mut read).unwrap().is_none());
        for step in 1..=2 {
            let position = Position {
                step,
                ..Position::default()
            };
            resume.write(&tensors(step as f32), &position).unwrap();
        }
        assert_eq!(resume.read(&mut read).unwrap().unwrap().step, 2);
        assert_eq!(read, tensors(2.0));
        resume.clear();
        assert!(resume.read(&mut read).unwrap().is_none());
    }

    #[test]
    fn the_best_model_counts_once_the_position_with_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut resume = Resume::new(directory.path(), identity(0.1));
        let at = |step, best| Position {
            step,
            best: Some(Best {
                step: best,
                value: 0.5,
            }),
            ..Position::default()
        };
        let parameters = |value: f32| Tensor::from_slice(&[value; 10]);
        resume.write_best(10, parameters(1.0)).unwrap();
        resume.write(&tensors(1.0), &at(12, 10)).unwrap();
        for (step, value) in [(20, 2.0), (30, 3.0)] {
            resume.write_best(step, parameters(value)).unwrap();
        }
        // As after SIGKILL: the state on disk is with the best of step 10.
        let mut again = Resume::new(directory.path(), identity(0.1));
        let position = again.read(&mut tensors(0.0)).unwrap().unwrap();
        assert_eq!(position.best.unwrap().step, 10);
        let read = parameters(0.0);
        again.read_best(10, read.shallow_clone()).unwrap();
        assert_eq!(read, parameters(1.0));
        assert!(again.read_best(20, read.shallow_clone()).is_err());
        again.write_best(20, parameters(2.0)).unwrap();
        again.write(&tensors(1.0), &at(24, 20)).unwrap();
        let mut names: Vec<_> = fs::read_dir(&again.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["best-20.safetensors", "state.json", "step-24.safetensors"]
        );
    }

    /// Also those that are no short decimals: the sum of losses is one.
    #[test]
    fn a_position_is_read_with_all_its_bits() {
        let directory = tempfile::tempdir().unwrap();
        let mut resume = Resume::new(directory.path(), identity(0.1));
        let mut random = bert_encoder::random::Random::new(1, "sums");
        for _ in 0..200 {
            let position = Position {
                loss_sum: random.uniform() * 10.0,
                ..Position::default()
            };
            resume.write(&tensors(1.0), &position).unwrap();
            let read = resume.read(&mut tensors(0.0)).unwrap().unwrap();
            assert_eq!(read.loss_sum.to_bits(), position.loss_sum.to_bits());
        }
    }

    #[test]
    fn the_state_of_another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut resume = Resume::new(directory.path(), identity(0.1));
        fs::create_dir_all(&resume.directory).unwrap();
        let old = json!({"schema": 1, "identity": {}, "position": {"step": 3}});
        fs::write(resume.directory.join("state.json"), old.to_string()).unwrap();
        let error = resume.read(&mut tensors(0.0)).unwrap_err().to_string();
        assert!(error.contains("has schema 1, and this version"), "{error}");
    }

    #[test]
    fn another_training_is_refused_with_what_is_different() {
        let directory = tempfile::tempdir().unwrap();
        let mut write = Resume::new(directory.path(), identity(0.1));
        write.write(&tensors(1.0), &Position::default()).unwrap();
        let mut read = Resume::new(directory.path(), identity(0.2));
        let error = read.read(&mut tensors(0.0)).unwrap_err().to_string();
        let differences = "another: BEST was nothing, is min loss, LR was 0.1, is 0.2. Go on";
        assert!(error.contains(differences), "{error}");
    }

    #[test]
    fn a_damaged_state_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut resume = Resume::new(directory.path(), identity(0.1));
        resume.write(&tensors(1.0), &Position::default()).unwrap();
        let error = |resume: &mut Resume| resume.read(&mut tensors(0.0)).unwrap_err().to_string();
        let path = resume.tensors(0);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let truncated = error(&mut resume);
        assert!(truncated.contains("begin anew"), "{truncated}");
        // What can't be read is not as if it weren't there.
        let path = resume.directory.join("state.json");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let unreadable = error(&mut resume);
        assert!(unreadable.contains("Is a directory"), "{unreadable}");
    }
}
