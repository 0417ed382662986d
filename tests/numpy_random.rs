//! Compares [`NumpyRandom`] with NumPy, value by value. `scripts/make_fixtures.py` made the
//! fixture.

use std::path::Path;

use char_rnn::random::NumpyRandom;
use safetensors::{Dtype, SafeTensors};

/// The maximum difference of a normal value from NumPy's, in units in the last place.
///
/// NumPy and Rust's `f64::ln` call the C library's `log`, so that there is none with the C library
/// that made the fixture. Where another's `log` differs by a unit, the normal value differs by at
/// most three (measured over 3 million pairs).
fn randn_ulps() -> u64 {
    if cfg!(all(target_arch = "x86_64", target_env = "gnu")) { 0 } else { 3 }
}

/// The fixture's bytes; tensors are named `SEED.DRAWN`.
struct Fixture(Vec<u8>);

impl Fixture {
    fn read() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/numpy_random.safetensors");
        Self(std::fs::read(path).expect("the fixture can be read"))
    }

    /// The elements of a tensor of type `dtype`, each given to `decode` as its N little-endian
    /// bytes.
    fn elements<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        decode: fn([u8; N]) -> T,
    ) -> Vec<T> {
        let tensors = SafeTensors::deserialize(&self.0).expect("the fixture is a safetensors file");
        let tensor = tensors.tensor(name).expect(name);
        assert_eq!(tensor.dtype(), dtype, "{name}");
        let (elements, rest) = tensor.data().as_chunks::<N>();
        assert!(rest.is_empty(), "{name}");
        elements.iter().copied().map(decode).collect()
    }

    fn f64s(&self, name: &str) -> Vec<f64> {
        self.elements(name, Dtype::F64, f64::from_le_bytes)
    }

    fn u32s(&self, name: &str) -> Vec<u32> {
        self.elements(name, Dtype::U32, u32::from_le_bytes)
    }

    fn u16s(&self, name: &str) -> Vec<u16> {
        self.elements(name, Dtype::U16, u16::from_le_bytes)
    }

    fn seeds(&self) -> Vec<u32> {
        let seeds = self.u32s("seeds");
        assert_eq!(seeds, [0, 1, 2, 3, 42, 12345, u32::MAX]);
        seeds
    }
}

/// `count` results of `draw` with a generator of this seed.
fn draws<T>(seed: u32, count: usize, draw: impl Fn(&mut NumpyRandom) -> T) -> Vec<T> {
    let mut random = NumpyRandom::new(seed);
    (0..count).map(|_| draw(&mut random)).collect()
}

/// 0, 1, ..., `length` - 1, shuffled.
fn shuffled(random: &mut NumpyRandom, length: u16) -> Vec<u16> {
    let mut items: Vec<u16> = (0..length).collect();
    random.shuffle(&mut items);
    items
}

#[track_caller]
fn assert_normals_agree(ours: &[f64], numpys: &[f64], what: &str) {
    assert_eq!(ours.len(), numpys.len(), "{what}");
    for (i, (our, numpy)) in ours.iter().zip(numpys).enumerate() {
        // For finite numbers of one sign, the difference of their bits as integers.
        let apart = our.to_bits().abs_diff(numpy.to_bits());
        assert!(apart <= randn_ulps(), "{what}[{i}]: {our:e} is {apart} ulps from {numpy:e}");
    }
}

/// The first index whose cumulative probability exceeds `uniform`.
fn choose(probabilities: &[f64], uniform: f64) -> usize {
    let total: f64 = probabilities.iter().sum();
    let mut sum = 0.;
    let exceeds = |p: &f64| {
        sum += p;
        sum / total > uniform
    };
    probabilities.iter().position(exceeds).unwrap()
}

#[test]
fn words_are_the_mersenne_twisters() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        let words = fixture.u32s(&format!("{seed}.words"));
        assert_eq!(draws(seed, words.len(), NumpyRandom::next_u32), words, "seed {seed}");
    }
}

/// The value that the C++ standard ([rand.predef]) requires of `std::mt19937`.
#[test]
fn the_ten_thousandth_word_is_that_of_the_cpp_standard() {
    assert_eq!(draws(5489, 10_000, NumpyRandom::next_u32)[9_999], 4_123_659_995);
}

#[test]
fn uniform_numbers_are_numpys() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        let samples = fixture.f64s(&format!("{seed}.random_sample"));
        assert_eq!(draws(seed, samples.len(), NumpyRandom::random_sample), samples, "seed {seed}");
    }
}

#[test]
fn normal_numbers_are_numpys() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        for what in ["randn", "randn_odd"] {
            let name = format!("{seed}.{what}");
            let normals = fixture.f64s(&name);
            assert_normals_agree(&draws(seed, normals.len(), NumpyRandom::randn), &normals, &name);
        }
    }
}

#[test]
fn shuffles_are_numpys() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        for length in [0, 1, 2, 3, 10, 257, 1325] {
            let order = fixture.u16s(&format!("{seed}.shuffle.{length}"));
            assert_eq!(shuffled(&mut NumpyRandom::new(seed), length), order, "seed {seed}");
        }
    }
}

#[test]
fn interleaved_draws_are_numpys() {
    let fixture = Fixture::read();
    let probabilities = fixture.f64s("p.flat");
    for seed in fixture.seeds() {
        let values = fixture.f64s(&format!("{seed}.interleaved.values"));
        let orders = fixture.u16s(&format!("{seed}.interleaved.shuffles"));
        let (rounds, rest) = values.as_chunks::<8>();
        assert!(rest.is_empty());
        assert_eq!(rounds.len(), orders.len() / 10);
        let mut random = NumpyRandom::new(seed);
        for (round, (values, order)) in rounds.iter().zip(orders.chunks(10)).enumerate() {
            let what = format!("seed {seed}, round {round}");
            let [normal_1, uniform, normal_2, normal_3, word, normal_4, choice, normal_5] = *values;
            let first_normal = random.randn();
            assert_eq!(random.random_sample(), uniform, "{what}");
            let [second_normal, third_normal] = [random.randn(), random.randn()];
            assert_eq!(f64::from(random.next_u32()), word, "{what}");
            assert_eq!(shuffled(&mut random, 10), order, "{what}");
            let fourth_normal = random.randn();
            // np.random.choice takes one uniform number.
            let index = choose(&probabilities, random.random_sample());
            assert_eq!(index as f64, choice, "{what}");
            let fifth_normal = random.randn();
            assert_normals_agree(
                &[first_normal, second_normal, third_normal, fourth_normal, fifth_normal],
                &[normal_1, normal_2, normal_3, normal_4, normal_5],
                &what,
            );
        }
    }
}

#[test]
fn a_clone_draws_the_same_numbers_including_the_cached_normal() {
    let mut random = NumpyRandom::new(7);
    random.randn();
    let mut clone = random.clone();
    assert_eq!(clone, random);
    assert_eq!(draws_from(&mut clone), draws_from(&mut random));
}

fn draws_from(random: &mut NumpyRandom) -> Vec<f64> {
    (0..5).flat_map(|_| [random.randn(), random.random_sample()]).collect()
}
