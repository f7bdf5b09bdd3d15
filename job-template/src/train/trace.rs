//! The trace of `TRACE=1`: what each step computed, and from what, as hashes. Two runs parted where an entry's output
//! differs while its inputs agree.

use std::path::PathBuf;
use std::slice;

use serde::Serialize;
use tch::{Device, Tensor};
use twox_hash::XxHash3_128;

use super::record::{append, cut, sync};
use super::{Part, Training};
use crate::batches::Examples;
use crate::files::{self, WriteError};

/// What is traced of a training.
pub(super) struct Trace {
    /// Hash of the parameters that are trained.
    parameters: u128,
    /// Hash of the optimizer's state.
    optimizer: u128,
    /// That of the examples that the step learns from.
    batch: u128,
    /// That of their gradient.
    gradients: u128,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
}

/// A line of trace.jsonl.
#[derive(Serialize)]
struct Entry<'a> {
    step: usize,
    name: &'a str,
    #[serde(rename = "in")]
    input: String,
    out: String,
}

impl Trace {
    fn add(&mut self, step: usize, name: &str, inputs: &[u128], output: u128) {
        let entry = Entry {
            step,
            name,
            input: format!("{:032x}", combined(inputs)),
            out: format!("{output:032x}"),
        };
        serde_json::to_writer(&mut self.lines, &entry).expect("lines are plain values");
        self.lines.push(b'\n');
    }
}

/// A hash of several.
fn combined(hashes: &[u128]) -> u128 {
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    XxHash3_128::oneshot(&bytes)
}

/// A hash of tensors' elements, by 1 MiB or so at a time.
fn of_tensors(tensors: &[Tensor]) -> u128 {
    const CHUNK: i64 = 1 << 18;
    let mut hasher = XxHash3_128::new();
    let mut bytes = Vec::new();
    for tensor in tensors {
        let flat = tensor.to_device(Device::Cpu).view(-1);
        let len = flat.size()[0];
        hasher.write(&len.to_le_bytes());
        for start in (0..len).step_by(CHUNK as usize) {
            let chunk = flat.narrow(0, start, CHUNK.min(len - start));
            bytes.resize(chunk.numel() * chunk.kind().elt_size_in_bytes(), 0);
            chunk.copy_data_u8(&mut bytes, chunk.numel());
            hasher.write(&bytes);
        }
    }
    hasher.finish_128()
}

/// A hash of some examples: what the model reads, their labels, and what their losses weigh.
fn of_examples(part: &Part, indexes: &[usize], weights: Option<&[f32]>) -> u128 {
    let mut hasher = XxHash3_128::new();
    for (place, &index) in indexes.iter().enumerate() {
        match &part.inputs {
            Examples::Sequences(sequences) => {
                hasher.write(&(sequences[index].len() as u64).to_le_bytes());
                for id in &sequences[index] {
                    hasher.write(&id.to_le_bytes());
                }
            }
            Examples::Features(features) => {
                let row = of_tensors(&[features.get(index as i64)]);
                hasher.write(&row.to_le_bytes());
            }
        }
        hasher.write(&(part.labels[index] as u64).to_le_bytes());
        let weight = weights.map_or(1.0, |weights| weights[place]);
        hasher.write(&weight.to_le_bytes());
    }
    hasher.finish_128()
}

impl Training<'_> {
    fn trace_path(&self) -> PathBuf {
        self.config.output_dir.join("trace.jsonl")
    }

    /// Starts or continues the trace, or removes another training's, where none is asked for.
    pub(super) fn start_trace(&mut self) -> Result<(), WriteError> {
        if !self.config.training.is_traced {
            self.position.trace_bytes = 0;
            return files::remove(&self.trace_path());
        }
        cut(&self.trace_path(), self.position.trace_bytes)?;
        let (parameters, optimizer) = self.state_hashes();
        let mut trace = Trace {
            parameters,
            optimizer,
            batch: 0,
            gradients: 0,
            lines: Vec::new(),
        };
        if self.position.step == 0 {
            let model = self.model_hash();
            let seed = u128::from(self.config.training.seed);
            trace.add(0, "parameters", &[model, seed], parameters);
            if let Examples::Features(features) = &self.parts.train.inputs {
                let output = of_tensors(slice::from_ref(features));
                trace.add(0, "features", &[model], output);
            }
        }
        self.trace = Some(trace);
        self.write_trace()
    }

    fn model_hash(&self) -> u128 {
        let sha256 = self.identity["model_sha256"].as_str().unwrap_or_default();
        XxHash3_128::oneshot(sha256.as_bytes())
    }

    /// Hashes of the parameters, and of what the optimizer knows of earlier steps.
    fn state_hashes(&self) -> (u128, u128) {
        let [(_, parameters), moments @ ..] = self.learner.state();
        (
            of_tensors(&[parameters]),
            of_tensors(&moments.map(|(_, moment)| moment)),
        )
    }

    /// To be called before a step, with the examples that it learns from.
    pub(super) fn trace_batch(&mut self, indexes: &[usize], weights: Option<&[f32]>) {
        let per_epoch = self.steps_per_epoch();
        let Some(trace) = &mut self.trace else { return };
        let step = self.position.step;
        let place = [step / per_epoch, step % per_epoch].map(|number| number as u128);
        let inputs = [u128::from(self.config.training.seed), place[0], place[1]];
        trace.batch = of_examples(&self.parts.train, indexes, weights);
        trace.add(step + 1, "batch", &inputs, trace.batch);
    }

    /// To be called after the backward pass of a step with its loss.
    pub(super) fn trace_gradients(&mut self, loss: &Tensor) {
        let Some(trace) = &mut self.trace else { return };
        let step = self.position.step + 1;
        let loss = of_tensors(slice::from_ref(loss));
        trace.add(step, "loss", &[trace.parameters, trace.batch], loss);
        trace.gradients = of_tensors(&self.learner.gradient());
        let inputs = [trace.parameters, trace.batch, loss];
        trace.add(step, "gradients", &inputs, trace.gradients);
    }

    /// To be called after a step's update.
    pub(super) fn trace_update(&mut self) -> Result<(), WriteError> {
        if self.trace.is_none() {
            return Ok(());
        }
        let (parameters, optimizer) = self.state_hashes();
        let Some(trace) = &mut self.trace else {
            return Ok(());
        };
        let step = self.position.step + 1;
        let inputs = [trace.parameters, trace.optimizer, trace.gradients];
        trace.add(step, "optimizer", &inputs, optimizer);
        trace.add(step, "parameters", &inputs, parameters);
        (trace.parameters, trace.optimizer) = (parameters, optimizer);
        self.write_trace()
    }

    /// Has all lines be on the disk.
    pub(super) fn sync_trace(&self) -> Result<(), WriteError> {
        match self.trace {
            Some(_) => sync(&self.trace_path()),
            None => Ok(()),
        }
    }

    fn write_trace(&mut self) -> Result<(), WriteError> {
        let path = self.trace_path();
        if let Some(trace) = &mut self.trace {
            self.position.trace_bytes += append(&path, &trace.lines)?;
            trace.lines.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_all_elements_in_their_order() {
        let numbers: Vec<f32> = (0..300_000).map(|number| number as f32).collect();
        let of = |numbers: &[f32]| of_tensors(&[Tensor::from_slice(numbers)]);
        let mut bytes = 300_000_i64.to_le_bytes().to_vec();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        assert_eq!(of(&numbers), XxHash3_128::oneshot(&bytes));
        for changed in [0, 262_143, 262_144, 299_999] {
            let mut other = numbers.clone();
            other[changed] = -1.0;
            assert_ne!(of(&other), of(&numbers), "{changed}");
        }
        assert_ne!(of(&numbers[1..]), of(&numbers));
    }
}
