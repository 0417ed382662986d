//! A damaged model file, whatever the damage, is loaded or refused, in little memory. Alone in its
//! file: the allocator that measures covers the whole process.
//!
//! `cargo test --release --test mutations -- --ignored` tries 100,000.

mod common;

use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::random::RngSource;
use char_rnn::sample::Sampler;
use char_rnn::train::{TrainConfig, Trainer};
use common::Folder;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Measuring;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// The file with damage of a random kind.
fn damaged(good: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let header = 8..8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    match random.random_range(0..9) {
        0 => bytes.truncate(random.random_range(0..bytes.len())),
        1 => bytes.extend((0..random.random_range(1..100)).map(|_| random.random::<u8>())),
        2 => {
            let length = random.random::<u64>() >> random.random_range(0..64);
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        // Other numbers in the header: sizes, offsets, the configuration.
        3 | 4 => {
            let digits: Vec<usize> = header.filter(|&at| good[at].is_ascii_digit()).collect();
            for _ in 0..random.random_range(1..4) {
                bytes[*digits.choose(random).unwrap()] = random.random_range(b'0'..=b'9');
            }
        }
        // Characters with a meaning in JSON or the vocabulary.
        5 => {
            let other = b"\"\\{}[],:-.eE0\0\xff\n";
            for _ in 0..random.random_range(1..4) {
                bytes[random.random_range(header.clone())] = *other.choose(random).unwrap();
            }
        }
        6 => {
            for _ in 0..random.random_range(1..9) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
        }
        // Other values that keep the format.
        _ => {
            let mut json: Value = serde_json::from_slice(&good[header.clone()]).unwrap();
            let text = &mut json["__metadata__"]["run"];
            let mut run: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            for _ in 0..random.random_range(1..4) {
                let mut places = vec![];
                list_places(&run, String::new(), &mut places);
                let place = places.choose(random).unwrap();
                *run.pointer_mut(place).unwrap() = value(random);
            }
            *text = run.to_string().into();
            let mut text = json.to_string().into_bytes();
            text.resize(text.len().next_multiple_of(8), b' ');
            let length = (text.len() as u64).to_le_bytes();
            bytes = [&length[..], &text, &good[header.end..]].concat();
        }
    }
    bytes
}

/// Adds a pointer to each value in `json`.
fn list_places(json: &Value, place: String, places: &mut Vec<String>) {
    let values: Vec<(String, &Value)> = match json {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(values) => {
            values.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect()
        }
        _ => vec![],
    };
    for (key, value) in values {
        list_places(value, format!("{place}/{key}"), places);
    }
    places.push(place);
}

fn value(random: &mut ChaCha8Rng) -> Value {
    match random.random_range(0..7) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random_range(0..10)),
        3 => json!(random.random::<u64>()),
        4 => json!(f64::from_bits(random.random())),
        5 => json!(["", "f64", "5", "sgd", "none"].choose(random)),
        _ => json!([random.random_range(0..10), 1]),
    }
}

fn try_damaged_files(count: usize) {
    let folder = Folder::with_names();
    folder.succeeds("train names.txt --hidden 6 --iterations 200 --quiet");
    let good = folder.read("names.safetensors");
    let corpus = Corpus::parse(&folder.read("names.txt"), "names.txt", LetterCase::Lower).unwrap();
    let path = folder.path().join("damaged.safetensors");
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut loaded, mut resumable) = (0, 0);
    for number in 0..count {
        let bytes = damaged(&good, &mut random);
        std::fs::write(&path, &bytes).unwrap();
        let before = HELD.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = checkpoint::load(&path, &Device::Cpu);
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert!(peak <= 32 * bytes.len() + (64 << 10), "number {number} took {peak} bytes");
        let Ok(saved) = result else { continue };
        loaded += 1;
        for name in Sampler::new(&saved.model, RngSource::Seed(1), 20, 0..3).unwrap() {
            saved.vocabulary.decode(&name.unwrap().indices);
        }
        // The program resumes a run only on its own list.
        let Some(run) = saved.run else { continue };
        let config =
            TrainConfig { iterations: run.config.iterations.saturating_add(1), ..run.config };
        if run.list.sha256 == corpus.digest()
            && Trainer::resume(&corpus, &config, &run.trained, &Device::Cpu).is_ok()
        {
            resumable += 1;
        }
    }
    println!("{count} damaged files: {loaded} could be loaded, {resumable} resumed");
    assert!(
        loaded > 0 && loaded < count,
        "{loaded} of {count} were loaded: the damage is not of all kinds"
    );
}

#[test]
fn a_damaged_file_is_loaded_or_refused_in_little_memory() {
    try_damaged_files(3000);
}

#[test]
#[ignore = "takes a minute"]
fn a_hundred_thousand_damaged_files_are_loaded_or_refused() {
    try_damaged_files(100_000);
}
