//! The losses of steps, summed up where they are computed: on a GPU, to read one waits for all that was asked of it
//! before.

use tch::{Device, Kind, Tensor};

use crate::checkpoint::Position;

/// Losses and gradient norms of the steps since they were last read.
pub(super) struct Losses {
    /// Sum of the losses of all examples since the last line of metrics, a binary64 number.
    loss_sum: Tensor,
    /// Sum of the norms since the last look: finite where all of them are.
    norm_sum: Tensor,
    last_norm: Tensor,
    /// The first step that wasn't looked at, from 1.
    first_step: usize,
}

/// What was read.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// Sum of the losses of all examples since the last line of metrics.
    pub(super) loss_sum: f64,
    /// The last step's gradient norm.
    pub(super) norm: f64,
}

/// The loss or the gradient of a step is not a number.
#[derive(Debug, thiserror::Error)]
#[error(
    "training diverged in {}: the loss or its gradient is not finite; a smaller LR may help",
    steps(*first, *last)
)]
pub(super) struct Diverged {
    first: usize,
    last: usize,
}

fn steps(first: usize, last: usize) -> String {
    if first == last {
        format!("step {first}")
    } else {
        format!("one of the steps {first} to {last}")
    }
}

impl Losses {
    /// Continues from `position`, with the losses of steps that `device` computes.
    pub(super) fn new(position: &Position, device: Device) -> Self {
        let number = |number: f64| Tensor::from(number).to_device(device);
        Self {
            loss_sum: number(position.loss_sum),
            norm_sum: number(0.0),
            last_norm: number(0.0),
            first_step: position.step + 1,
        }
    }

    /// Adds a step's mean loss and gradient norm, tensors of one number each.
    pub(super) fn add(&mut self, loss: &Tensor, norm: Tensor, examples: usize) {
        self.loss_sum += loss.to_kind(Kind::Double) * examples as f64;
        self.norm_sum += &norm;
        self.last_norm = norm;
    }

    /// Reads them after `step`.
    ///
    /// # Errors
    /// One of them is not finite.
    pub(super) fn read(&mut self, step: usize) -> Result<Look, Diverged> {
        let look = Look {
            loss_sum: self.loss_sum.double_value(&[]),
            norm: self.last_norm.double_value(&[]),
        };
        if !look.loss_sum.is_finite() || !self.norm_sum.double_value(&[]).is_finite() {
            return Err(Diverged {
                first: self.first_step,
                last: step,
            });
        }
        let _ = self.norm_sum.zero_();
        self.first_step = step + 1;
        Ok(look)
    }

    /// A line of metrics was written: what comes is of the next.
    pub(super) fn restart(&mut self) {
        let _ = self.loss_sum.zero_();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(losses: &[(f32, f64)]) -> Losses {
        let position = Position {
            step: 20,
            loss_sum: 0.5,
            ..Position::default()
        };
        let mut sum = Losses::new(&position, Device::Cpu);
        for (loss, norm) in losses {
            sum.add(&Tensor::from(*loss), Tensor::from(*norm), 8);
        }
        sum
    }

    #[test]
    fn losses_are_summed_until_a_line_is_written() {
        let mut losses = of(&[(0.25, 3.0), (0.5, 2.0)]);
        for _ in 0..2 {
            let look = losses.read(22).unwrap();
            assert_eq!((look.loss_sum, look.norm), (6.5, 2.0));
        }
        losses.restart();
        losses.add(&Tensor::from(1.0_f32), Tensor::from(4.0), 2);
        let look = losses.read(23).unwrap();
        assert_eq!((look.loss_sum, look.norm), (2.0, 4.0));
    }

    #[test]
    fn what_is_not_finite_is_found_with_the_steps_since_the_last_look() {
        for bad in [
            (f32::NAN, 1.0),
            (1.0, f64::INFINITY),
            (f32::INFINITY, f64::NAN),
        ] {
            let error = of(&[(1.0, 1.0), bad, (1.0, 1.0)]).read(23).err().unwrap();
            assert!(error.to_string().contains("steps 21 to 23: "), "{error}");
            let error = of(&[bad]).read(21).err().unwrap();
            assert!(error.to_string().contains("in step 21: "), "{error}");
        }
    }
}
