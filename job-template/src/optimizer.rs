//! AdamW (Loshchilov and Hutter, 2019) and gradient clipping over a row of parameters, each a single
//! pass over memory on a CPU.

use tch::{Device, Kind, Tensor};

use crate::model::Slot;
use crate::parallel::{for_each_chunk, numbers, shared};

/// Numbers of a chunk; chunks are the unit of sums too, so that they don't depend on threads.
const CHUNK: usize = 1 << 16;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// `AdamW`'s memory of a row of parameters.
pub struct AdamW {
    /// Running mean of the gradient, `[numbers]`.
    pub mean: Tensor,
    /// Running mean of its square, `[numbers]`.
    pub square: Tensor,
    /// Where parameters decay, `[numbers]` of 0 or 1.
    decays: Tensor,
    weight_decay: f64,
    /// Steps made.
    pub steps: u64,
}

/// What a step does with each number.
#[derive(Clone, Copy)]
struct Step {
    /// What the gradient is multiplied with first.
    gradient_scale: f32,
    lr: f32,
    /// The learning rate divided by the mean's bias correction.
    rate: f32,
    /// The square root of the square's bias correction.
    square_correction: f32,
    weight_decay: f32,
}

impl AdamW {
    /// For the parameters at `slots`, which lie one after the other.
    #[must_use]
    pub fn new(slots: &[Slot], weight_decay: f64, device: Device) -> Self {
        let decays: Vec<Tensor> = slots
            .iter()
            .map(|slot| {
                Tensor::full(
                    [slot.len()],
                    f64::from(u8::from(slot.decays())),
                    (Kind::Float, device),
                )
            })
            .collect();
        let decays = Tensor::cat(&decays, 0);
        Self {
            mean: decays.zeros_like(),
            square: decays.zeros_like(),
            decays,
            weight_decay,
            steps: 0,
        }
    }

    /// A step: clips the gradient to `max_norm`, and changes the parameters. Gives the gradient's
    /// norm before.
    pub fn step(
        &mut self,
        parameters: &mut Tensor,
        gradient: &Tensor,
        lr: f64,
        max_norm: Option<f64>,
    ) -> f64 {
        let norm = norm(gradient);
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let gradient_scale = match max_norm {
            // As torch.nn.utils.clip_grad_norm_.
            Some(max_norm) => (max_norm / (norm + 1e-6)).min(1.0),
            None => 1.0,
        };
        let step = Step {
            gradient_scale: gradient_scale as f32,
            lr: lr as f32,
            rate: (lr / (1.0 - BETA_1.powi(steps))) as f32,
            square_correction: (1.0 - BETA_2.powi(steps)).sqrt() as f32,
            weight_decay: self.weight_decay as f32,
        };
        if parameters.device() == Device::Cpu {
            self.fast_step(parameters, gradient, step);
        } else {
            self.plain_step(parameters, gradient, step);
        }
        norm
    }

    fn plain_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, step: Step) {
        let gradient = gradient.to_kind(Kind::Float) * f64::from(step.gradient_scale);
        let decay = &self.decays * f64::from(-step.lr * step.weight_decay) + 1.0;
        *parameters *= decay;
        let _ = self.mean.lerp_(&gradient, 1.0 - BETA_1);
        self.square *= BETA_2;
        let _ = self
            .square
            .addcmul_(&gradient, &(&gradient * (1.0 - BETA_2)));
        let root = self.square.sqrt() / f64::from(step.square_correction) + EPS;
        let _ = parameters.addcdiv_(&(&self.mean * f64::from(-step.rate)), &root);
    }

    fn fast_step(&mut self, parameters: &mut Tensor, gradient: &Tensor, step: Step) {
        let len = parameters.numel();
        let (parameters, gradient) = (shared(parameters), numbers(gradient));
        let decays = numbers(&self.decays);
        let (mean, square) = (shared(&mut self.mean), shared(&mut self.square));
        for_each_chunk(len, CHUNK, |_, range| {
            #[expect(unsafe_code, reason = "each number is of one chunk alone")]
            // SAFETY: chunks don't overlap.
            let (parameters, mean, square) = unsafe {
                (
                    parameters.part(range.clone()),
                    mean.part(range.clone()),
                    square.part(range.clone()),
                )
            };
            step_chunk(
                parameters,
                &gradient[range.clone()],
                mean,
                square,
                &decays[range],
                step,
            );
        });
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2+fma"))]
fn step_chunk(
    parameters: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
    decays: &[f32],
    step: Step,
) {
    let (beta_1, beta_2) = (BETA_1 as f32, BETA_2 as f32);
    let states = mean.iter_mut().zip(square).zip(decays);
    for ((parameter, gradient), ((mean, square), decays)) in
        parameters.iter_mut().zip(gradient).zip(states)
    {
        let gradient = gradient * step.gradient_scale;
        *mean += (gradient - *mean) * (1.0 - beta_1);
        *square = *square * beta_2 + gradient * gradient * (1.0 - beta_2);
        let root = square.sqrt() / step.square_correction + EPS as f32;
        *parameter *= 1.0 - step.lr * step.weight_decay * decays;
        *parameter -= step.rate * *mean / root;
    }
}

/// The Euclidean norm of a row.
#[must_use]
pub fn norm(row: &Tensor) -> f64 {
    if row.device() != Device::Cpu || row.kind() != Kind::Float {
        return row.to_kind(Kind::Float).norm().double_value(&[]);
    }
    let chunks = row.numel().div_ceil(CHUNK);
    let mut sums = Tensor::zeros([chunks as i64], (Kind::Float, Device::Cpu));
    {
        let sums = shared(&mut sums);
        let row = numbers(row);
        for_each_chunk(row.len(), CHUNK, |chunk, range| {
            #[expect(unsafe_code, reason = "each chunk has a sum of its own")]
            // SAFETY: no other chunk has its number.
            let sum = unsafe { sums.part(chunk..chunk + 1) };
            sum[0] = square_sum(&row[range]);
        });
    }
    sums.sum(Kind::Double).double_value(&[]).sqrt()
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
        let mut parameters = tensor(0, &[100_500]);
        for step in 1..=5 {
            let gradient = tensor(step as u64, &[100_500]);
            let step = Step {
                gradient_scale: 0.5,
                lr: 0.01,
                rate: (0.01 / (1.0 - BETA_1.powi(step))) as f32,
                square_correction: (1.0 - BETA_2.powi(step)).sqrt() as f32,
                weight_decay: 0.1,
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
            optimizer.step(&mut ours, &target.view(-1), 0.01, None);
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
        assert!((optimizer.step(&mut parameters, &gradient, 0.1, Some(1.0)) - 5.0).abs() < 1e-6);
        let mean = &optimizer.mean * 10.0;
        let difference = (mean - gradient / 5.0).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "differ by {difference}");
    }
}
