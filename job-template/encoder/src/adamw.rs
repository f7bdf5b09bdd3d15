//! AdamW (Loshchilov and Hutter, 2019) and gradient clipping over flat parameters, each a single pass
//! over memory on a CPU.
//!
//! A batch has few of the words that a model knows, and the word embeddings are half of a small model. On
//! a CPU their rows are therefore looked at one by one: a row that no batch had yet only decays, which is
//! all that a step does with a gradient of 0 and moments of 0. The result is the same to the bit.

mod blocks;

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use self::blocks::{Blocks, EmbeddingRow};
use crate::parameters::Slot;
use crate::slices::{as_mut_slice, as_slice, for_each_part_mut};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// `AdamW`'s state for flat parameters.
pub struct AdamW {
    /// Exponential moving average of the gradient, binary32 `[numbers]`.
    pub exp_avg: Tensor,
    /// Exponential moving average of its square, binary32 `[numbers]`.
    pub exp_avg_sq: Tensor,
    /// Steps made.
    pub steps: u64,
    weight_decay: f64,
    blocks: Blocks,
    /// Where parameters decay, `[numbers]` of 0 or 1; for the plain version.
    decays: OnceCell<Tensor>,
}

/// What a step does with each number.
#[derive(Clone, Copy)]
struct Step {
    /// The learning rate divided by the bias correction of `exp_avg`.
    rate: f32,
    /// The square root of the bias correction of `exp_avg_sq`.
    bias_correction_2_sqrt: f32,
    /// What a parameter that decays is multiplied with.
    decay: f32,
}

impl AdamW {
    /// For the parameters at `slots`, which lie one after the other.
    #[must_use]
    pub fn new(slots: &[Slot], weight_decay: f64, device: Device) -> Self {
        let len: i64 = slots.iter().map(Slot::len).sum();
        let exp_avg = Tensor::zeros([len], (Kind::Float, device));
        Self {
            exp_avg_sq: exp_avg.zeros_like(),
            exp_avg,
            steps: 0,
            weight_decay,
            blocks: Blocks::of(slots),
            decays: OnceCell::new(),
        }
    }

    /// A step: clips the gradient to `max_norm`, and changes the parameters. Gives the gradient's
    /// Euclidean norm before, as a tensor of one number: on a GPU, to read it waits for the step.
    ///
    /// `parameters` is binary32, `gradient` of any precision, both `[numbers]`. `word_ids` are those that
    /// have a gradient; on a CPU, those of others aren't looked at. None: all have one.
    pub fn step(
        &mut self,
        parameters: &mut Tensor,
        gradient: &Tensor,
        word_ids: Option<&Tensor>,
        lr: f64,
        max_norm: Option<f64>,
    ) -> Tensor {
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let step = Step {
            rate: (lr / (1.0 - BETA_1.powi(steps))) as f32,
            bias_correction_2_sqrt: (1.0 - BETA_2.powi(steps)).sqrt() as f32,
            decay: (1.0 - lr * self.weight_decay) as f32,
        };
        // As torch.nn.utils.clip_grad_norm_.
        if parameters.device() == Device::Cpu {
            self.note(word_ids);
            let norm = self.norm(gradient);
            let scale = max_norm.map_or(1.0, |max_norm| (max_norm / (norm + 1e-6)).min(1.0));
            self.fast_step(parameters, gradient, scale as f32, step);
            Tensor::from(norm)
        } else {
            let gradient = gradient.to_kind(Kind::Float);
            let norm = gradient.norm();
            let gradient = match max_norm {
                Some(max_norm) => {
                    gradient * ((&norm + 1e-6).reciprocal() * max_norm).clamp_max(1.0)
                }
                None => gradient,
            };
            self.plain_step(parameters, &gradient, step);
            norm
        }
    }

    fn note(&mut self, word_ids: Option<&Tensor>) {
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody writes to the moments meanwhile.
        let moments = unsafe { [as_slice(&self.exp_avg), as_slice(&self.exp_avg_sq)] };
        self.blocks.note(word_ids, moments);
    }

    /// The gradient's Euclidean norm.
    fn norm(&self, gradient: &Tensor) -> f64 {
        let blocks = &self.blocks;
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody writes to the gradient meanwhile.
        let gradient = unsafe { as_slice(gradient) };
        let mut sums = vec![0.0; blocks.iter().count()];
        let places: Vec<_> = (0..sums.len()).map(|index| index..index + 1).collect();
        for_each_part_mut(&places, [&mut sums], |index, [sum]| {
            let (block, rows) = blocks.get(index);
            let gradient = &gradient[block.range.clone()];
            sum[0] = rows
                .filter(|(row, _)| *row == EmbeddingRow::HasGradient)
                .map(|(_, range)| square_sum(&gradient[range]))
                .sum();
        });
        Tensor::from_slice(&sums)
            .sum(Kind::Double)
            .double_value(&[])
            .sqrt()
    }

    fn plain_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, step: Step) {
        let decays = self.decays.get_or_init(|| {
            let of_blocks: Vec<Tensor> = self
                .blocks
                .iter()
                .map(|block| {
                    let decays = f64::from(u8::from(block.decays));
                    let len = block.range.len() as i64;
                    Tensor::full([len], decays, (Kind::Float, parameters.device()))
                })
                .collect();
            Tensor::cat(&of_blocks, 0)
        });
        *parameters *= decays * f64::from(step.decay - 1.0) + 1.0;
        let _ = self.exp_avg.lerp_(gradient, 1.0 - BETA_1);
        self.exp_avg_sq *= BETA_2;
        let _ = self
            .exp_avg_sq
            .addcmul_(gradient, &(gradient * (1.0 - BETA_2)));
        let denominator = self.exp_avg_sq.sqrt() / f64::from(step.bias_correction_2_sqrt) + EPS;
        let _ = parameters.addcdiv_(&(&self.exp_avg * f64::from(-step.rate)), &denominator);
    }

    fn fast_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, scale: f32, step: Step) {
        let blocks = &self.blocks;
        let widest = blocks.iter().map(|block| block.range.len()).max();
        let zeros = vec![0.0; widest.unwrap_or(0)];
        #[expect(unsafe_code, reason = "tensors' memory")]
        // SAFETY: nobody else has the parameters and the moments, or writes to the gradient, meanwhile.
        let (slices, gradient) = unsafe {
            (
                [
                    as_mut_slice(parameters),
                    as_mut_slice(&mut self.exp_avg),
                    as_mut_slice(&mut self.exp_avg_sq),
                ],
                as_slice(gradient),
            )
        };
        for_each_part_mut(
            &blocks.ranges(),
            slices,
            |index, [parameters, exp_avg, exp_avg_sq]| {
                let (block, rows) = blocks.get(index);
                let decay = if block.decays { step.decay } else { 1.0 };
                let gradient = &gradient[block.range.clone()];
                for (row, range) in rows {
                    let gradient = match row {
                        EmbeddingRow::Untouched => {
                            for number in &mut parameters[range] {
                                *number *= decay;
                            }
                            continue;
                        }
                        EmbeddingRow::MomentumOnly => &zeros[..range.len()],
                        EmbeddingRow::HasGradient => &gradient[range.clone()],
                    };
                    let moments = (&mut exp_avg[range.clone()], &mut exp_avg_sq[range.clone()]);
                    step_part(
                        &mut parameters[range],
                        gradient,
                        moments,
                        scale,
                        decay,
                        step,
                    );
                }
            },
        );
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn step_part(
    parameters: &mut [f32],
    gradient: &[f32],
    (exp_avg, exp_avg_sq): (&mut [f32], &mut [f32]),
    scale: f32,
    decay: f32,
    step: Step,
) {
    let (beta_1, beta_2) = (BETA_1 as f32, BETA_2 as f32);
    let moments = exp_avg.iter_mut().zip(exp_avg_sq);
    let parameters = parameters.iter_mut().zip(gradient);
    for ((parameter, gradient), (exp_avg, exp_avg_sq)) in parameters.zip(moments) {
        let gradient = gradient * scale;
        *exp_avg += (gradient - *exp_avg) * (1.0 - beta_1);
        *exp_avg_sq = *exp_avg_sq * beta_2 + gradient * gradient * (1.0 - beta_2);
        let denominator = exp_avg_sq.sqrt() / step.bias_correction_2_sqrt + EPS as f32;
        *parameter *= decay;
        *parameter -= step.rate * *exp_avg / denominator;
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
        optimizer.note(None);
        let mut parameters = tensor(0, &[100_500]);
        for step in 1..=5 {
            let gradient = tensor(step as u64, &[100_500]);
            let step = Step {
                rate: (0.01 / (1.0 - BETA_1.powi(step))) as f32,
                bias_correction_2_sqrt: (1.0 - BETA_2.powi(step)).sqrt() as f32,
                decay: 1.0 - 0.01 * 0.1,
            };
            if is_plain {
                optimizer.plain_step(&mut parameters, &(gradient * 0.5), step);
            } else {
                optimizer.fast_step(&mut parameters, &gradient, 0.5, step);
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
            let _ = optimizer.step(&mut ours, &target.view(-1), None, 0.01, None);
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
        let norm = optimizer.step(&mut parameters, &gradient, None, 0.1, Some(1.0));
        assert!((norm.double_value(&[]) - 5.0).abs() < 1e-6);
        let exp_avg = &optimizer.exp_avg * 10.0;
        let difference = (exp_avg - gradient / 5.0).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "differ by {difference}");
    }

    /// With the ids of its words and without, and however they lie in blocks.
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
            .map(|by_ids| (by_ids, AdamW::new(&slots, 0.1, Device::Cpu), parameters()));
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
            for (by_ids, optimizer, parameters) in &mut outcomes {
                let (gradient, words) = if *by_ids {
                    (&left, Some(&ids))
                } else {
                    (&dense, None)
                };
                let _ = optimizer.step(parameters, gradient, words, 0.01, None);
            }
            let [(_, _, sparse), (_, _, dense)] = &outcomes;
            assert_eq!(sparse, dense, "step {step}");
        }
        let [(_, sparse, _), (_, dense, _)] = &outcomes;
        assert_eq!(
            (&sparse.exp_avg, &sparse.exp_avg_sq),
            (&dense.exp_avg, &dense.exp_avg_sq)
        );
    }
}
