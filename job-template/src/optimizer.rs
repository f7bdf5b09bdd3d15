//! AdamW (Loshchilov and Hutter, 2019) and gradient clipping over a row of parameters, each a single
//! pass over memory on a CPU.
//!
//! A batch has few of the words that a model knows, and the table of words is half of a small model. On
//! a CPU its rows are therefore looked at one by one: a row that no batch had yet only decays, which is
//! all that a step does with a gradient of 0 and a memory of 0. The result is the same to the bit.

mod pieces;

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use self::pieces::{Pieces, Word};
use crate::model::Slot;
use crate::parallel::{Shared, for_each_chunk, numbers, shared};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// `AdamW`'s memory of a row of parameters.
pub struct AdamW {
    /// Running mean of the gradient, `[numbers]`.
    pub mean: Tensor,
    /// Running mean of its square, `[numbers]`.
    pub square: Tensor,
    /// Steps made.
    pub steps: u64,
    weight_decay: f64,
    pieces: Pieces,
    /// Where parameters decay, `[numbers]` of 0 or 1; for the plain version.
    decays: OnceCell<Tensor>,
}

/// What a step does with each number.
#[derive(Clone, Copy)]
struct Step {
    /// What the gradient is multiplied with first.
    gradient_scale: f32,
    /// The learning rate divided by the mean's bias correction.
    rate: f32,
    /// The square root of the square's bias correction.
    square_correction: f32,
    /// What a parameter that decays is multiplied with.
    decay: f32,
}

impl AdamW {
    /// For the parameters at `slots`, which lie one after the other.
    #[must_use]
    pub fn new(slots: &[Slot], weight_decay: f64, device: Device) -> Self {
        let len: i64 = slots.iter().map(Slot::len).sum();
        let mean = Tensor::zeros([len], (Kind::Float, device));
        Self {
            square: mean.zeros_like(),
            mean,
            steps: 0,
            weight_decay,
            pieces: Pieces::of(slots),
            decays: OnceCell::new(),
        }
    }

    /// A step: clips the gradient to `max_norm`, and changes the parameters. Gives the gradient's
    /// norm before.
    ///
    /// `words` are the ids of those that have a gradient; on a CPU, those of others aren't looked at.
    /// None: all have one.
    pub fn step(
        &mut self,
        parameters: &mut Tensor,
        gradient: &Tensor,
        words: Option<&Tensor>,
        lr: f64,
        max_norm: Option<f64>,
    ) -> f64 {
        let is_fast = parameters.device() == Device::Cpu;
        let norm = if is_fast {
            self.pieces.note(words, [&self.mean, &self.square]);
            self.norm(gradient)
        } else {
            gradient.to_kind(Kind::Float).norm().double_value(&[])
        };
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let gradient_scale = match max_norm {
            // As torch.nn.utils.clip_grad_norm_.
            Some(max_norm) => (max_norm / (norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let step = Step {
            gradient_scale: gradient_scale as f32,
            rate: (lr / (1.0 - BETA_1.powi(steps))) as f32,
            square_correction: (1.0 - BETA_2.powi(steps)).sqrt() as f32,
            decay: (1.0 - lr * self.weight_decay) as f32,
        };
        if is_fast {
            self.fast_step(parameters, gradient, step);
        } else {
            self.plain_step(parameters, gradient, step);
        }
        norm
    }

    /// The gradient's Euclidean norm.
    fn norm(&self, gradient: &Tensor) -> f64 {
        let pieces = &self.pieces;
        let mut sums = Tensor::zeros([pieces.len() as i64], (Kind::Float, Device::Cpu));
        {
            let sums = shared(&mut sums);
            let gradient = numbers(gradient);
            for_each_chunk(pieces.len(), 1, |index, _| {
                #[expect(unsafe_code, reason = "each piece has a sum of its own")]
                // SAFETY: no other piece has its number.
                let sum = unsafe { sums.part(index..index + 1) };
                let (_, parts) = pieces.get(index);
                sum[0] = parts
                    .filter(|(word, _)| *word == Word::Present)
                    .map(|(_, range)| square_sum(&gradient[range]))
                    .sum();
            });
        }
        sums.sum(Kind::Double).double_value(&[]).sqrt()
    }

    fn plain_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, step: Step) {
        let decays = self.decays.get_or_init(|| {
            let of_pieces: Vec<Tensor> = self
                .pieces
                .iter()
                .map(|piece| {
                    let decays = f64::from(u8::from(piece.decays));
                    let len = piece.numbers.len() as i64;
                    Tensor::full([len], decays, (Kind::Float, parameters.device()))
                })
                .collect();
            Tensor::cat(&of_pieces, 0)
        });
        let gradient = gradient.to_kind(Kind::Float) * f64::from(step.gradient_scale);
        *parameters *= decays * f64::from(step.decay - 1.0) + 1.0;
        let _ = self.mean.lerp_(&gradient, 1.0 - BETA_1);
        self.square *= BETA_2;
        let _ = self
            .square
            .addcmul_(&gradient, &(&gradient * (1.0 - BETA_2)));
        let root = self.square.sqrt() / f64::from(step.square_correction) + EPS;
        let _ = parameters.addcdiv_(&(&self.mean * f64::from(-step.rate)), &root);
    }

    fn fast_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, step: Step) {
        let widest = self.pieces.iter().map(|piece| piece.numbers.len()).max();
        let zeros = vec![0.0; widest.unwrap_or(0)];
        let pieces = &self.pieces;
        let (mean, square) = (shared(&mut self.mean), shared(&mut self.square));
        let (parameters, gradient) = (shared(parameters), numbers(gradient));
        for_each_chunk(pieces.len(), 1, |index, _| {
            let (piece, parts) = pieces.get(index);
            let decay = if piece.decays { step.decay } else { 1.0 };
            for (word, range) in parts {
                let part = |row: Shared<'_>| {
                    #[expect(unsafe_code, reason = "each number is of one piece alone")]
                    // SAFETY: pieces don't overlap.
                    unsafe {
                        row.part(range.clone())
                    }
                };
                let gradient = match word {
                    Word::New => {
                        for number in part(parameters) {
                            *number *= decay;
                        }
                        continue;
                    }
                    Word::Known => &zeros[..range.len()],
                    Word::Present => &gradient[range.clone()],
                };
                let memory = (part(mean), part(square));
                step_part(part(parameters), gradient, memory, decay, step);
            }
        });
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn step_part(
    parameters: &mut [f32],
    gradient: &[f32],
    (mean, square): (&mut [f32], &mut [f32]),
    decay: f32,
    step: Step,
) {
    let (beta_1, beta_2) = (BETA_1 as f32, BETA_2 as f32);
    let memory = mean.iter_mut().zip(square);
    for ((parameter, gradient), (mean, square)) in parameters.iter_mut().zip(gradient).zip(memory) {
        let gradient = gradient * step.gradient_scale;
        *mean += (gradient - *mean) * (1.0 - beta_1);
        *square = *square * beta_2 + gradient * gradient * (1.0 - beta_2);
        let root = square.sqrt() / step.square_correction + EPS as f32;
        *parameter *= decay;
        *parameter -= step.rate * *mean / root;
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn square_sum(numbers: &[f32]) -> f32 {
    let (chunks, rest) = numbers.as_chunks::<32>();
    let mut lanes = [0.0_f32; 32];
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += number * number;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|number| number * number).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::tensor;

    fn slots() -> Vec<Slot> {
        let slot = |name: &str, shape: &[i64], offset| Slot {
            name: name.to_owned(),
            shape: shape.to_vec(),
            offset,
        };
        vec![
            slot("a.weight", &[100, 1000], 0),
            slot("a.bias", &[500], 100_000),
        ]
    }

    /// Several steps by [`AdamW`], the plain and the fast way.
    fn steps(is_plain: bool) -> Tensor {
        let mut optimizer = AdamW::new(&slots(), 0.1, Device::Cpu);
        optimizer
            .pieces
            .note(None, [&optimizer.mean, &optimizer.square]);
        let mut parameters = tensor(0, &[100_500]);
        for step in 1..=5 {
            let gradient = tensor(step as u64, &[100_500]);
            let step = Step {
                gradient_scale: 0.5,
                rate: (0.01 / (1.0 - BETA_1.powi(step))) as f32,
                square_correction: (1.0 - BETA_2.powi(step)).sqrt() as f32,
                decay: 1.0 - 0.01 * 0.1,
            };
            if is_plain {
                optimizer.plain_step(&mut parameters, &gradient, step);
            } else {
                optimizer.fast_step(&mut parameters, &gradient, step);
            }
        }
        parameters
    }

    #[test]
    fn the_fast_version_is_the_plain_one() {
        let difference = (steps(true) - steps(false)).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "differ by {difference}");
    }

    /// libtorch's own optimizer, where everything decays and nothing is clipped.
    #[test]
    fn a_step_is_that_of_libtorch() {
        use tch::nn::OptimizerConfig;
        let store = tch::nn::VarStore::new(Device::Cpu);
        let theirs = store.root().randn_standard("x", &[64, 32]);
        let mut ours = theirs.copy().detach().view(-1);
        let mut reference = tch::nn::adamw(BETA_1, BETA_2, 0.1)
            .build(&store, 0.01)
            .unwrap();
        let slot = Slot {
            name: "x".to_owned(),
            shape: vec![64, 32],
            offset: 0,
        };
        let mut optimizer = AdamW::new(&[slot], 0.1, Device::Cpu);
        for seed in 0..5 {
            let target = tensor(seed, &[64, 32]);
            reference.backward_step(&(&theirs * &target).sum(Kind::Float));
            optimizer.step(&mut ours, &target.view(-1), None, 0.01, None);
        }
        let difference = (theirs.detach().view(-1) - ours)
            .abs()
            .max()
            .double_value(&[]);
        assert!(difference < 1e-6, "differ by {difference}");
    }

    #[test]
    fn a_long_gradient_is_clipped() {
        let slot = Slot {
            name: "x".to_owned(),
            shape: vec![4],
            offset: 0,
        };
        let gradient = Tensor::from_slice(&[3.0_f32, 0.0, 4.0, 0.0]);
        let mut optimizer = AdamW::new(&[slot], 0.0, Device::Cpu);
        let mut parameters = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        assert!(
            (optimizer.step(&mut parameters, &gradient, None, 0.1, Some(1.0)) - 5.0).abs() < 1e-6
        );
        let mean = &optimizer.mean * 10.0;
        let difference = (mean - gradient / 5.0).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "differ by {difference}");
    }

    /// Whether words are told or not, and however they lie in pieces.
    #[test]
    fn words_that_are_not_there_change_no_bit() {
        let (words, width) = (2000, 100);
        let slots = [
            ("embeddings.word_embeddings.weight", words * width, 0),
            ("b", width, words * width),
        ];
        let slots = slots.map(|(name, len, offset)| Slot {
            name: name.to_owned(),
            shape: vec![len / width, width],
            offset,
        });
        let present: [&[i64]; 4] = [&[0, 7, 1999], &[7, 7], &[1311, 3, 656], &[]];
        let parameters = || tensor(0, &[(words + 1) * width]);
        let mut outcomes = [true, false]
            .map(|is_told| (is_told, AdamW::new(&slots, 0.1, Device::Cpu), parameters()));
        for (step, present) in present.into_iter().enumerate() {
            let dense = Tensor::zeros([(words + 1) * width], (Kind::Float, Device::Cpu));
            let ids = Tensor::from_slice(present);
            let random = tensor(step as u64, &[(words + 1) * width]);
            for &row in present.iter().chain(&[words]) {
                dense
                    .narrow(0, row * width, width)
                    .copy_(&random.narrow(0, row * width, width));
            }
            // Where there is none of this batch, one of an earlier batch may be left.
            let left = random.copy();
            for (is_told, optimizer, parameters) in &mut outcomes {
                let (gradient, words) = if *is_told {
                    (&left, Some(&ids))
                } else {
                    (&dense, None)
                };
                optimizer.step(parameters, gradient, words, 0.01, None);
            }
            let [(_, _, told), (_, _, dense)] = &outcomes;
            assert_eq!(told, dense, "step {step}");
        }
        let [(_, told, _), (_, dense, _)] = &outcomes;
        assert_eq!((&told.mean, &told.square), (&dense.mean, &dense.square));
    }
}
