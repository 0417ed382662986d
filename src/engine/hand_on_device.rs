//! The hand-derived gradient where the parameters are not in this computer's memory.

use super::{Carried, Engine, Gradients, StepLoss, carried_in, carried_of};
use crate::batch::Batch;
use crate::bptt_tensors::loss_and_gradients;
use crate::model::{CharRnn, CharRnnState};
use crate::optim::{Descent, DescentConfig, Gradient};
use candle_core::{Result, Tensor, Var};
use candle_nn::{Optimizer, RNN};

pub(super) struct HandOnDevice {
    model: CharRnn,
    optimizer: Descent,
    state: Option<CharRnnState>,
}

impl HandOnDevice {
    pub(super) fn new(
        model: CharRnn,
        variables: Vec<Var>,
        optimizer: DescentConfig,
    ) -> Result<Self> {
        Ok(Self { model, optimizer: Descent::new(variables, optimizer)?, state: None })
    }
}

impl Engine for HandOnDevice {
    fn measured_step(
        &mut self,
        batch: &Batch,
        gradients: Option<&mut Gradients>,
    ) -> Result<StepLoss> {
        let start = match self.state.take() {
            Some(state) => state,
            None => self.model.zero_state(batch.size())?,
        };
        let back = loss_and_gradients(&self.model, batch, &start)?;
        // The mean over the names; of one, no launches for nothing.
        let mean = |sum: &Tensor| match batch.size() {
            1 => Ok(sum.clone()),
            size => sum * (1. / size as f64),
        };
        let found: Vec<Tensor> = back.parameters.iter().map(mean).collect::<Result<_>>()?;
        if let Some(gradients) = gradients {
            for (measured, gradient) in gradients.iter_mut().zip(&found) {
                *measured = Gradient::of_tensor(gradient, self.optimizer.config().clip)?;
            }
        }
        self.optimizer.step_along(found.iter().map(Some))?;
        self.state = Some(back.last);
        StepLoss::of(mean(&back.loss)?)
    }

    fn clear_state(&mut self) {
        self.state = None;
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn model(&mut self) -> Result<&CharRnn> {
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        carried_of(self.state.as_ref().map(|state| state.a().clone()), self.optimizer.state()?)
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.config().algorithm)?;
        if let Some((steps, moments)) = moments {
            self.optimizer.go_on(steps, &moments)?;
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backprop, engine};
    use super::*;
    use crate::model::{Config, PARAMETERS, char_rnn, initialize};
    use crate::optim::Algorithm;
    use crate::random::Randomness;
    use candle_core::{DType, Device};
    use candle_nn::VarBuilder;

    #[test]
    fn the_hand_engine_for_other_devices_learns_what_the_one_for_the_cpu_learns() {
        for algorithm in Algorithm::ALL {
            check_the_engine_for_other_devices(algorithm);
        }
    }

    fn check_the_engine_for_other_devices(algorithm: Algorithm) {
        let config = Config { vocabulary: 5, hidden: 6 };
        let optimizer =
            DescentConfig { algorithm, learning_rate: 0.1, clip: 0.5, weight_decay: 0.1 };
        let vars = || {
            let normals = Randomness::Seed(1).normals();
            initialize(config, normals, DType::F64, &Device::Cpu).unwrap()
        };
        let (here, there) = (vars(), vars());
        let variables = PARAMETERS.map(|name| there.data().lock().unwrap()[name].clone());
        let vb = VarBuilder::from_varmap(&there, DType::F64, &Device::Cpu);
        let model = char_rnn(config, vb).unwrap();
        let mut there = HandOnDevice::new(model, variables.to_vec(), optimizer).unwrap();
        let mut here = engine(Backprop::Hand, config, &here, optimizer, 1).unwrap();
        let batch = Batch::new([&[1, 2, 3][..], &[4]]);
        for _ in 0..9 {
            let (mut g, mut h) = (Gradients::default(), Gradients::default());
            let losses = [
                here.measured_step(&batch, Some(&mut g)).unwrap(),
                there.measured_step(&batch, Some(&mut h)).unwrap(),
            ];
            let [a, b] = StepLoss::read_all(losses.iter()).unwrap().try_into().unwrap();
            assert!((a - b).abs() < 1e-12, "{a} is not {b}");
            for (g, h) in g.into_iter().zip(h) {
                assert!((g.norm - h.norm).abs() < 1e-12 && g.clipped == h.clipped, "{g:?}, {h:?}");
            }
        }
        let pairs = here.model().unwrap().parameters().into_iter().zip(there.model.parameters());
        for ((name, a), (_, b)) in pairs {
            let difference = (a - b).unwrap().abs().unwrap().sum_all().unwrap();
            assert!(difference.to_scalar::<f64>().unwrap() < 1e-12, "{name}");
        }
    }
}
