//! Slices, and no candle until the network is asked for.

use super::workers::Workers;
use super::{Carried, Engine, Gradients, StepLoss, carried_in, carried_of};
use crate::batch::Batch;
use crate::bptt::{Bptt, Parameters};
use crate::kernels::{Element, update};
use crate::model::{CharRnn, Config};
use crate::ops::{Float, check_indices};
use crate::optim::{Algorithm, DescentConfig, Gradient};
use candle_core::{Device, Result, Tensor, Var, bail};
use std::ops::Range;

pub(super) struct Hand<F> {
    model: CharRnn,
    variables: Vec<Var>,
    /// Whether the parameters have changed since they were last written to the variables.
    ahead: bool,
    parameters: Parameters<F>,
    workers: Workers,
    /// One for each thread; the gradients of all are added up in the first.
    parts: Vec<Part<F>>,
    state: Vec<F>,
    optimizer: DescentConfig,
    /// For AdamW, the number of steps, and of each parameter the two running means.
    steps: u64,
    moments: Vec<Vec<F>>,
}

/// What a thread works on.
struct Part<F> {
    bptt: Bptt<F>,
    /// Its names, if they are not the whole batch.
    batch: Batch,
    range: Range<usize>,
}

impl<F: Float> Hand<F> {
    pub(super) fn new(
        model: CharRnn,
        variables: Vec<Var>,
        optimizer: DescentConfig,
        workers: Workers,
    ) -> Result<Self> {
        let Config { vocabulary, hidden } = model.config();
        let mut parameters = Parameters::zeros(hidden, vocabulary);
        for ((_, values), var) in parameters.tensors_mut().into_iter().zip(&variables) {
            values.copy_from_slice(&var.flatten_all()?.to_vec1()?);
        }
        let moments = match optimizer.algorithm {
            Algorithm::Sgd => Vec::new(),
            Algorithm::AdamW => {
                parameters.tensors().map(|(_, values)| vec![F::ZERO; 2 * values.len()]).into()
            }
        };
        let parts = (0..workers.threads())
            .map(|_| Part {
                bptt: Bptt::new(hidden, vocabulary),
                batch: Batch::default(),
                range: 0..0,
            })
            .collect();
        Ok(Self {
            model,
            variables,
            ahead: false,
            parameters,
            workers,
            parts,
            state: Vec::new(),
            optimizer,
            steps: 0,
            moments,
        })
    }

    /// Goes forward and back, and returns the loss.
    fn learn(&mut self, batch: &Batch) -> f64 {
        let scale = Element::from_f64(1. / batch.size() as f64);
        let bptt = &mut self.parts[0].bptt;
        let loss = run(bptt, &self.parameters, batch, &self.state, scale);
        bptt.last_states(batch.y(), &mut self.state);
        loss
    }

    /// The same, the names of the batch parted among the workers.
    fn learn_in_parts(&mut self, batch: &Batch) -> f64 {
        let scale = Element::from_f64(1. / batch.size() as f64);
        let hidden = self.model.config().hidden;
        let rows = |range: &Range<usize>| range.start * hidden..range.end * hidden;
        let ranges = self.workers.parts(batch.size());
        let parts = &mut self.parts[..ranges.len()];
        for (part, range) in parts.iter_mut().zip(ranges) {
            part.range = range;
        }
        let (parameters, state) = (&self.parameters, &self.state);
        let losses = self.workers.map(parts, |Part { bptt, batch: own, range }| {
            own.fill_part(batch, range.clone());
            run(bptt, parameters, own, &state[rows(range)], scale)
        });
        for Part { bptt, batch, range } in parts.iter() {
            bptt.last_states(batch.y(), &mut self.state[rows(range)]);
        }
        let (first, others) = parts.split_first_mut().expect("a batch has a part");
        for other in others {
            first.bptt.gradients_mut().add(other.bptt.gradients());
        }
        losses.iter().sum()
    }

    fn descend(&mut self) {
        let DescentConfig { algorithm, learning_rate, clip, weight_decay } = self.optimizer;
        let gradients = self.parts[0].bptt.gradients();
        if algorithm == Algorithm::Sgd {
            let (rate, clip) = (Element::from_f64(learning_rate), Element::from_f64(clip));
            return self.parameters.descend(gradients, rate, clip);
        }
        self.steps += 1;
        let step = update::AdamW::new(self.steps, learning_rate, weight_decay, clip);
        let pairs = self.parameters.tensors_mut().into_iter().zip(gradients.tensors());
        for (((_, w), (_, g)), moments) in pairs.zip(&mut self.moments) {
            update::adamw_moments(moments, g, &step);
            update::adamw_descent(w, moments, &step);
        }
    }
}

impl<F: Float> Engine for Hand<F> {
    fn measured_step(
        &mut self,
        batch: &Batch,
        gradients: Option<&mut Gradients>,
    ) -> Result<StepLoss> {
        let Config { vocabulary, hidden } = self.model.config();
        check_indices(batch.x(), vocabulary)?;
        check_indices(batch.y(), vocabulary)?;
        if self.state.is_empty() {
            self.state.resize(batch.size() * hidden, F::ZERO);
        }
        if self.state.len() != batch.size() * hidden {
            bail!("the batch has {} names; the one before had another number", batch.size());
        }
        let loss = match self.workers.parts(batch.size()).len() {
            1 => self.learn(batch),
            _ => self.learn_in_parts(batch),
        };
        if let Some(gradients) = gradients {
            let found = self.parts[0].bptt.gradients().tensors();
            let clip = Element::from_f64(self.optimizer.clip);
            *gradients = found.map(|(_, gradient)| Gradient::of::<F>(gradient, clip));
        }
        self.descend();
        self.ahead = true;
        Ok(StepLoss::Here(loss))
    }

    fn clear_state(&mut self) {
        self.state.clear();
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.learning_rate = learning_rate;
    }

    fn model(&mut self) -> Result<&CharRnn> {
        if std::mem::take(&mut self.ahead) {
            for ((_, values), var) in self.parameters.tensors().into_iter().zip(&self.variables) {
                var.set(&Tensor::from_slice(values, var.shape(), var.device())?)?;
            }
        }
        Ok(&self.model)
    }

    fn carried(&self) -> Result<Carried> {
        let hidden = self.model.config().hidden;
        let state = match self.state.len().checked_div(hidden) {
            None | Some(0) => None,
            Some(size) => Some(Tensor::from_slice(&self.state, (size, hidden), &Device::Cpu)?),
        };
        let moments = self.moments.iter().zip(&self.variables).map(|(moments, var)| {
            Tensor::from_slice(moments, [&[2], var.dims()].concat(), &Device::Cpu)
        });
        carried_of(state, (self.steps, moments.collect::<Result<_>>()?))
    }

    fn carry_on(&mut self, carried: &Carried) -> Result<()> {
        let (state, moments) = carried_in(carried, &self.model, self.optimizer.algorithm)?;
        if let Some((steps, moments)) = moments {
            self.steps = steps;
            for (own, moments) in self.moments.iter_mut().zip(moments) {
                *own = moments.flatten_all()?.to_vec1()?;
            }
        }
        self.state = match state {
            Some(state) => state.a().flatten_all()?.to_vec1()?,
            None => Vec::new(),
        };
        Ok(())
    }
}

fn run<F: Float>(
    bptt: &mut Bptt<F>,
    parameters: &Parameters<F>,
    batch: &Batch,
    state: &[F],
    scale: F,
) -> f64 {
    let (x, y, steps, size) = (batch.x(), batch.y(), batch.steps(), batch.size());
    bptt.loss_and_gradients(parameters, x, y, steps, size, state, scale)
}
