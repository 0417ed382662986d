//! Model files.
//!
//! A model is one safetensors file that describes itself: the five tensors of
//! [`crate::model::PARAMETERS`] in the notebook's layouts, and in the header's metadata
//!
//! | key | value |
//! | --- | --- |
//! | `format` | `char-rnn` |
//! | `format_version` | `1` |
//! | `vocabulary` | the characters in index order, the first a line end |
//! | `training` | how it was trained, as JSON: [`Record`] |
//! | `resume` | in a file of [`save_run`], what [`crate::resume`] adds so that training can go on |
//!
//! A sixth tensor, `known_names`, holds a fingerprint of each name that was learned, U32 and sorted:
//! see [`crate::known`]. It may be missing.
//!
//! Anything that reads safetensors can open it, and equal contents are equal bytes. The file is
//! written whole or not at all ([`crate::output_file`]).

use crate::corpus::{Case, Corpus, breaks_lines};
use crate::error::{Error, Result};
use crate::known::KnownNames;
use crate::model::{CharRnn, Config, PARAMETERS, char_rnn};
use crate::optim::{Algorithm, Decay, DescentConfig};
use crate::output_file::{temporary_beside, write_atomically};
use crate::resume::Resume;
use crate::train::{Settings, Trained};
use crate::vocab::Vocabulary;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const FORMAT: &str = "char-rnn";
const FORMAT_VERSION: u32 = 1;
const KNOWN_NAMES: &str = "known_names";
/// The safetensors format's own limit, in bytes.
const LARGEST_HEADER: u64 = 100_000_000;
const NOT_ONE: &str = "this is not a char-rnn model, or it is damaged";

/// How a model was trained: for people, and for programs that need to treat names as it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this program.
    pub program: String,
    /// Whether the names were lower-cased.
    pub case: Case,
    /// The number of names in the list.
    pub names: usize,
    /// How many iterations were run, by one run and those that went on from it.
    pub iterations: u64,
    /// The smoothed loss after the last one, in nats a name.
    pub smoothed_loss: f64,
    /// How the weights followed from the clipped gradients.
    #[serde(default)]
    pub optimizer: Algorithm,
    /// The step along the clipped gradients.
    pub learning_rate: f64,
    /// How it fell on the way.
    #[serde(default)]
    pub decay: Decay,
    /// AdamW's decay of the weights.
    #[serde(default = "usual_weight_decay")]
    pub weight_decay: f64,
    /// The clamp on each entry of the gradients; absent where nothing was clamped.
    pub clip: Option<f64>,
    /// Whether each name began from the zero state.
    #[serde(default)]
    pub zero_state: bool,
    /// Where the gradient came from.
    pub backprop: String,
    /// The seed, or `notebook` for the notebook's.
    pub seed: String,
}

fn usual_weight_decay() -> f64 {
    DescentConfig::default().weight_decay
}

impl Record {
    /// The record of a run of these settings on `corpus`, whose names had this `case`.
    pub fn of(corpus: &Corpus, case: Case, settings: &Settings, trained: &Trained) -> Self {
        Self {
            program: format!("char-rnn {}", env!("CARGO_PKG_VERSION")),
            case,
            names: corpus.names().len(),
            iterations: trained.progress.iteration + 1,
            smoothed_loss: trained.progress.smoothed,
            optimizer: settings.optimizer,
            learning_rate: settings.learning_rate,
            decay: settings.decay,
            weight_decay: settings.weight_decay,
            clip: settings.clip.is_finite().then_some(settings.clip),
            zero_state: settings.zero_state,
            backprop: settings.backprop.to_string(),
            seed: settings.randomness.to_string(),
        }
    }
}

/// A model out of a file.
#[derive(Debug)]
pub struct Saved {
    /// The network.
    pub model: CharRnn,
    /// The characters it knows.
    pub vocabulary: Vocabulary,
    /// How it was trained.
    pub record: Record,
    /// What training needs to go on, or why it cannot. A model is good to sample either way.
    pub resume: std::result::Result<Resume, String>,
    /// Which names it has learned, where the file says so.
    pub known: Option<KnownNames>,
}

/// Checks that a model could be written at `path`, so that training does not end in vain: the
/// folder must exist and take new files, and what stands there already must be a model.
///
/// # Errors
/// [`Error::Write`] or, for a file that is something else, [`Error::ModelFile`].
pub fn check_writable(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.last().is_none_or(|&last| std::path::is_separator(last.into())) {
        return Err(Error::model_file(path, "a model needs the name of a file, not of a folder"));
    }
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
                    "this file is not a char-rnn model and will not be written over; choose another with -o",
                ));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Error::write(path, source)),
    }
    temporary_beside(path)?;
    Ok(())
}

/// Whether `file` is of another kind. An empty file is nobody's loss.
fn is_foreign(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    Ok(match read_header(file)? {
        Ok((_, metadata)) => !names_format(&metadata),
        Err(_) => true,
    })
}

/// The first bytes of a safetensors file, up to the end of its header, and the header's metadata.
/// No more is read, since a file of another kind can be larger than the memory.
fn read_header(file: &mut dyn Read) -> io::Result<std::result::Result<Header, String>> {
    /// As much of the header as tells whose file this is.
    #[derive(Deserialize)]
    struct Start {
        #[serde(rename = "__metadata__", default)]
        metadata: HashMap<String, String>,
    }

    let mut bytes = Vec::new();
    file.take(8).read_to_end(&mut bytes)?;
    let Ok(length) = <[u8; 8]>::try_from(bytes.as_slice()) else { return Ok(Err(NOT_ONE.into())) };
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER || file.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Ok(Err(NOT_ONE.into()));
    }
    Ok(match serde_json::from_slice::<Start>(&bytes[8..]) {
        Ok(start) => Ok((bytes, start.metadata)),
        Err(_) => Err(NOT_ONE.into()),
    })
}

type Header = (Vec<u8>, HashMap<String, String>);

/// Writes `model` to `path`, and which names it has learned, where these are `known`. Whatever
/// stood there stays until the new file is complete.
///
/// # Errors
/// [`Error::Write`] where the folder is missing, full, or cannot be written.
pub fn save(
    path: &Path,
    model: &CharRnn,
    vocabulary: &Vocabulary,
    record: &Record,
    known: Option<&KnownNames>,
) -> Result<()> {
    write(path, model, vocabulary, record, known, None)
}

/// The same with all that training needs to go on: the model is the one to use, [`Trained::chosen`].
/// `record` and `resume` tell of one run.
///
/// [`Trained::chosen`]: crate::train::Trained::chosen
///
/// # Errors
/// As [`save`].
pub fn save_run(
    path: &Path,
    vocabulary: &Vocabulary,
    record: &Record,
    known: Option<&KnownNames>,
    resume: &Resume,
) -> Result<()> {
    write(path, resume.trained.chosen(), vocabulary, record, known, Some(resume))
}

fn write(
    path: &Path,
    model: &CharRnn,
    vocabulary: &Vocabulary,
    record: &Record,
    known: Option<&KnownNames>,
    resume: Option<&Resume>,
) -> Result<()> {
    let characters: String = vocabulary.characters().iter().collect();
    let record = serde_json::to_string(record).expect("a record is plain data");
    let mut metadata = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("format_version".to_string(), FORMAT_VERSION.to_string()),
        ("vocabulary".to_string(), characters),
        ("training".to_string(), record),
    ]);
    let mut tensors =
        Vec::from(model.parameters().map(|(name, tensor)| (name.to_string(), tensor.clone())));
    if let Some(known) = known {
        let fingerprints = Tensor::new(known.fingerprints(), &Device::Cpu)?;
        tensors.push((KNOWN_NAMES.to_string(), fingerprints));
    }
    if let Some(resume) = resume {
        metadata.insert(crate::resume::KEY.to_string(), resume.to_json());
        tensors.extend(resume.tensors()?);
    }
    let bytes = safetensors(&tensors, metadata)?;
    write_atomically(path, &bytes)
}

/// A safetensors file of tensors of F32, F64 and U32.
pub(crate) fn safetensors(
    tensors: &[(String, Tensor)],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype() {
            DType::F64 => Dtype::F64,
            DType::U32 => Dtype::U32,
            _ => Dtype::F32,
        };
        contents.push((name, dtype, tensor.dims().to_vec(), little_endian(tensor)?));
    }
    let views = contents.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name, view.expect("the bytes are those of the tensor"))
    });
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(candle_core::Error::from)?;
    Ok(with_sorted_header(&bytes))
}

/// The same file with its header in order: the library writes the metadata in another order each
/// time, and equal runs should leave equal files.
fn with_sorted_header(bytes: &[u8]) -> Vec<u8> {
    type Entries = BTreeMap<String, BTreeMap<String, serde_json::Value>>;
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
    let (header, data) = rest.split_at(length);
    let header: Entries = serde_json::from_slice(header).expect("it was just written");
    let mut header = serde_json::to_vec(&header).expect("plain data");
    // The format's alignment.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

/// The values of a tensor, row by row, as the format stores them.
fn little_endian(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match flat.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => flat.to_vec1::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect(),
    })
}

/// Reads the model in the file at `path` onto `device`.
///
/// # Errors
/// [`Error::Read`] where the file cannot be read; [`Error::ModelFile`] where it is damaged, cut
/// short, something else, or of a newer version.
pub fn load(path: &Path, device: &Device) -> Result<Saved> {
    let wrong = |problem: String| Error::model_file(path, problem);
    let metadata = std::fs::metadata(path).map_err(|source| Error::read(path, source))?;
    if !metadata.is_file() {
        return Err(wrong("this is not a file, so it is no model".to_string()));
    }
    let mut file = File::open(path).map_err(|source| Error::read(path, source))?;
    read(&mut file, path, device)
}

/// Reads a model out of `file`, which need not be a file: a program can carry its model in itself.
/// `path` is what error messages call it.
///
/// # Errors
/// As [`load`].
///
/// ```
/// use char_rnn::checkpoint;
/// let mut bytes = b"not a model".as_slice();
/// let refusal = checkpoint::read(&mut bytes, "built in".as_ref(), &candle_core::Device::Cpu);
/// assert!(refusal.unwrap_err().to_string().starts_with("built in: this is not a char-rnn model"));
/// ```
pub fn read(file: &mut dyn Read, path: &Path, device: &Device) -> Result<Saved> {
    let wrong = |problem: String| Error::model_file(path, problem);
    let cannot_read = |source| Error::read(path, source);
    let (mut bytes, metadata) = read_header(file).map_err(cannot_read)?.map_err(wrong)?;
    let (vocabulary, record) = describe(&metadata).map_err(wrong)?;
    file.read_to_end(&mut bytes).map_err(cannot_read)?;
    let file = file_of(&bytes).map_err(wrong)?;
    let (tensors, hidden) = tensors_of(&file, &vocabulary, device).map_err(wrong)?;
    let known = known_names_of(&file).map_err(wrong)?;
    let config = Config { vocabulary: vocabulary.size(), hidden };
    let dtype = tensors["waa"].dtype();
    let model = char_rnn(config, VarBuilder::from_tensors(tensors, dtype, device))?;
    let tensor = |name: &str| {
        let view = file.tensor(name).map_err(|error| error.to_string())?;
        tensor_of(name, &view, device)
    };
    let resume = Resume::read(&metadata, &file.names(), tensor, &record, &model);
    Ok(Saved { model, vocabulary, record, known, resume })
}

/// The tensors of a whole file.
fn file_of(bytes: &[u8]) -> std::result::Result<SafeTensors<'_>, String> {
    SafeTensors::deserialize(bytes).map_err(|error| match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            "the file is cut short or has grown: its header and its length do not agree".to_string()
        }
        error => format!("the file is damaged: {error}"),
    })
}

fn names_format(metadata: &HashMap<String, String>) -> bool {
    metadata.get("format").is_some_and(|format| format == FORMAT)
}

/// What the metadata say of the model.
fn describe(
    metadata: &HashMap<String, String>,
) -> std::result::Result<(Vocabulary, Record), String> {
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
        Ok(newer) if newer > FORMAT_VERSION => {
            return Err(format!(
                "this model has format version {newer}; char-rnn {} reads version {FORMAT_VERSION}: \
                 use a newer char-rnn",
                env!("CARGO_PKG_VERSION")
            ));
        }
        _ => return Err(format!("the file is damaged: its format version is {version:?}")),
    }
    let vocabulary = Vocabulary::from_characters(value("vocabulary")?)
        .and_then(of_a_list)
        .map_err(|problem| format!("the file is damaged: {problem}"))?;
    let record = serde_json::from_str(value("training")?)
        .map_err(|error| format!("the file is damaged: its training record: {error}"))?;
    Ok((vocabulary, record))
}

/// Refuses a vocabulary that no list has: names of other characters would be none, or would do
/// to a terminal what whoever made the file wants.
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

/// The five tensors, and `n_a`.
fn tensors_of(
    file: &SafeTensors,
    vocabulary: &Vocabulary,
    device: &Device,
) -> std::result::Result<(HashMap<String, Tensor>, usize), String> {
    let damaged = |problem: String| format!("the file is damaged: {problem}");
    let view =
        |name: &str| file.tensor(name).map_err(|_| damaged(format!("it has no tensor {name:?}")));
    let b = view("b")?;
    let &[hidden] = b.shape() else {
        return Err(damaged("its tensor \"b\" is not a vector".to_string()));
    };
    let config = Config { vocabulary: vocabulary.size(), hidden };
    let mut tensors = HashMap::new();
    for name in PARAMETERS {
        let (found, expected) = (view(name)?, config.shape(name));
        if found.shape() != expected || found.dtype() != b.dtype() || hidden == 0 {
            return Err(damaged(format!(
                "its tensor {name:?} is {:?} {:?}, which does not fit the others",
                found.dtype(),
                found.shape()
            )));
        }
        let tensor = tensor_of(name, &found, device).map_err(damaged)?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok((tensors, hidden))
}

/// The tensor of a view, in its own number type.
fn tensor_of(
    name: &str,
    view: &TensorView,
    device: &Device,
) -> std::result::Result<Tensor, String> {
    let (dtype, values): (_, Vec<f64>) = match view.dtype() {
        Dtype::F32 => {
            (DType::F32, view.data().chunks_exact(4).map(|v| f32_from(v).into()).collect())
        }
        Dtype::F64 => (DType::F64, view.data().chunks_exact(8).map(f64_from).collect()),
        other => return Err(format!("its numbers are {other:?}, not F32 or F64")),
    };
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("its tensor {name:?} has a value that is not finite"));
    }
    Tensor::from_vec(values, view.shape(), &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(dtype)?.to_device(device))
        .map_err(|error| error.to_string())
}

/// The names that the model has learned, where the file says so.
fn known_names_of(file: &SafeTensors) -> std::result::Result<Option<KnownNames>, String> {
    let damaged = |problem: String| format!("the file is damaged: {problem}");
    let Ok(view) = file.tensor(KNOWN_NAMES) else { return Ok(None) };
    if view.dtype() != Dtype::U32 || view.shape().len() != 1 {
        return Err(damaged(format!("its tensor {KNOWN_NAMES:?} is not a vector of U32")));
    }
    let fingerprint = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let fingerprints = view.data().chunks_exact(4).map(fingerprint).collect();
    KnownNames::from_fingerprints(fingerprints).map(Some).map_err(damaged)
}

fn f32_from(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn f64_from(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Randomness;
    use crate::train::train;
    use proptest::prelude::*;

    fn record() -> Record {
        Record {
            program: "test".to_string(),
            case: Case::Lower,
            names: 3,
            iterations: 20,
            smoothed_loss: 1.5,
            optimizer: Algorithm::Sgd,
            learning_rate: 0.01,
            decay: Decay::None,
            weight_decay: 0.,
            clip: None,
            zero_state: false,
            backprop: "unrolled".to_string(),
            seed: "1".to_string(),
        }
    }

    /// A small saved model: its folder, its path, and what was saved.
    fn saved(dtype: DType) -> (tempfile::TempDir, std::path::PathBuf, CharRnn, Vocabulary) {
        let corpus = Corpus::parse("ana\nbob\nэмма\n".as_bytes(), "", Case::Lower).unwrap();
        let settings = Settings {
            iterations: 20,
            hidden: 4,
            dtype,
            randomness: Randomness::Seed(3),
            ..Settings::default()
        };
        let model = train(&corpus, &settings, &mut ()).unwrap().model;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save(&path, &model, corpus.vocabulary(), &record(), None).unwrap();
        (folder, path, model, corpus.vocabulary().clone())
    }

    #[test]
    fn a_loaded_model_is_the_saved_one_bit_for_bit() {
        for dtype in [DType::F32, DType::F64] {
            let (_folder, path, model, vocabulary) = saved(dtype);
            let loaded = load(&path, &Device::Cpu).unwrap();
            assert_eq!(loaded.vocabulary, vocabulary);
            assert_eq!(loaded.record, record());
            for ((name, a), (_, b)) in model.parameters().iter().zip(loaded.model.parameters()) {
                assert_eq!(a.dtype(), b.dtype());
                assert_eq!(little_endian(a).unwrap(), little_endian(b).unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn saving_leaves_no_other_file_and_the_usual_permissions() {
        let (folder, path, ..) = saved(DType::F32);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(folder.path().join("plain"), "").unwrap();
            let mode =
                |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode(path.file_name().unwrap().to_str().unwrap()), mode("plain"));
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
        let (_folder, path, ..) = saved(DType::F32);
        let good = std::fs::read(&path).unwrap();
        let changed = |key, value| refusal(&with_metadata(&good, key, value));

        assert!(refusal(b"").contains("not a char-rnn model"));
        assert!(refusal(b"anna\nbob\n").contains("not a char-rnn model"));
        assert!(refusal(&good[..good.len() - 1]).contains("cut short"));
        assert!(refusal(&good[..40]).contains("not a char-rnn model"));
        assert!(refusal(&[good.as_slice(), b"x"].concat()).contains("has grown"));
        assert!(changed("format", None).contains("but not a char-rnn model"));
        assert!(changed("format_version", Some("2")).contains("newer char-rnn"));
        assert!(changed("format_version", Some("x")).contains("damaged"));
        assert!(changed("vocabulary", Some("abc")).contains("line end"));
        assert!(changed("vocabulary", Some("\nab")).contains("does not fit"));
        assert!(changed("vocabulary", Some("\nab\u{1b}")).contains("control character '\\u{1b}'"));
        assert!(changed("vocabulary", Some("\n")).contains("no character but"));
        assert!(changed("vocabulary", None).contains("vocabulary"));
        assert!(changed("training", Some("{}")).contains("training record"));

        let mut nan = good.clone();
        let end = nan.len();
        nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refusal(&nan).contains("not finite"));
    }

    #[test]
    fn the_names_that_were_learned_come_back_and_a_damaged_list_of_them_is_refused() {
        for dtype in [DType::F32, DType::F64] {
            let (_folder, path, model, vocabulary) = saved(dtype);
            assert_eq!(load(&path, &Device::Cpu).unwrap().known, None);
            let known = KnownNames::of(["ana", "bob", "эмма"]);
            save(&path, &model, &vocabulary, &record(), Some(&known)).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(load(&path, &Device::Cpu).unwrap().known, Some(known.clone()));

            let stored: Vec<u8> =
                known.fingerprints().iter().flat_map(|f| f.to_le_bytes()).collect();
            let place = bytes.windows(stored.len()).rposition(|part| part == stored).unwrap();
            let mut damaged = bytes.clone();
            damaged[place..place + 4].fill(0xff);
            std::fs::write(&path, damaged).unwrap();
            let message = load(&path, &Device::Cpu).unwrap_err().to_string();
            assert!(message.contains("not in order"), "{message}");
        }
    }

    #[test]
    fn only_a_model_is_written_over() {
        let (folder, path, ..) = saved(DType::F32);
        check_writable(&path).unwrap();
        let letter = folder.path().join("letter.txt");
        std::fs::write(&letter, "dear").unwrap();
        assert!(check_writable(&letter).unwrap_err().to_string().contains("-o"));
        assert!(check_writable(folder.path()).is_err());
        assert!(
            check_writable(&folder.path().join("model/"))
                .unwrap_err()
                .to_string()
                .contains("folder")
        );
        let missing = check_writable(&folder.path().join("none/model")).unwrap_err().to_string();
        assert!(missing.contains("there is no folder"), "{missing}");
        assert_eq!(std::fs::read(&letter).unwrap(), b"dear");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_model_stays_a_link() {
        let (folder, path, model, vocabulary) = saved(DType::F32);
        let link = folder.path().join("latest");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let record = Record { iterations: 21, ..record() };
        save(&link, &model, &vocabulary, &record, None).unwrap();
        assert!(link.is_symlink());
        assert_eq!(load(&path, &Device::Cpu).unwrap().record, record);
    }

    proptest! {
        #[test]
        fn a_mutated_file_is_loaded_or_refused(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
            let (_folder, path, ..) = saved(DType::F32);
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
