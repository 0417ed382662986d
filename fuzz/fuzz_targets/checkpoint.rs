//! The file of a run with edits that keep its format: other values in its metadata, other numbers,
//! tensors and shapes, and a few bytes at random. It is refused, or its model samples names; if the
//! run resumes, it trains, and unless training diverged, the result can be saved and loaded.

#![no_main]

use candle_core::{DType, Device};
use char_rnn::Error;
use char_rnn::checkpoint::{self, Change, Checkpoint};
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::random::RngSource;
use char_rnn::sample::Sampler;
use char_rnn::train::{
    Decay, GradientMethod, Observer, OptimizerKind, Progress, TrainConfig, Trainer, train,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::LazyLock;

const LIST: &[u8] = "anna\nbob\ncleo\ndaneé\nela\nleo\nada\n".as_bytes();
static CORPUS: LazyLock<Corpus> =
    LazyLock::new(|| Corpus::parse(LIST, "list", LetterCase::Lower).unwrap());

/// Valid files of runs of every kind.
static VALID: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut files = Vec::new();
    for backprop in GradientMethod::ALL {
        for dtype in [DType::F32, DType::F64] {
            let plain = TrainConfig {
                iterations: 5,
                hidden: 2,
                samples: 1,
                backprop,
                dtype,
                ..TrainConfig::default()
            };
            let validated = TrainConfig {
                batch_size: 2,
                optimizer: OptimizerKind::AdamW,
                decay: Decay::Cosine,
                zero_state: true,
                validation: 0.3,
                patience: 9,
                eval_every: 1,
                ..plain.clone()
            };
            // Long enough by `hand` to thin every series of the history.
            let long = TrainConfig {
                iterations: if backprop == GradientMethod::Hand { 1100 } else { 30 },
                batch_size: 3,
                decay: Decay::Step { every: 7, factor: 0.99 },
                patience: 0,
                threads: 2,
                ..validated.clone()
            };
            for config in [plain, validated, long] {
                let trained = train(&CORPUS, &config, &mut ()).unwrap();
                let mut run = Checkpoint::new(&CORPUS, LetterCase::Lower, &config, trained);
                run.changes.push(Change {
                    iteration: 3,
                    field: "clip".to_string(),
                    from: "5".to_string(),
                    to: "4".to_string(),
                });
                files.push(File::of(&saved(&run)));
            }
        }
    }
    files
});

/// The file of a run.
fn saved(run: &Checkpoint) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    checkpoint::save(&path, run).unwrap();
    std::fs::read(&path).unwrap()
}

/// A safetensors file in parts.
#[derive(Clone)]
struct File {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
struct Tensor {
    dtype: String,
    shape: Value,
    bytes: Vec<u8>,
}

impl File {
    fn of(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let data = &bytes[8 + length..];
        let metadata = serde_json::from_value(header.remove("__metadata__").unwrap()).unwrap();
        let tensor = |entry: &Value| {
            let offset = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            Tensor {
                dtype: entry["dtype"].as_str().unwrap().to_string(),
                shape: entry["shape"].clone(),
                bytes: data[offset(0)..offset(1)].to_vec(),
            }
        };
        let tensors = header.iter().map(|(name, entry)| (name.clone(), tensor(entry))).collect();
        Self { metadata, tensors }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".to_string(), json!(self.metadata));
        let mut data = Vec::new();
        for (name, tensor) in &self.tensors {
            let start = data.len();
            data.extend(&tensor.bytes);
            let Tensor { dtype, shape, .. } = tensor;
            let entry =
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
            header.insert(name.clone(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    }
}

/// An edit. A number that chooses is taken modulo the number of choices.
#[derive(Arbitrary, Debug)]
enum Edit {
    /// Another value of a key of the metadata, or none.
    Metadata { key: u8, text: Option<String> },
    /// Another value in the JSON of the metadata, or none.
    Json { place: u8, value: Option<Json> },
    /// Another valid tensor.
    Tensor { name: u8, dtype: u8, shape: Vec<u8>, fill: u8 },
    /// A tensor removed.
    NoTensor { name: u8 },
    /// Another number in a tensor.
    Number { name: u8, place: u16, value: f64 },
    /// A shape that the data does not have.
    Shape { name: u8, shape: Vec<u64> },
    /// A byte of the whole file.
    Byte { place: u16, value: u8 },
    /// The file cut short.
    Cut { length: u16 },
}

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Small(u8),
    Natural(u64),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<u8>),
}

impl Json {
    fn value(&self) -> Value {
        match self {
            Self::Null => json!(null),
            Self::Bool(value) => json!(value),
            Self::Small(value) => json!(value),
            Self::Natural(value) => json!(value),
            Self::Integer(value) => json!(value),
            Self::Real(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::List(value) => json!(value),
        }
    }
}

impl Edit {
    fn apply(&self, file: &mut File) {
        match self {
            Self::Metadata { key, text } => {
                let Some(key) = nth(file.metadata.keys(), *key) else { return };
                match text {
                    Some(text) => file.metadata.insert(key, text.clone()),
                    None => file.metadata.remove(&key),
                };
            }
            Self::Json { place, value } => {
                let Some(text) = file.metadata.get_mut("training") else { return };
                let Ok(mut json) = serde_json::from_str(text) else { return };
                replace(&mut json, *place, value.as_ref());
                *text = json.to_string();
            }
            Self::Tensor { name, dtype, shape, fill } => {
                let Some(name) = nth(file.tensors.keys(), *name) else { return };
                let (dtype, size) = [("F32", 4), ("F64", 8), ("U32", 4), ("U8", 1), ("BF16", 2)]
                    [*dtype as usize % 5];
                let shape: Vec<usize> = shape.iter().take(3).map(|&n| n as usize % 12).collect();
                let bytes = vec![*fill; shape.iter().product::<usize>() * size];
                file.tensors
                    .insert(name, Tensor { dtype: dtype.to_string(), shape: json!(shape), bytes });
            }
            Self::NoTensor { name } => {
                let Some(name) = nth(file.tensors.keys(), *name) else { return };
                file.tensors.remove(&name);
            }
            Self::Number { name, place, value } => {
                let Some(name) = nth(file.tensors.keys(), *name) else { return };
                let tensor = file.tensors.get_mut(&name).expect("it has that name");
                let number = match tensor.dtype.as_str() {
                    "F32" => (*value as f32).to_le_bytes().to_vec(),
                    "F64" => value.to_le_bytes().to_vec(),
                    _ => (*value as u32).to_le_bytes().to_vec(),
                };
                let count = tensor.bytes.len() / number.len();
                if let Some(place) = (*place as usize).checked_rem(count) {
                    let start = place * number.len();
                    tensor.bytes[start..start + number.len()].copy_from_slice(&number);
                }
            }
            Self::Shape { name, shape } => {
                let Some(name) = nth(file.tensors.keys(), *name) else { return };
                file.tensors.get_mut(&name).expect("it has that name").shape = json!(shape);
            }
            Self::Byte { .. } | Self::Cut { .. } => {}
        }
    }

    fn apply_to_bytes(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Byte { place, value } if !bytes.is_empty() => {
                let place = *place as usize % bytes.len();
                bytes[place] = *value;
            }
            Self::Cut { length } => bytes.truncate(*length as usize),
            _ => {}
        }
    }
}

fn nth<'a>(keys: impl ExactSizeIterator<Item = &'a String>, number: u8) -> Option<String> {
    let place = (number as usize).checked_rem(keys.len())?;
    keys.skip(place).next().cloned()
}

/// Replaces one of all values in `json`, or removes it from its object.
fn replace(json: &mut Value, place: u8, value: Option<&Json>) {
    let mut places = Vec::new();
    list_values(json, String::new(), &mut places);
    let pointer = &places[place as usize % places.len()];
    match value {
        Some(value) => *json.pointer_mut(pointer).expect("it was listed") = value.value(),
        None => {
            let Some((parent, key)) = pointer.rsplit_once('/') else { return };
            if let Some(Value::Object(parent)) = json.pointer_mut(parent) {
                parent.remove(key);
            }
        }
    }
}

/// Adds a pointer to each value in `json`.
fn list_values(json: &Value, pointer: String, places: &mut Vec<String>) {
    match json {
        Value::Object(entries) => {
            entries
                .iter()
                .for_each(|(key, value)| list_values(value, format!("{pointer}/{key}"), places));
        }
        Value::Array(values) => {
            let values = values.iter().enumerate();
            values.for_each(|(i, value)| list_values(value, format!("{pointer}/{i}"), places));
        }
        _ => {}
    }
    places.push(pointer);
}

/// Stops training after an iteration.
struct One;

impl Observer for One {
    fn iteration(&mut self, _progress: &Progress) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

fn load(bytes: &[u8]) -> char_rnn::Result<Checkpoint> {
    let mut source = bytes;
    checkpoint::read(&mut source, Path::new("fuzz"), &Device::Cpu)
}

fuzz_target!(|input: (u8, Vec<Edit>)| {
    let (number, edits) = input;
    let mut file = VALID[number as usize % VALID.len()].clone();
    edits.iter().for_each(|edit| edit.apply(&mut file));
    let mut bytes = file.bytes();
    edits.iter().for_each(|edit| edit.apply_to_bytes(&mut bytes));

    let Ok(run) = load(&bytes) else { return };
    let names = Sampler::new(run.model(), RngSource::Seed(1), 12, 0..2).unwrap();
    let names: Vec<_> = names.collect::<Result<_, _>>().unwrap();
    assert_eq!(names.len(), 2);
    for name in names {
        assert!(name.indices.len() <= 12);
        run.vocabulary.decode(&name.indices);
    }

    let Some(more) = run.iterations().checked_add(1) else { return };
    let config = TrainConfig {
        iterations: run.config.iterations.max(more),
        // A million are valid.
        samples: run.config.samples.min(2),
        ..run.config.clone()
    };
    let trainer = Trainer::resume(&CORPUS, &config, &run.trained, &Device::Cpu);
    match trainer.and_then(|mut trainer| trainer.run(&mut One)) {
        Ok(trained) => drop(load(&saved(&Checkpoint { config, trained, ..run })).unwrap()),
        // A field, the list or a tensor does not fit, or training diverged.
        Err(
            Error::Setting { .. } | Error::Names { .. } | Error::Candle(_) | Error::Diverged { .. },
        ) => {}
        Err(other) => panic!("{other}"),
    }
});
