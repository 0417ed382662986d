//! Compares [`NumpyRandom`] with real NumPy, value by value. `scripts/make_fixtures.py` made the
//! fixture and says what was drawn.

use std::path::Path;

use char_rnn::numpy_random::NumpyRandom;
use rand::RngCore;
use safetensors::{Dtype, SafeTensors};

/// How far a normal value may lie from NumPy's, in units in the last place.
///
/// NumPy calls the C library's `log` and so does Rust's `f64::ln`: with the C library of the
/// machine that made the fixture there is no difference. Where another's `log` is a unit off, the
/// normal value is at most three (measured over 3 million pairs).
fn randn_ulps() -> u64 {
    if cfg!(all(target_arch = "x86_64", target_env = "gnu")) { 0 } else { 3 }
}

/// The fixture's bytes; tensors are named `SEED.WHAT`.
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

    fn u64s(&self, name: &str) -> Vec<u64> {
        self.elements(name, Dtype::U64, u64::from_le_bytes)
    }

    fn u32s(&self, name: &str) -> Vec<u32> {
        self.elements(name, Dtype::U32, u32::from_le_bytes)
    }

    fn u16s(&self, name: &str) -> Vec<u16> {
        self.elements(name, Dtype::U16, u16::from_le_bytes)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.elements(name, Dtype::U8, u8::from_le_bytes)
    }

    fn seeds(&self) -> Vec<u32> {
        let seeds = self.u32s("seeds");
        assert_eq!(seeds, [0, 1, 2, 3, 42, 12345, u32::MAX]);
        seeds
    }
}

/// What `draw` gives `count` times over from a generator that was seeded with `seed`.
fn draws<T>(seed: u32, count: usize, draw: impl Fn(&mut NumpyRandom) -> T) -> Vec<T> {
    let mut random = NumpyRandom::new(seed);
    (0..count).map(|_| draw(&mut random)).collect()
}

/// The order into which `random` shuffles 0, 1, ..., `length` - 1.
fn shuffled(random: &mut NumpyRandom, length: u16) -> Vec<u16> {
    let mut items: Vec<u16> = (0..length).collect();
    random.shuffle(&mut items);
    items
}

#[track_caller]
fn assert_normals_agree(ours: &[f64], numpys: &[f64], what: &str) {
    assert_eq!(ours.len(), numpys.len(), "{what}");
    for (i, (our, numpy)) in ours.iter().zip(numpys).enumerate() {
        // Two finite numbers of one sign are as many representable ones apart as their bits, read
        // as integers.
        let apart = our.to_bits().abs_diff(numpy.to_bits());
        assert!(apart <= randn_ulps(), "{what}[{i}]: {our:e} is {apart} ulps from {numpy:e}");
    }
}

#[test]
fn words_are_the_mersenne_twisters() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        let words = fixture.u32s(&format!("{seed}.words"));
        assert_eq!(draws(seed, words.len(), NumpyRandom::next_u32), words, "seed {seed}");
    }
}

/// The value that the C++ standard ([rand.predef]) demands of `std::mt19937`: a check that does not
/// go through NumPy.
#[test]
fn ten_thousandth_word_is_the_one_that_the_cpp_standard_names() {
    assert_eq!(draws(5489, 10_000, NumpyRandom::next_u32)[9_999], 4_123_659_995);
}

#[test]
fn a_64_bit_word_has_its_high_half_first() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        let words = fixture.u64s(&format!("{seed}.words64"));
        assert_eq!(draws(seed, words.len(), NumpyRandom::next_u64), words, "seed {seed}");
    }
}

#[test]
fn bytes_are_those_of_whole_words() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        let expected = fixture.bytes(&format!("{seed}.bytes"));
        let mut bytes = vec![0; expected.len()];
        NumpyRandom::new(seed).fill_bytes(&mut bytes);
        assert_eq!(bytes, expected, "seed {seed}");
    }
}

#[test]
fn uniform_numbers_have_numpys_bits() {
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
fn choices_are_numpys() {
    let fixture = Fixture::read();
    for seed in fixture.seeds() {
        for distribution in ["even", "flat", "steep", "gaps", "certain"] {
            let probabilities = fixture.f64s(&format!("p.{distribution}"));
            let name = format!("{seed}.choice.{distribution}");
            let chosen: Vec<usize> = fixture.bytes(&name).into_iter().map(usize::from).collect();
            assert_eq!(
                draws(seed, chosen.len(), |random| random.choice(&probabilities)),
                chosen,
                "{name}"
            );
        }
    }
}

#[test]
fn draws_of_all_kinds_in_turn_are_numpys() {
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
            assert_eq!(random.choice(&probabilities) as f64, choice, "{what}");
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
fn a_clone_draws_the_same_numbers_even_with_a_normal_value_waiting() {
    let mut random = NumpyRandom::new(7);
    random.randn();
    let mut clone = random.clone();
    assert_eq!(clone, random);
    assert_eq!(draws_from(&mut clone), draws_from(&mut random));
}

fn draws_from(random: &mut NumpyRandom) -> Vec<f64> {
    (0..5).flat_map(|_| [random.randn(), random.random_sample()]).collect()
}
