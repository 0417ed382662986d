//! NumPy's legacy random generator: what `np.random.seed(seed)` starts and `np.random.randn`,
//! `random_sample` and `shuffle` draw from.
//!
//! It reproduces the notebook's numbers bit for bit. Where nothing has to equal NumPy, use a
//! generator from `rand`: this one is slow to seed, 2.5 kB large and predictable.
//!
//! NumPy has frozen this generator (NEP 19): every version since 1.16 draws the same numbers. The
//! bits are MT19937's, from the crate `rand_mt`. The distributions follow NumPy's
//! `numpy/random/mtrand.pyx` and `src/legacy/legacy-distributions.c`. `tests/numpy_random.rs`
//! compares every method with NumPy.
//!
//! ```
//! use char_rnn::random::NumpyRandom;
//!
//! let mut random = NumpyRandom::new(1); // np.random.seed(1)
//! assert_eq!(random.random_sample(), 0.417022004702574); // np.random.random_sample()
//! ```

use rand_mt::Mt;

/// The generator in the state after `np.random.seed(seed)`. Equal values draw equal numbers from
/// then on.
#[derive(Clone, Debug, PartialEq)]
pub struct NumpyRandom {
    twister: Mt,
    /// The second value of a pair of the polar method, until [`randn`](Self::randn) returns it.
    gauss: Option<f64>,
}

impl NumpyRandom {
    /// `np.random.seed(seed)`. NumPy takes the same seeds, 0 to 2^32 - 1, and raises an error for
    /// any other.
    pub fn new(seed: u32) -> Self {
        Self { twister: Mt::new(seed), gauss: None }
    }

    /// The next 32 random bits: `np.random.randint(0, 2**32, dtype=np.uint32)`.
    pub fn next_u32(&mut self) -> u32 {
        self.twister.next_u32()
    }

    /// `np.random.random_sample()`: uniform in [0, 1), a multiple of 2^-53, from two 32-bit words.
    pub fn random_sample(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * (1u64 << 26) as f64 + low) / (1u64 << 53) as f64
    }

    /// `np.random.randn()`: standard normal, by Marsaglia's polar method.
    ///
    /// The method makes two values at a time. The second is kept for the next call, whatever is
    /// drawn in between, as NumPy keeps it; `np.random.randn(rows, columns)` is `rows * columns`
    /// calls in row-major order.
    ///
    /// The bits are NumPy's wherever `f64::ln` is the `log` that NumPy calls, as it is on Linux
    /// with glibc; elsewhere the last two bits may differ.
    pub fn randn(&mut self) -> f64 {
        if let Some(value) = self.gauss.take() {
            return value;
        }
        loop {
            let x = 2.0 * self.random_sample() - 1.0;
            let y = 2.0 * self.random_sample() - 1.0;
            let radius_squared = x * x + y * y;
            if radius_squared < 1.0 && radius_squared != 0.0 {
                let scale = (-2.0 * radius_squared.ln() / radius_squared).sqrt();
                self.gauss = Some(scale * x);
                return scale * y;
            }
        }
    }

    /// `np.random.shuffle(items)` for a list: Fisher and Yates, from the back.
    ///
    /// # Panics
    /// On more than 2^32 items.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let max = u32::try_from(i).expect("at most 2^32 items");
            items.swap(i, self.at_most(max) as usize);
        }
    }

    /// Uniform in 0..=`max`, for `max` above 0: NumPy's `random_interval`, which masks random bits
    /// to the length of `max` until they are in range.
    pub(crate) fn at_most(&mut self, max: u32) -> u32 {
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let bits = self.next_u32() & mask;
            if bits <= max {
                return bits;
            }
        }
    }
}
