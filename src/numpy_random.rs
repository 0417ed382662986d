//! NumPy's legacy random generator: what `np.random.seed(seed)` starts and `np.random.randn`,
//! `shuffle` and `choice` draw from.
//!
//! It is here so that the notebook's numbers can be had again, bit for bit. Where nothing has to
//! equal NumPy, a generator from `rand` is the better choice: this one is slow to seed, 2.5 kB
//! large and predictable.
//!
//! NumPy has frozen this generator (NEP 19): every version since 1.16 draws the same numbers.
//! Sources:
//!
//! - The bits: MT19937, from M. Matsumoto and T. Nishimura, "Mersenne Twister: a 623-dimensionally
//!   equidistributed uniform pseudo-random number generator", ACM Transactions on Modeling and
//!   Computer Simulation 8 (1998) 3-30, with the seeding that its authors revised in 2002.
//! - What is made of them: NumPy's `numpy/random/mtrand.pyx`, `src/mt19937/` and
//!   `src/legacy/legacy-distributions.c`.
//!
//! `tests/numpy_random.rs` compares every method with NumPy.
//!
//! ```
//! use char_rnn::numpy_random::NumpyRandom;
//!
//! let mut random = NumpyRandom::new(1); // np.random.seed(1)
//! assert_eq!(random.random_sample(), 0.417022004702574); // np.random.random_sample()
//! ```

use rand::RngCore;

use crate::kernels::softmax::{choose, total};

/// Words of state, the paper's n.
const WORDS: usize = 624;
/// How far ahead of a word lies the one that it is combined with, the paper's m.
const SHIFT: usize = 397;
/// The recurrence's matrix A, as its last row.
const MATRIX: u32 = 0x9908_b0df;

/// A generator that stands where NumPy's global one stands after `np.random.seed(seed)`.
///
/// As an [`RngCore`] it yields what NumPy's bit generator yields;
/// [`fill_bytes`](RngCore::fill_bytes) is `np.random.bytes`. Equal values draw equal numbers from
/// then on.
#[derive(Clone, Debug, PartialEq)]
pub struct NumpyRandom {
    /// The last [`WORDS`] values of the recurrence, not yet tempered.
    words: [u32; WORDS],
    /// The next word to give out; [`WORDS`] when all are spent.
    position: usize,
    /// The second of the two values that the polar method makes at a time, until
    /// [`NumpyRandom::randn`] gives it out.
    gauss: Option<f64>,
}

impl NumpyRandom {
    /// `np.random.seed(seed)`. NumPy takes the same seeds, 0 to 2^32 - 1, and raises an error for
    /// any other.
    pub fn new(seed: u32) -> Self {
        let mut words = [seed; WORDS];
        for i in 1..WORDS {
            let previous = words[i - 1];
            words[i] =
                (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { words, position: WORDS, gauss: None }
    }

    /// `np.random.random_sample()`: uniform in [0, 1), a multiple of 2^-53. Takes two 32-bit words.
    pub fn random_sample(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * (1u64 << 26) as f64 + low) / (1u64 << 53) as f64
    }

    /// `np.random.randn()`: standard normal, by Marsaglia's polar method.
    ///
    /// The method makes two values at a time. The second is kept for the next call, whatever is
    /// drawn in between, as NumPy keeps it; an array that `np.random.randn(rows, columns)` fills is
    /// `rows * columns` calls in row-major order.
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

    /// `np.random.shuffle(items)` for a list: all orders equally likely (Fisher and Yates, from the
    /// back).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.at_most(i as u64) as usize);
        }
    }

    /// `np.random.choice(range(n), p=probabilities)`: an index drawn with the given probabilities,
    /// by [`choose`] with one [`random_sample`](Self::random_sample). NumPy demands that they add
    /// up to 1; here their proportions count.
    ///
    /// # Panics
    ///
    /// If `probabilities` is empty.
    pub fn choice(&mut self, probabilities: &[f64]) -> usize {
        choose(probabilities, total(probabilities), self.random_sample())
    }

    /// A number from 0 to `max`, both included, all equally likely: masks random bits to the length
    /// of `max` until they fit. NumPy's `random_interval`, which takes 64 bits at a time only where
    /// 32 are too few.
    fn at_most(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let bits = if max <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                self.next_u64()
            };
            if bits & mask <= max {
                return bits & mask;
            }
        }
    }

    /// Replaces every word of the state by the recurrence's next.
    fn twist(&mut self) {
        for i in 0..WORDS {
            let upper = self.words[i] & 0x8000_0000;
            let lower = self.words[(i + 1) % WORDS] & 0x7fff_ffff;
            let joined = upper | lower;
            let product = (joined >> 1) ^ if joined & 1 == 1 { MATRIX } else { 0 };
            self.words[i] = self.words[(i + SHIFT) % WORDS] ^ product;
        }
        self.position = 0;
    }
}

impl RngCore for NumpyRandom {
    fn next_u32(&mut self) -> u32 {
        if self.position == WORDS {
            self.twist();
        }
        let mut word = self.words[self.position];
        self.position += 1;
        // The paper's tempering.
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Two words, the high one first: NumPy's order, not the low one first of most `rand`
    /// generators.
    fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        high << 32 | u64::from(self.next_u32())
    }

    /// `np.random.bytes(n)`: whole words, low byte first; what is left of the last word is dropped.
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(4) {
            chunk.copy_from_slice(&self.next_u32().to_le_bytes()[..chunk.len()]);
        }
    }
}
