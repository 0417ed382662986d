//! A factored input: `wax` as the product of a matrix and an embedding of the characters.
//!
//! ```text
//! wax = projection embedding^T
//! d projection = dwax embedding         d embedding = dwax^T projection
//! ```
//!
//! `projection` is (n_a, n_a) and `embedding` (n_x, n_a). The optimizer updates the two; the network
//! has their product, so that nothing of them is left in a finished model. A step that changes each
//! entry of the factors a little changes `wax` by some `n_a` times as much, and that of similar
//! characters together.

use crate::model::Config;
use candle_core::{Device, Result, Tensor, Var};

/// The names of the factors, in the order of their fields.
pub(super) const FACTORS: [&str; 2] = ["projection", "embedding"];

/// The factors of `wax`.
#[derive(Debug)]
pub(super) struct Factors {
    /// The projection, (n_a, n_a), and the embedding, (n_x, n_a).
    vars: [Var; 2],
    /// Their product, the network's parameter, (n_a, n_x).
    wax: Var,
}

impl Factors {
    /// The shapes, in the order of [`FACTORS`].
    pub fn shapes(network: Config) -> [[usize; 2]; 2] {
        [[network.hidden; 2], [network.vocabulary, network.hidden]]
    }

    /// The initial factors, whose product becomes the value of `wax`: normal numbers of the deviations
    /// that PyTorch's `Embedding` and `Linear` start with.
    pub fn new(network: Config, mut normal: impl FnMut() -> f64, wax: Var) -> Result<Self> {
        let deviations = [1. / (3. * network.hidden as f64).sqrt(), 1.];
        let mut draw = |i: usize| {
            let shape = Self::shapes(network)[i];
            let values = (0..shape[0] * shape[1]).map(|_| normal() * deviations[i]);
            let tensor = Tensor::from_vec(values.collect::<Vec<f64>>(), &shape, &Device::Cpu)?;
            Var::from_tensor(&tensor.to_dtype(wax.dtype())?.to_device(wax.device())?)
        };
        let factors = Self { vars: [draw(0)?, draw(1)?], wax };
        factors.update_wax()?;
        Ok(factors)
    }

    /// The variables, in the order of [`FACTORS`].
    pub fn vars(&self) -> &[Var; 2] {
        &self.vars
    }

    /// Sets `wax` to the product of the factors.
    pub fn update_wax(&self) -> Result<()> {
        let [projection, embedding] = self.vars.each_ref().map(Var::as_detached_tensor);
        self.wax.set(&projection.matmul(&embedding.t()?)?)
    }

    /// The gradients of the factors, from that of `wax`, (n_a, n_x).
    pub fn gradients(&self, dwax: &Tensor) -> Result<[Tensor; 2]> {
        let [projection, embedding] = self.vars.each_ref().map(Var::as_detached_tensor);
        Ok([dwax.matmul(&embedding)?, dwax.t()?.matmul(&projection)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RngSource;
    use candle_core::DType;

    #[test]
    fn gradients_are_those_of_candles_autograd_through_the_product() {
        let network = Config { vocabulary: 4, hidden: 3 };
        let wax = Var::zeros((3, 4), DType::F64, &Device::Cpu).unwrap();
        let factors = Factors::new(network, RngSource::Seed(1).normals(), wax.clone()).unwrap();
        let [projection, embedding] = factors.vars();
        let product = projection.matmul(&embedding.t().unwrap()).unwrap();
        let difference = |a: &Tensor, b: &Tensor| {
            (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap()
        };
        assert_eq!(difference(&wax, &product), 0.);
        assert!(difference(&wax, &wax.zeros_like().unwrap()) > 0.1);

        // The loss sum(wax^3) has the gradient 3 wax^2.
        let graph = product.powf(3.).unwrap().sum_all().unwrap().backward().unwrap();
        let found = factors.gradients(&(wax.sqr().unwrap() * 3.).unwrap()).unwrap();
        for (var, found) in factors.vars().iter().zip(&found) {
            assert!(difference(graph.get(var).unwrap(), found) < 1e-12);
        }
    }
}
