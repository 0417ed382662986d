//! Model files.
//!
//! A model is one safetensors file that describes itself: the five tensors of
//! [`crate::model::PARAMETERS`] in the notebook's layouts, and in the header's metadata
//!
//! | key | value |
//! | --- | --- |
//! | `format` | `char-rnn` |
//! | `vocabulary` | the characters in index order, the first a newline |
//! | `run` | JSON: version, configuration, list, progress, history and changes of the run |
//!
//! The tensors and the first two keys are a model; another program can write one. `run` and further
//! tensors are what training continues from. Anything that reads safetensors can open the file, and
//! equal contents are equal bytes. It is written completely or not at all.

pub(crate) mod atomic;
mod container;
mod run;

pub(crate) use container::serialize;
pub use run::{Change, ListInfo, Run};

use crate::data::{Corpus, KnownNames, Spelling, Vocabulary};
use crate::error::{Error, Result};
use crate::model::{CharRnn, Config, PARAMETERS, char_rnn};
use crate::sample::{MAX_LENGTH, max_length_for};
use crate::text::{breaks_lines, excerpt};
use crate::train::{TrainConfig, Trained};
use atomic::{temporary_beside, write_atomically};
use candle_core::Device;
use candle_nn::VarBuilder;
use container::{Fallible, NOT_A_MODEL, deserialize, read_data, read_header, tensor_of};
use run::{Metadata, VERSION};
use safetensors::tensor::SafeTensors;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The value of the key `format`.
const FORMAT: &str = "char-rnn";

/// This program and its version, as files name them.
pub(crate) const PROGRAM: &str = concat!("char-rnn ", env!("CARGO_PKG_VERSION"));

/// The contents of a model file.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The characters.
    pub vocabulary: Vocabulary,
    /// The network to use: of a run, [`Trained::chosen`].
    pub model: CharRnn,
    /// The run that made it, if the file has one.
    pub run: Option<Run>,
}

impl Checkpoint {
    /// The result of training on `corpus`.
    pub fn new(corpus: &Corpus, config: &TrainConfig, trained: Trained) -> Self {
        let run = Run {
            config: config.clone(),
            trained,
            list: ListInfo::of(corpus),
            known: KnownNames::of(corpus.names()),
            changes: vec![],
            program: PROGRAM.to_string(),
        };
        Self::of_run(corpus.vocabulary().clone(), run)
    }

    /// The contents of the file of `run`.
    pub(crate) fn of_run(vocabulary: Vocabulary, run: Run) -> Self {
        Self { vocabulary, model: run.trained.chosen().clone(), run: Some(run) }
    }

    /// How names are learned and shown. Without a run in lower case, the first letter as a capital.
    pub fn spelling(&self) -> Spelling {
        self.run.as_ref().map_or_else(Spelling::lower, |run| run.list.spelling.clone())
    }

    /// The default maximum length of sampled names, in characters.
    pub fn max_length(&self) -> usize {
        self.run.as_ref().map_or(MAX_LENGTH, |run| max_length_for(run.list.longest))
    }
}

/// Checks that a model can be written to `path`: the folder must exist and be writable, and a file
/// that exists must be a model.
///
/// # Errors
/// [`Error::Write`] or, for a file that is something else, [`Error::ModelFile`].
pub fn check_writable(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.last().is_none_or(|&last| std::path::is_separator(last.into())) {
        return Err(Error::model_file(path, "a model needs the name of a file, not of a folder"));
    }
    check_replaceable(path)?;
    temporary_beside(path)?;
    Ok(())
}

/// Checks that what is at `path`, if anything, is a model or empty.
fn check_replaceable(path: &Path) -> Result<()> {
    let refused = |problem: &str| Err(Error::model_file(path, problem));
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            refused("a model cannot be written over something that is not a file")
        }
        Ok(metadata) if metadata.len() == 0 => Ok(()),
        Ok(_) => {
            let header = File::open(path).and_then(|mut file| read_header(&mut file));
            match header.map_err(|source| Error::read(path, source))? {
                Some((_, metadata)) if names_format(&metadata) => Ok(()),
                _ => refused("this file is not a char-rnn model and will not be written over"),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::write(path, source)),
    }
}

/// Writes `checkpoint` to `path`. An older file stays until the new one is complete.
///
/// # Errors
/// [`Error::Write`] where the folder is missing, full, or not writable; [`Error::ModelFile`] where a
/// file of another kind is at `path`, or [`load`] would refuse the model.
pub fn save(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { vocabulary, model, run } = checkpoint;
    let mut metadata = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("vocabulary".to_string(), vocabulary.characters().iter().collect()),
    ]);
    let mut tensors = Vec::from(model.parameters().map(|(name, t)| (name.to_string(), t.clone())));
    if let Some(run) = run {
        let json = serde_json::to_string(&Metadata::from(run)).expect("plain data");
        metadata.insert("run".to_string(), json);
        tensors.extend(run::tensors(run)?);
    }
    let bytes = serialize(&tensors, metadata)?;
    contents(&bytes, &Device::Cpu).map_err(|problem| {
        Error::model_file(path, format!("this model cannot be saved: {}", excerpt(&problem)))
    })?;
    check_replaceable(path)?;
    write_atomically(path, &bytes)
}

/// Reads the model file at `path`, its tensors onto `device`.
///
/// # Errors
/// [`Error::Read`] where the file cannot be read; [`Error::ModelFile`] where it is damaged, cut
/// short, another kind of file, or of another version.
pub fn load(path: &Path, device: &Device) -> Result<Checkpoint> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::read(path, source))?;
    if !metadata.is_file() {
        return Err(Error::model_file(path, "this is not a file, so it is no model"));
    }
    let mut file = File::open(path).map_err(|source| Error::read(path, source))?;
    read(&mut file, path, device)
}

/// Reads a model file from `file`, such as one built into a program. Error messages call it `path`.
///
/// # Errors
/// As [`load`].
///
/// ```
/// use char_rnn::checkpoint;
/// let mut bytes = b"not a model".as_slice();
/// let error = checkpoint::read(&mut bytes, "built in".as_ref(), &candle_core::Device::Cpu);
/// assert!(error.unwrap_err().to_string().starts_with("built in: this is not a char-rnn model"));
/// ```
pub fn read(file: &mut dyn Read, path: &Path, device: &Device) -> Result<Checkpoint> {
    // Other libraries' messages quote the file.
    let wrong = |problem: String| Error::model_file(path, excerpt(&problem));
    let cannot_read = |source| Error::read(path, source);
    let (mut bytes, metadata) =
        read_header(file).map_err(cannot_read)?.ok_or_else(|| wrong(NOT_A_MODEL.to_string()))?;
    // Before the rest is read: a file of another kind can be large.
    if !names_format(&metadata) {
        let problem = "this is a safetensors file, but not a char-rnn model: its metadata has no \
                       \"format\" of \"char-rnn\"";
        return Err(Error::model_file(path, problem));
    }
    read_data(file, &mut bytes).map_err(cannot_read)?;
    contents(&bytes, device).map_err(wrong)
}

/// The contents of a file of these bytes.
fn contents(mut bytes: &[u8], device: &Device) -> Fallible<Checkpoint> {
    let file = deserialize(bytes)?;
    let (_, metadata) = read_header(&mut bytes).ok().flatten().ok_or(NOT_A_MODEL)?;
    let run = metadata.get("run").map(|json| run_of(json)).transpose()?;
    let checkpoint = || {
        let characters = metadata.get("vocabulary").ok_or("its metadata has no \"vocabulary\"")?;
        let vocabulary = of_a_list(Vocabulary::from_characters(characters)?)?;
        let b = file.tensor("b").map_err(|_| "it has no tensor \"b\"")?;
        let &[hidden] = b.shape() else { return Err("its tensor \"b\" is not a vector".into()) };
        let config = Config { vocabulary: vocabulary.size(), hidden };
        let model = network(&file, "", config, device)?;
        Ok(match run {
            Some(run) => Checkpoint::of_run(vocabulary, run::restore(run, &file, model)?),
            None => Checkpoint { vocabulary, model, run: None },
        })
    };
    checkpoint().map_err(|problem: String| format!("the file is damaged: {problem}"))
}

fn names_format(metadata: &HashMap<String, String>) -> bool {
    metadata.get("format").is_some_and(|format| format == FORMAT)
}

/// The metadata of a run, of this version.
fn run_of(json: &str) -> Fallible<Metadata> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let damaged = |error| format!("the file is damaged: its run: {error}");
    match serde_json::from_str(json).map_err(damaged)? {
        Version { version: VERSION } => serde_json::from_str(json).map_err(damaged),
        Version { version } => Err(format!(
            "this model has format version {version}; {PROGRAM} reads version {VERSION}: {}",
            if version > VERSION { "use a newer char-rnn" } else { "train it again" }
        )),
    }
}

/// Refuses a vocabulary that no list has. A control character could reach a terminal.
fn of_a_list(vocabulary: Vocabulary) -> Fallible<Vocabulary> {
    let mut characters = vocabulary.characters().iter().skip(1); // the line end
    match characters.clone().find(|&&character| breaks_lines(character)) {
        Some(found) => Err(format!("the vocabulary has the control character {found:?}")),
        None if characters.next().is_none() => {
            Err("the vocabulary has no character but the line end".to_string())
        }
        None => Ok(vocabulary),
    }
}

/// The network of these sizes whose tensors have names with this `prefix`.
fn network(file: &SafeTensors, prefix: &str, config: Config, device: &Device) -> Fallible<CharRnn> {
    let mut tensors = HashMap::new();
    for name in PARAMETERS {
        let (full, expected) = (format!("{prefix}{name}"), config.shape(name));
        let tensor = tensor_of(file, &full, device)?;
        if tensor.dims() != expected {
            return Err(format!("its tensor {full:?} is {:?}, not {expected:?}", tensor.dims()));
        }
        tensors.insert(name.to_string(), tensor);
    }
    let dtype = tensors["waa"].dtype();
    if let Some((name, other)) = tensors.iter().find(|(_, tensor)| tensor.dtype() != dtype) {
        let (other, dtype) = (other.dtype().as_str(), dtype.as_str());
        return Err(format!("its tensor {name:?} is {other}, and \"waa\" is {dtype}"));
    }
    char_rnn(config, VarBuilder::from_tensors(tensors, dtype, device))
        .map_err(|error| Error::from(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::LetterCase;
    use crate::random::RngSource;
    use crate::train::train;
    use candle_core::DType;

    /// A small saved run: its folder, its path, and the run.
    fn saved(dtype: DType) -> (tempfile::TempDir, std::path::PathBuf, Checkpoint) {
        let corpus = Corpus::parse("ana\nbob\nэмма\n".as_bytes(), "", LetterCase::Lower).unwrap();
        let config = TrainConfig {
            iterations: 20,
            hidden: 4,
            dtype,
            seed: RngSource::Seed(3),
            ..TrainConfig::default()
        };
        let trained = train(&corpus, &config, &mut ()).unwrap();
        let checkpoint = Checkpoint::new(&corpus, &config, trained);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &checkpoint).unwrap();
        (folder, path, checkpoint)
    }

    #[test]
    fn a_loaded_file_saves_to_the_same_bytes() {
        for dtype in [DType::F32, DType::F64] {
            let (folder, path, saved) = saved(dtype);
            let loaded = load(&path, &Device::Cpu).unwrap();
            assert_eq!(loaded.vocabulary, saved.vocabulary);
            let (run, saved) = (loaded.run.as_ref().unwrap(), saved.run.unwrap());
            assert_eq!((&run.config, &run.list), (&saved.config, &saved.list));
            assert_eq!((&run.known, &run.program), (&saved.known, &saved.program));
            assert_eq!(run.trained.progress, saved.trained.progress);
            assert_eq!(run.trained.history, saved.trained.history);
            let again = folder.path().join("again");
            save(&again, &loaded).unwrap();
            assert_eq!(std::fs::read(again).unwrap(), std::fs::read(path).unwrap());
        }
    }

    /// The saved file with its metadata changed, as if by another program.
    fn with_metadata(bytes: &[u8], key: &str, value: Option<&str>) -> Vec<u8> {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let mut metadata = header.metadata().clone().unwrap();
        match value {
            Some(value) => metadata.insert(key.to_string(), value.to_string()),
            None => metadata.remove(key),
        };
        let file = SafeTensors::deserialize(bytes).unwrap();
        safetensors::serialize(file.tensors(), Some(metadata)).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        std::fs::write(&path, bytes).unwrap();
        load(&path, &Device::Cpu).unwrap_err().to_string()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_the_reason() {
        let (_folder, path, saved) = saved(DType::F32);
        let good = std::fs::read(&path).unwrap();
        let changed = |key, value| refusal(&with_metadata(&good, key, value));

        assert!(refusal(b"").contains("not a char-rnn model"));
        assert!(refusal(b"anna\nbob\n").contains("not a char-rnn model"));
        assert!(refusal(&good[..good.len() - 1]).contains("cut short"));
        assert!(refusal(&good[..40]).contains("not a char-rnn model"));
        assert!(refusal(&[good.as_slice(), b"x"].concat()).contains("has grown"));
        assert!(changed("format", None).contains("but not a char-rnn model"));
        assert!(changed("run", Some(r#"{"version":7}"#)).contains("use a newer char-rnn"));
        assert!(changed("run", Some(r#"{"version":1}"#)).contains("train it again"));
        for run in ["{}", "x", r#"{"version":6}"#, r#"{"version":"6"}"#] {
            assert!(changed("run", Some(run)).contains("damaged: its run: "), "{run}");
        }
        assert!(changed("vocabulary", Some("abc")).contains("line end"));
        assert!(changed("vocabulary", Some("\nab")).contains("\"wax\" is [4, 8], not [4, 3]"));
        assert!(changed("vocabulary", Some("\nab\u{1b}")).contains("control character '\\u{1b}'"));
        assert!(changed("vocabulary", Some("\n")).contains("no character but"));
        assert!(changed("vocabulary", None).contains("vocabulary"));

        let mut nan = good.clone();
        let wya = saved.model.parameters()[2].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes: Vec<u8> = wya.iter().flat_map(|w| w.to_le_bytes()).collect();
        let place = nan.windows(bytes.len()).position(|part| part == bytes).unwrap();
        nan[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refusal(&nan).contains("not finite"));

        let known: Vec<u8> =
            saved.run.unwrap().known.fingerprints().iter().flat_map(|f| f.to_le_bytes()).collect();
        let place = good.windows(known.len()).rposition(|part| part == known).unwrap();
        let mut unsorted = good.clone();
        unsorted[place..place + 4].fill(0xff);
        assert!(refusal(&unsorted).contains("not in order"));
    }

    #[test]
    fn five_tensors_format_and_vocabulary_are_a_model() {
        let (_folder, path, saved) = saved(DType::F64);
        let bytes = std::fs::read(&path).unwrap();
        let tensors: Vec<_> = SafeTensors::deserialize(&bytes).unwrap().tensors();
        let tensors = tensors.into_iter().filter(|(name, _)| PARAMETERS.contains(&&**name));
        let metadata = [("format", "char-rnn"), ("vocabulary", "\nabnoамэ")];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string()));
        let bare = safetensors::serialize(tensors, Some(HashMap::from(metadata))).unwrap();
        std::fs::write(&path, bare).unwrap();
        let loaded = load(&path, &Device::Cpu).unwrap();
        assert!(loaded.run.is_none() && loaded.vocabulary.size() == 8);
        assert_eq!((loaded.spelling(), loaded.max_length()), (Spelling::lower(), MAX_LENGTH));
        for ((_, a), (_, b)) in loaded.model.parameters().iter().zip(saved.model.parameters()) {
            let bits = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(bits(a), bits(b));
        }
    }

    #[test]
    fn what_load_refuses_is_not_saved() {
        let (_folder, path, good) = saved(DType::F32);
        let before = std::fs::read(&path).unwrap();
        let edits: [fn(&mut Run); 4] = [
            |run| run.config.batch_size = 0,
            |run| run.trained.progress.iteration = u64::MAX,
            |run| run.trained.progress.smoothed = f64::NAN,
            |run| run.trained.model = run.trained.model.map(|t| t / 0.).unwrap(),
        ];
        let edited = |edit: fn(&mut Run)| {
            let mut run = good.run.clone().unwrap();
            edit(&mut run);
            Checkpoint::of_run(good.vocabulary.clone(), run)
        };
        let other = Checkpoint { vocabulary: Vocabulary::of(["ab"]), ..good.clone() };
        for bad in edits.into_iter().map(edited).chain([other]) {
            let refusal = save(&path, &bad).unwrap_err().to_string();
            assert!(refusal.contains("this model cannot be saved"), "{refusal}");
        }
        assert!(std::fs::read(&path).unwrap() == before);
    }

    #[test]
    fn a_file_that_is_longer_than_its_header_says_is_not_read_to_its_end() {
        let (_folder, path, _) = saved(DType::F32);
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(load(&path, &Device::Cpu).unwrap_err().to_string().contains("has grown"));
    }

    #[test]
    fn only_a_model_is_overwritten() {
        let (folder, path, good) = saved(DType::F32);
        check_writable(&path).unwrap();
        let refusal = |path: &Path| check_writable(path).unwrap_err().to_string();
        let letter = folder.path().join("letter.txt");
        std::fs::write(&letter, "dear").unwrap();
        assert!(refusal(&letter).contains("not a char-rnn model"));
        assert!(save(&letter, &good).is_err());
        assert!(refusal(&folder.path().join("model/")).contains("folder"));
        let missing = refusal(&folder.path().join("none/model"));
        assert!(missing.contains("there is no folder"), "{missing}");
        assert!(check_writable(folder.path()).is_err());
        assert_eq!(std::fs::read(&letter).unwrap(), b"dear");
    }
}
