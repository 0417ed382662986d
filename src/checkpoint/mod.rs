//! Model files.
//!
//! A model is one safetensors file that describes itself: the five tensors of
//! [`crate::model::PARAMETERS`] in the notebook's layouts, `known_names` with a fingerprint of each
//! name that was trained on ([`KnownNames`]), and in the header's metadata
//!
//! | key | value |
//! | --- | --- |
//! | `format` | `char-rnn` |
//! | `format_version` | `3` |
//! | `vocabulary` | the characters in index order, the first a newline |
//! | `training` | configuration, list, progress and changes as JSON |
//!
//! Beside them are the tensors from which training continues. Anything that reads safetensors can
//! open the file, and equal contents are equal bytes. It is written completely or not at all.

pub(crate) mod atomic;
mod container;
mod state;

pub(crate) use container::serialize;
pub use state::{Change, ListInfo};

use crate::data::{Corpus, KnownNames, LetterCase, Vocabulary};
use crate::error::{Error, Result};
use crate::model::{CharRnn, Config, PARAMETERS, char_rnn};
use crate::text::{breaks_lines, excerpt};
use crate::train::{TrainConfig, Trained};
use atomic::{temporary_beside, write_atomically};
use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use container::{NOT_A_MODEL, deserialize, read_data, read_header, tensor_of};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use state::Metadata;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const FORMAT: &str = "char-rnn";

/// This program and its version, as files name them.
pub(crate) const PROGRAM: &str = concat!("char-rnn ", env!("CARGO_PKG_VERSION"));
const FORMAT_VERSION: u32 = 3;
const KNOWN_NAMES: &str = "known_names";

/// The contents of a model file: a run, of which the network is a part.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The characters.
    pub vocabulary: Vocabulary,
    /// The configuration. `iterations` is the number asked for.
    pub config: TrainConfig,
    /// The result of training, from which it can continue.
    pub trained: Trained,
    /// The list of names.
    pub list: ListInfo,
    /// The names that the network was trained on.
    pub known: KnownNames,
    /// The changes of the configuration on resume, the oldest first.
    pub changes: Vec<Change>,
    /// The program that wrote the file, with its version.
    pub program: String,
}

impl Checkpoint {
    /// The result of training on `corpus`, whose names were read with this letter `case`.
    pub fn new(corpus: &Corpus, case: LetterCase, config: &TrainConfig, trained: Trained) -> Self {
        Self {
            vocabulary: corpus.vocabulary().clone(),
            config: config.clone(),
            trained,
            list: ListInfo::of(corpus, case),
            known: KnownNames::of(corpus.names(), case),
            changes: vec![],
            program: PROGRAM.to_string(),
        }
    }

    /// The network to use: [`Trained::chosen`].
    pub fn model(&self) -> &CharRnn {
        self.trained.chosen()
    }

    /// The number of iterations done.
    pub fn iterations(&self) -> u64 {
        self.trained.progress.iteration.saturating_add(1)
    }

    /// Whether training ended before it was done.
    pub fn is_unfinished(&self) -> bool {
        let since_best = self.trained.validation.as_ref().map_or(0, |v| v.since_best);
        !self.config.is_done(self.iterations(), since_best)
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

/// Checks that what is at `path`, if anything, is a model.
fn check_replaceable(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::model_file(
                path,
                "a model cannot be written over something that is not a file",
            ));
        }
        Ok(_) => {
            let mut file = File::open(path).map_err(|source| Error::read(path, source))?;
            if is_foreign(&mut file).map_err(|source| Error::read(path, source))? {
                return Err(Error::model_file(
                    path,
                    "this file is not a char-rnn model and will not be written over",
                ));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::write(path, source)),
    }
    Ok(())
}

/// Whether `file` is of another kind. An empty file may be overwritten.
fn is_foreign(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    Ok(read_header(file)?.is_none_or(|(_, metadata)| !names_format(&metadata)))
}

/// Writes `checkpoint` to `path`. An older file stays until the new one is complete.
///
/// # Errors
/// [`Error::Write`] where the folder is missing, full, or not writable; [`Error::ModelFile`] where a
/// file of another kind is at `path`, or [`load`] would refuse the model.
pub fn save(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { vocabulary, config, trained, list, known, changes, program } = checkpoint;
    let characters: String = vocabulary.characters().iter().collect();
    let training = Metadata::new(program, config, list, changes, trained);
    let training = serde_json::to_string(&training).expect("plain data");
    let metadata = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("format_version".to_string(), FORMAT_VERSION.to_string()),
        ("vocabulary".to_string(), characters),
        ("training".to_string(), training),
    ]);
    let parameters = checkpoint.model().parameters();
    let mut tensors = Vec::from(parameters.map(|(name, t)| (name.to_string(), t.clone())));
    let fingerprints = Tensor::new(known.fingerprints(), &Device::Cpu)?;
    tensors.push((KNOWN_NAMES.to_string(), fingerprints));
    tensors.extend(state::tensors(trained)?);
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
    describe(&metadata).map_err(wrong)?;
    read_data(file, &mut bytes).map_err(cannot_read)?;
    contents(&bytes, device).map_err(wrong)
}

/// The contents of a file of these bytes.
fn contents(mut bytes: &[u8], device: &Device) -> std::result::Result<Checkpoint, String> {
    let file = deserialize(bytes)?;
    let header = read_header(&mut bytes).ok().flatten().ok_or(NOT_A_MODEL)?;
    let (vocabulary, training) = describe(&header.1)?;
    parse(&file, vocabulary, training, device)
        .map_err(|problem| format!("the file is damaged: {problem}"))
}

/// The contents of a whole file.
fn parse(
    file: &SafeTensors,
    vocabulary: Vocabulary,
    training: Metadata,
    device: &Device,
) -> std::result::Result<Checkpoint, String> {
    let (tensors, hidden) = parameters_of(file, &vocabulary, device)?;
    let known = known_names_of(file)?;
    let network = Config { vocabulary: vocabulary.size(), hidden };
    let dtype = tensors["waa"].dtype();
    let model = char_rnn(network, VarBuilder::from_tensors(tensors, dtype, device))
        .map_err(|error| Error::from(error).to_string())?;
    let tensor = |name: &str| {
        let view = file.tensor(name).map_err(|error| error.to_string())?;
        tensor_of(name, &view, device)
    };
    let trained = state::restore(&training, &file.names(), tensor, model)?;
    let Metadata { program, config, list, changes, .. } = training;
    Ok(Checkpoint { vocabulary, config, trained, list, known, changes, program })
}

fn names_format(metadata: &HashMap<String, String>) -> bool {
    metadata.get("format").is_some_and(|format| format == FORMAT)
}

/// The vocabulary and the training metadata.
fn describe(
    metadata: &HashMap<String, String>,
) -> std::result::Result<(Vocabulary, Metadata), String> {
    if !names_format(metadata) {
        return Err("this is a safetensors file, but not a char-rnn model".to_string());
    }
    let value = |key: &str| {
        let missing = || format!("the file is damaged: its header has no {key:?}");
        metadata.get(key).ok_or_else(missing)
    };
    let version = value("format_version")?;
    match version.parse::<u32>() {
        Ok(FORMAT_VERSION) => {}
        Ok(other) => {
            return Err(format!(
                "this model has format version {other}; {PROGRAM} reads version \
                 {FORMAT_VERSION}: {}",
                if other > FORMAT_VERSION { "use a newer char-rnn" } else { "train it again" }
            ));
        }
        Err(_) => return Err(format!("the file is damaged: its format version is {version:?}")),
    }
    let vocabulary = Vocabulary::from_characters(value("vocabulary")?)
        .and_then(of_a_list)
        .map_err(|problem| format!("the file is damaged: {problem}"))?;
    let training = serde_json::from_str(value("training")?).and_then(|mut training: Value| {
        // The first files of this version have the number of threads, on which nothing depends.
        if let Some(config) = training.get_mut("config").and_then(Value::as_object_mut) {
            config.remove("threads");
        }
        serde_json::from_value(training)
    });
    let wrong = |error| format!("the file is damaged: its training metadata: {error}");
    Ok((vocabulary, training.map_err(wrong)?))
}

/// Refuses a vocabulary that no list has. A control character could reach a terminal.
fn of_a_list(vocabulary: Vocabulary) -> std::result::Result<Vocabulary, String> {
    let [_end, characters @ ..] = vocabulary.characters() else {
        unreachable!("it has a line end")
    };
    if let Some(found) = characters.iter().find(|&&character| breaks_lines(character)) {
        return Err(format!("the vocabulary has the control character {found:?}"));
    }
    match characters.is_empty() {
        true => Err("the vocabulary has no character but the line end".to_string()),
        false => Ok(vocabulary),
    }
}

/// The five parameters, and `n_a`.
fn parameters_of(
    file: &SafeTensors,
    vocabulary: &Vocabulary,
    device: &Device,
) -> std::result::Result<(HashMap<String, Tensor>, usize), String> {
    let view = |name: &str| file.tensor(name).map_err(|_| format!("it has no tensor {name:?}"));
    let b = view("b")?;
    let &[hidden] = b.shape() else { return Err("its tensor \"b\" is not a vector".to_string()) };
    let config = Config { vocabulary: vocabulary.size(), hidden };
    let mut tensors = HashMap::new();
    for name in PARAMETERS {
        let (found, expected) = (view(name)?, config.shape(name));
        if found.shape() != expected || found.dtype() != b.dtype() || hidden == 0 {
            return Err(format!(
                "its tensor {name:?} is {:?} {:?}, which does not fit the others",
                found.dtype(),
                found.shape()
            ));
        }
        tensors.insert(name.to_string(), tensor_of(name, &found, device)?);
    }
    Ok((tensors, hidden))
}

/// The names that the model was trained on.
fn known_names_of(file: &SafeTensors) -> std::result::Result<KnownNames, String> {
    let view = file.tensor(KNOWN_NAMES).map_err(|_| format!("it has no tensor {KNOWN_NAMES:?}"))?;
    if view.dtype() != Dtype::U32 || view.shape().len() != 1 {
        return Err(format!("its tensor {KNOWN_NAMES:?} is not a vector of U32"));
    }
    let fingerprint = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    KnownNames::from_fingerprints(view.data().chunks_exact(4).map(fingerprint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RngSource;
    use crate::train::train;
    use candle_core::DType;
    use proptest::prelude::*;

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
        let checkpoint = Checkpoint::new(&corpus, LetterCase::Lower, &config, trained);
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
            assert_eq!(loaded.config, saved.config);
            assert_eq!((&loaded.vocabulary, &loaded.list), (&saved.vocabulary, &saved.list));
            assert_eq!((&loaded.known, &loaded.program), (&saved.known, &saved.program));
            assert_eq!(loaded.trained.progress, saved.trained.progress);
            let again = folder.path().join("again");
            save(&again, &loaded).unwrap();
            assert_eq!(std::fs::read(again).unwrap(), std::fs::read(path).unwrap());
        }
    }

    #[test]
    fn saving_leaves_no_other_file_and_the_usual_permissions() {
        let (folder, path, _) = saved(DType::F32);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let plain = folder.path().join("plain");
            std::fs::write(&plain, "").unwrap();
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&plain));
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
        assert!(changed("format_version", Some("4")).contains("use a newer char-rnn"));
        assert!(changed("format_version", Some("1")).contains("train it again"));
        assert!(changed("format_version", Some("x")).contains("damaged"));
        assert!(changed("vocabulary", Some("abc")).contains("line end"));
        assert!(changed("vocabulary", Some("\nab")).contains("does not fit"));
        assert!(changed("vocabulary", Some("\nab\u{1b}")).contains("control character '\\u{1b}'"));
        assert!(changed("vocabulary", Some("\n")).contains("no character but"));
        assert!(changed("vocabulary", None).contains("vocabulary"));
        assert!(changed("training", Some("{}")).contains("training metadata"));

        let mut nan = good.clone();
        let wya = saved.model().parameters()[2].1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes: Vec<u8> = wya.iter().flat_map(|w| w.to_le_bytes()).collect();
        let place = nan.windows(bytes.len()).position(|part| part == bytes).unwrap();
        nan[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refusal(&nan).contains("not finite"));

        let known: Vec<u8> =
            saved.known.fingerprints().iter().flat_map(|f| f.to_le_bytes()).collect();
        let place = good.windows(known.len()).rposition(|part| part == known).unwrap();
        let mut unsorted = good.clone();
        unsorted[place..place + 4].fill(0xff);
        assert!(refusal(&unsorted).contains("not in order"));
    }

    #[test]
    fn what_load_refuses_is_not_saved() {
        let (_folder, path, good) = saved(DType::F32);
        let before = std::fs::read(&path).unwrap();
        let edits: [fn(&mut Checkpoint); 5] = [
            |c| c.config.batch_size = 0,
            |c| c.vocabulary = Vocabulary::of(["ab"]),
            |c| c.trained.progress.iteration = u64::MAX,
            |c| c.trained.progress.smoothed = f64::NAN,
            |c| c.trained.model = c.trained.model.map(|t| t / 0.).unwrap(),
        ];
        for edit in edits {
            let mut bad = good.clone();
            edit(&mut bad);
            let refusal = save(&path, &bad).unwrap_err().to_string();
            assert!(refusal.contains("this model cannot be saved"), "{refusal}");
        }
        let letter = path.with_file_name("letter.txt");
        std::fs::write(&letter, "dear").unwrap();
        assert!(save(&letter, &good).is_err());
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
        let (folder, path, _) = saved(DType::F32);
        check_writable(&path).unwrap();
        let refusal = |path: &Path| check_writable(path).unwrap_err().to_string();
        let letter = folder.path().join("letter.txt");
        std::fs::write(&letter, "dear").unwrap();
        assert!(refusal(&letter).contains("not a char-rnn model"));
        assert!(refusal(&folder.path().join("model/")).contains("folder"));
        let missing = refusal(&folder.path().join("none/model"));
        assert!(missing.contains("there is no folder"), "{missing}");
        assert!(check_writable(folder.path()).is_err());
        assert_eq!(std::fs::read(&letter).unwrap(), b"dear");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_model_stays_a_link() {
        let (folder, path, mut checkpoint) = saved(DType::F32);
        let link = folder.path().join("latest");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        checkpoint.program = "another".to_string();
        save(&link, &checkpoint).unwrap();
        assert!(link.is_symlink());
        assert_eq!(load(&path, &Device::Cpu).unwrap().program, "another");
    }

    proptest! {
        #[test]
        fn a_mutated_file_is_loaded_or_refused(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let (_folder, path, _) = saved(DType::F32);
            let mut bytes = std::fs::read(&path).unwrap();
            for (place, value) in edits {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            std::fs::write(&path, &bytes).unwrap();
            let _ = load(&path, &Device::Cpu);
            bytes.truncate(cut.index(bytes.len()));
            std::fs::write(&path, &bytes).unwrap();
            prop_assert!(load(&path, &Device::Cpu).is_err());
        }
    }
}
