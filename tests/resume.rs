//! A run that is stopped, by its end, a signal or a power cut, goes on to the last bit as if it had
//! not been; and no model is ever lost.

mod common;

use candle_core::{DType, Device};
use char_rnn::checkpoint::{self, Record, Saved};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::{Backprop, Gradients};
use char_rnn::optim::{Algorithm, Decay};
use char_rnn::random::Randomness;
use char_rnn::resume::Resume;
use char_rnn::sample::Sampled;
use char_rnn::train::{Observer, Progress, Settings, Trained, Training};
use char_rnn::validation::{Best, Validation};
use common::{Folder, assert_says};
use proptest::prelude::*;
use std::ops::ControlFlow;

// The library: stopping anywhere changes nothing.

/// Remembers what it was told, and breaks after some iterations.
#[derive(Default, PartialEq, Debug)]
struct Witness {
    stops: Vec<u64>,
    told: Vec<String>,
}

impl Observer for Witness {
    fn example(&mut self, iteration: u64, index: usize, name: &str, characters: &[u32]) {
        self.told.push(format!("{iteration} {index} {name} {characters:?}"));
    }
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let bits = (progress.loss.to_bits(), progress.smoothed.to_bits());
        self.told.push(format!("{} {bits:?}", progress.iteration));
        match self.stops.contains(&progress.iteration) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
    fn gradients(&mut self, _progress: &Progress, gradients: &Gradients) {
        self.told.push(format!("{gradients:?}"));
    }
    fn validated(&mut self, _progress: &Progress, loss: f64) {
        self.told.push(format!("held out {loss:?}"));
    }
    fn samples(&mut self, _progress: &Progress, names: &[Sampled]) {
        self.told.push(format!("{names:?}"));
    }
}

/// Everything that a run left, with the bits of its numbers.
fn bits(trained: &Trained) -> Vec<(String, Vec<u64>)> {
    let numbers = |tensor: &candle_core::Tensor| -> Vec<u64> {
        let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        flat.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
    };
    let parameters = trained.model.parameters();
    let mut bits: Vec<(String, Vec<u64>)> =
        parameters.iter().map(|(name, tensor)| (name.to_string(), numbers(tensor))).collect();
    bits.extend(trained.carried.iter().map(|(name, tensor)| (name.clone(), numbers(tensor))));
    let Progress { iteration, loss, smoothed } = trained.progress;
    bits.push(("progress".to_string(), vec![iteration, loss.to_bits(), smoothed.to_bits()]));
    // A number is shown in as many digits as tell it from all others.
    bits.push((format!("{:?}", trained.history), vec![]));
    if let Some(Validation { names, loss, best, since }) = &trained.validation {
        bits.push((names.clone(), vec![loss.to_bits(), *since]));
        if let Some(Best { iteration, loss, model }) = best {
            bits.push(("best".to_string(), vec![*iteration, loss.to_bits()]));
            bits.extend(
                model.parameters().map(|(name, tensor)| (format!("best {name}"), numbers(tensor))),
            );
        }
    }
    bits
}

/// What `trained` is after a way through a file.
fn saved_and_loaded(trained: &Trained, settings: &Settings, corpus: &Corpus) -> Saved {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let record = Record::of(corpus, Case::Lower, settings, trained);
    let resume = Resume {
        settings: settings.clone(),
        trained: trained.clone(),
        list: corpus.digest(),
        changes: vec![],
    };
    checkpoint::save_run(&path, corpus.vocabulary(), &record, None, &resume).unwrap();
    let saved = checkpoint::load(&path, &Device::Cpu).unwrap();
    assert_eq!(saved.record, record);
    saved
}

/// Holds a run that is stopped after each of `stops` against one that is not, both when it goes on
/// in place and when it goes on from a file.
fn assert_stopping_changes_nothing(corpus: &Corpus, settings: &Settings, stops: &[u64]) {
    let mut expected = Witness::default();
    let whole = Training::new(corpus, settings).unwrap().run(&mut expected).unwrap();
    for through_file in [false, true] {
        let mut seen = Witness { stops: stops.to_vec(), told: vec![] };
        let mut training = Training::new(corpus, settings).unwrap();
        let mut trained = training.run(&mut seen).unwrap();
        while !training.is_done() {
            if through_file {
                let resume = saved_and_loaded(&trained, settings, corpus).resume.unwrap();
                assert_eq!(bits(&resume.trained), bits(&trained));
                assert_eq!(resume.list, corpus.digest());
                training = Training::resume(corpus, &resume.settings, &resume.trained).unwrap();
            }
            trained = training.run(&mut seen).unwrap();
        }
        assert_eq!(seen.told, expected.told, "{settings:?}");
        assert_eq!(bits(&trained), bits(&whole), "{settings:?}");
    }
}

#[test]
fn by_every_way_back_batch_size_and_number_type_stopping_changes_nothing() {
    let corpus = Corpus::parse(b"anna\nbob\ncleo\ndave\n", "", Case::Lower).unwrap();
    for (backprop, optimizer, threads) in Backprop::ALL.into_iter().flat_map(|way| {
        [(way, Algorithm::Sgd, 1), (way, Algorithm::AdamW, 1), (way, Algorithm::AdamW, 2)]
    }) {
        for batch_size in [1, 3, 7] {
            for dtype in [DType::F32, DType::F64] {
                for randomness in [Randomness::Seed(4), Randomness::Notebook] {
                    let settings = Settings {
                        iterations: 40,
                        batch_size,
                        hidden: 6,
                        sample_every: 7,
                        samples: 2,
                        // So large that the hidden state matters from the first iterations on.
                        learning_rate: 0.3,
                        validation: 0.3,
                        threads,
                        optimizer,
                        backprop,
                        dtype,
                        randomness,
                        ..Settings::default()
                    };
                    assert_stopping_changes_nothing(&corpus, &settings, &[0, 1, 6, 7, 24, 38]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wherever_a_run_of_any_settings_is_stopped_nothing_changes(
        names in prop::collection::vec("[a-eé]{1,9}", 1..6),
        stops in prop::collection::vec(0u64..2500, 0..4),
        (iterations, batch_size, hidden) in (1u64..2500, 1usize..6, 1usize..9),
        (learning_rate, clip) in (1e-9f64..0.5, prop_oneof![1e-9f64..9., Just(f64::INFINITY)]),
        (sample_every, seed) in (1u64..900, any::<u64>()),
        (validation, patience) in (prop_oneof![Just(0.), 0.1f64..0.9], prop::option::of(1u64..9)),
        (zero_state, threads) in (any::<bool>(), 1usize..4),
        optimizer in prop::sample::select(&Algorithm::ALL[..]),
        decay in prop::sample::select(
            &[Decay::None, Decay::Cosine, Decay::Step { every: 300, factor: 0.7 }][..],
        ),
        dtype in prop::sample::select(&[DType::F32, DType::F64][..]),
    ) {
        let list = names.join("\n");
        let Ok(corpus) = Corpus::parse(list.as_bytes(), "", Case::Lower) else { return Ok(()) };
        // One name cannot be held out and learned.
        let distinct: std::collections::BTreeSet<&String> = corpus.names().iter().collect();
        let validation = if distinct.len() > 1 { validation } else { 0. };
        let settings = Settings {
            iterations, batch_size, hidden, learning_rate, clip, sample_every, dtype, optimizer, decay,
            zero_state, threads, validation,
            patience: patience.filter(|_| validation > 0.),
            samples: 2,
            backprop: Backprop::Hand,
            randomness: Randomness::Seed(seed),
            ..Settings::default()
        };
        assert_stopping_changes_nothing(&corpus, &settings, &stops);
    }
}

#[test]
fn without_the_hidden_state_a_run_would_go_another_way() {
    let corpus = Corpus::parse(b"anna\nbob\ncleo\ndave\n", "", Case::Lower).unwrap();
    let settings =
        Settings { iterations: 40, hidden: 6, learning_rate: 0.3, ..Settings::default() };
    let whole = Training::new(&corpus, &settings).unwrap().run(&mut ()).unwrap();
    let mut stopped = Witness { stops: vec![24], told: vec![] };
    let mut trained = Training::new(&corpus, &settings).unwrap().run(&mut stopped).unwrap();
    trained.carried.clear();
    let other = Training::resume(&corpus, &settings, &trained).unwrap().run(&mut ()).unwrap();
    assert_ne!(bits(&other), bits(&whole));
}

#[test]
fn a_state_of_another_kind_or_shape_is_refused() {
    let corpus = Corpus::parse(b"anna\nbob\n", "", Case::Lower).unwrap();
    for backprop in Backprop::ALL {
        let settings = Settings { iterations: 9, hidden: 6, backprop, ..Settings::default() };
        let more = Settings { iterations: 10, ..settings.clone() };
        let trained = Training::new(&corpus, &settings).unwrap().run(&mut ()).unwrap();
        let resume = |trained: &Trained| Training::resume(&corpus, &more, trained).map(|_| ());
        resume(&trained).unwrap();

        let mut foreign = trained.clone();
        foreign.carried.insert("moment".to_string(), trained.carried["a"].clone());
        assert_says(&resume(&foreign).unwrap_err().to_string(), &["\"moment\""]);
        let mut wide = trained.clone();
        let zeros = candle_core::Tensor::zeros((1, 7), DType::F32, &Device::Cpu).unwrap();
        wide.carried.insert("a".to_string(), zeros);
        assert_says(&resume(&wide).unwrap_err().to_string(), &["[1, 7]", "[1, 6]"]);

        let wider = Settings { hidden: 7, ..more.clone() };
        let refusal = Training::resume(&corpus, &wider, &trained).map(|_| ()).unwrap_err();
        assert_says(&refusal.to_string(), &["--hidden cannot be 7", "6 hidden units"]);
        let refusal = Training::resume(&corpus, &settings, &trained).map(|_| ()).unwrap_err();
        assert_says(&refusal.to_string(), &["--iterations cannot be 9", "9 are done"]);
        let other = Corpus::parse(b"anna\nbob\nzoe\n", "", Case::Lower).unwrap();
        let refusal = Training::resume(&other, &more, &trained).map(|_| ()).unwrap_err();
        assert_says(&refusal.to_string(), &["characters", "cannot change"]);
    }
}

// The program: more iterations.

/// A folder with four short names in `names.txt`.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.txt", "anna\nbob\ncleo\ndave\n");
    folder
}

const SMALL: &str = "names.txt --hidden 6 --learning-rate 0.3 --sample-every 7 --samples 3";

#[test]
fn a_run_in_parts_leaves_the_same_file_and_notebook_log_as_one_run() {
    for backprop in ["unrolled", "autograd", "hand"] {
        for (batch_size, dtype, notebook) in [
            (1, "f32", ""),
            (3, "f64", ""),
            (9, "f32", ""),
            (1, "f64", "--notebook"),
            (3, "f32", "--notebook"),
            (9, "f64", "--notebook"),
        ] {
            let folder = folder();
            let begin = format!(
                "train {SMALL} --backprop {backprop} --batch-size {batch_size} --dtype {dtype} {notebook}"
            );
            let whole = folder.succeeds(&format!("{begin} --iterations 60 -o whole"));
            let mut log = folder.succeeds(&format!("{begin} --iterations 1 -o parts"));
            for iterations in [22, 43, 60] {
                log += &folder
                    .succeeds(&format!("train --resume parts names.txt --iterations {iterations}"));
            }
            assert!(folder.read("parts") == folder.read("whole"), "{begin}");
            assert_eq!(log == whole, !notebook.is_empty(), "new names end each part of {begin}");
            assert_eq!(
                folder.succeeds("sample parts -n 20 --seed 3"),
                folder.succeeds("sample whole -n 20 --seed 3")
            );
        }
    }
}

#[test]
fn the_debug_lines_of_the_notebook_go_on_too() {
    let folder = folder();
    let begin = format!("train {SMALL} --notebook --verbose");
    let whole = folder.succeeds(&format!("{begin} --iterations 9"));
    assert_says(&whole, &["j =  0 idx =  0", "j =  3 idx =  3", "j =  4 idx =  0"]);
    let first = folder.succeeds(&format!("{begin} --iterations 2 -o run"));
    let rest = folder.succeeds("train --resume run names.txt --notebook --verbose --iterations 9");
    assert_eq!(first + &rest, whole);
}

#[test]
fn a_run_that_goes_on_to_another_file_leaves_the_first_alone() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o first"));
    let first = folder.read("first");
    let run = folder.run("train --resume first names.txt --iterations 30 -o second");
    assert_eq!(run.status, Some(0));
    assert_says(&run.stderr, &["Going on after 20 of 30 iterations: 4 names", "Saved second"]);
    assert!(folder.read("first") == first);
    assert_says(&folder.succeeds("info second"), &["30 of 30 iterations"]);
}

// What may change on the way.

#[test]
fn another_list_or_other_settings_are_refused_with_both_values_unless_forced() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.write("other.txt", "anna\nbob\ncleo\ndave\nadan\n");
    for (flag, value, was) in [
        ("--clip", "3", "5"),
        ("--clip", "inf", "5"),
        ("--seed", "2", "1"),
        ("--batch-size", "2", "1"),
        ("--dtype", "f64", "f32"),
        ("--backprop", "hand", "autograd"),
    ] {
        let resume = format!("train --resume run names.txt --iterations 30 {flag} {value}");
        let refusal = folder.refuses(&resume);
        assert_says(&refusal, &["run: ", &format!("{flag} {was}, not {value}"), "--force"]);
        let forced = folder.succeeds(&format!("{resume} --force -o forced"));
        assert!(!forced.is_empty());
        let change = format!("after 20 iterations: {flag} from {was} to {value}");
        assert_says(&folder.succeeds("info forced"), &[&change]);
    }
    let refusal = folder.refuses("train --resume run names.txt --iterations 30 --keep-case");
    assert_says(&refusal, &["--keep-case off, not on"]);
    let both = "train --resume run other.txt --iterations 30 --seed 7";
    let refusal = folder.refuses(both);
    assert_says(
        &refusal,
        &["--seed 1, not 7; NAMES 4 names of SHA-256 ", "not 5 names of SHA-256"],
    );
    folder.succeeds(&format!("{both} --force -o forced"));
    assert_says(&folder.succeeds("info forced"), &["5 names", "NAMES from 4 names of SHA-256"]);
    // Given, but the same.
    folder.succeeds(
        "train --resume run names.txt --iterations 30 --clip 5 --hidden 6 --seed 1 --dtype f32 -o same",
    );
    assert!(!folder.succeeds("info same").contains("changed"));
}

#[test]
fn the_names_of_an_earlier_list_are_no_new_ones() {
    let folder = folder();
    folder.write("other.txt", "coda\nbold\nneva\n");
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.succeeds("train --resume run other.txt --iterations 30 --force -o both");
    folder.succeeds("train --resume both other.txt --iterations 40");
    let saved = checkpoint::load(&folder.path().join("both"), &Device::Cpu).unwrap();
    let known = saved.known.unwrap();
    for name in ["anna", "bob", "cleo", "dave", "coda", "bold", "neva"] {
        assert!(known.contains(name), "{name}");
    }
    assert!(!known.contains("adan"));
}

#[test]
fn what_the_shapes_depend_on_cannot_be_forced() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.write("longer.txt", "anna\nbob\ncleo\ndave\nzoe\n");
    folder.write("shorter.txt", "anna\nbob\ncleo\n");
    for force in ["", "--force"] {
        let refusal = |arguments| {
            folder.refuses(&format!("train --resume run --iterations 30 {arguments} {force}"))
        };
        let message = refusal("names.txt --hidden 7");
        assert_says(&message, &["--hidden cannot be 7", "has 6 hidden units", "cannot change"]);
        assert_says(&refusal("longer.txt"), &["run: ", "it does not know 'z'"]);
        assert_says(&refusal("shorter.txt"), &["run: ", "the list has no 'd'"]);
        assert_says(&refusal(""), &["another list than the built-in one", "--resume run NAMES"]);
    }
}

#[test]
fn another_learning_rate_needs_no_force_and_is_told() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.succeeds("train --resume run names.txt --iterations 30 --learning-rate 0.1");
    assert_says(
        &folder.succeeds("info run"),
        &["--learning-rate 0.1 ", "after 20 iterations: --learning-rate from 0.3 to 0.1"],
    );
    // It stays, and so does what is told of it.
    folder.succeeds("train --resume run names.txt --iterations 40");
    assert_says(&folder.succeeds("info run"), &["--learning-rate 0.1 ", "from 0.3 to 0.1"]);
}

#[test]
fn a_run_that_diverges_says_what_is_left_and_how_to_go_on() {
    let folder = folder();
    let diverges = |arguments: &str| {
        let run = folder.run(&format!("train {arguments} --quiet"));
        assert_eq!(run.status, Some(2), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert_says(&run.stderr, &["char-rnn: the loss became ", "a smaller --learning-rate"]);
        run.stderr
    };
    // Nothing was saved.
    let message = diverges("names.txt --learning-rate 1e39 -o run");
    assert!(!message.contains("run after"), "{message}");
    assert!(!folder.path().join("run").exists());

    // It was saved by the run before, and is left alone.
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let saved = folder.read("run");
    for elsewhere in ["", "-o other"] {
        let message = diverges(&format!(
            "--resume run names.txt --iterations 100 --learning-rate 1e39 {elsewhere}"
        ));
        assert_says(&message, &["run holds the run after 20 of 20 iterations, as it was before"]);
        assert!(folder.read("run") == saved);
    }

    // The place of an older model: before it was saved there, and after.
    let message = diverges("names.txt --learning-rate 1e39 -o run");
    assert_says(&message, &["the older model in run is as it was"]);
    assert!(folder.read("run") == saved);
    let begin = "names.txt --hidden 8 --samples 0 --iterations 100 --checkpoint-every 1";
    let message = diverges(&format!("{begin} --learning-rate 1e38 -o run"));
    assert_says(&message, &["run holds the run after ", "the older model is kept as run.old"]);
    // The command that it ends with can be given as it is.
    let command = message.split("to go on from there: char-rnn ").nth(1).unwrap();
    let command = command.split(';').next().unwrap().trim();
    assert_says(command, &["train --resume run names.txt --learning-rate 5"]);
    assert_says(&folder.run(command).stderr, &["Going on after ", " of 100 iterations"]);
    assert!(folder.read("run.old") == saved);
    assert_says(&folder.succeeds("info run"), &["char-rnn train --resume run"]);
}

#[test]
fn a_finished_run_asks_for_more_iterations() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let message = folder.refuses("train --resume run names.txt");
    assert_says(&message, &["run: ", "all 20 iterations are done", "--iterations"]);
    let message = folder.refuses("train --resume run names.txt --iterations 19");
    assert_says(&message, &["--iterations cannot be 19: ", "20 are done"]);
}

#[test]
fn a_flag_of_resuming_that_makes_no_sense_is_refused() {
    let folder = folder();
    let message = folder.refuses("train names.txt --checkpoint-every 0");
    assert_says(&message, &["--checkpoint-every cannot be 0"]);
    let message = folder.refuses("train names.txt --notebook --checkpoint-every 5");
    assert_says(&message, &["--checkpoint-every cannot be 5", "-o"]);
    assert_says(&folder.refuses("train --resume nowhere"), &["cannot read nowhere"]);
    assert_says(&folder.refuses("train --resume names.txt"), &["not a char-rnn model"]);
}

// Files without a run, and damaged ones.

/// A model that an earlier version saved: three names, four hidden units.
const WITHOUT: &[u8] = include_bytes!("fixtures/model_without_resume.safetensors");
const OLDER_NAMES: &str = "Olacob\nEl\nLbbne\n";

#[test]
fn a_model_of_an_earlier_version_is_sampled_and_shown_but_cannot_go_on() {
    let folder = Folder::with_names();
    folder.write("older", WITHOUT);
    assert_eq!(folder.succeeds("sample older -n 3 --seed 1"), OLDER_NAMES);
    assert_says(&folder.succeeds("info older"), &["4 hidden units", "300 iterations", "no: "]);
    let message = folder.refuses("train --resume older names.txt --iterations 400");
    assert_says(&message, &["older: ", "cannot go on", "a model alone"]);
    let json: serde_json::Value =
        serde_json::from_str(&folder.succeeds("info older --json")).unwrap();
    assert!(json["resume"].is_null() && json["history"].is_null());
    assert_says(json["no_resume"].as_str().unwrap(), &["a model alone"]);
}

#[test]
fn a_run_that_this_version_does_not_understand_is_sampled_but_cannot_go_on() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let good = folder.read("run");
    for (what, from, to) in [
        ("a new setting", r#"\"batch_size\":1"#, r#"\"batch_sizes\":1"#),
        ("another batch size", r#"\"batch_size\":1"#, r#"\"batch_size\":2"#),
        ("no batch", r#"\"batch_size\":1"#, r#"\"batch_size\":0"#),
        ("another history", r#"\"history_stride\":1"#, r#"\"history_stride\":3"#),
        ("a new way back", r#"\"backprop\":\"autograd\""#, r#"\"backprop\":\"autographs\""#),
        ("a foreign hand", r#"\"backprop\":\"autograd\""#, r#"\"backprop\":\"\\u001b[1m\""#),
    ] {
        let text = String::from_utf8_lossy(&good[8..]).into_owned();
        assert!(text.contains(from), "{what}: {text}");
        // The header keeps its length: its padding makes up for it.
        let at = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let mut start = [&good[..at], to.as_bytes(), &good[at + from.len()..header]].concat();
        start.resize(start.len().next_multiple_of(8), b' ');
        let length = (start.len() as u64 - 8).to_le_bytes();
        start[..8].copy_from_slice(&length);
        folder.write("changed", [&start, &good[header..]].concat());
        assert_eq!(
            folder.succeeds("sample changed -n 3 --seed 1"),
            folder.succeeds("sample run -n 3 --seed 1"),
            "{what}"
        );
        let message = folder.refuses("train --resume changed names.txt --iterations 30");
        assert_says(&message, &["changed: ", "cannot go on"]);
        // What may be a command to the terminal is shown, and not given.
        assert!(!folder.succeeds("info changed").contains('\u{1b}'), "{what}");
    }
}

// What a model file holds.

#[test]
fn info_tells_what_a_model_holds_and_json_tells_it_to_programs() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 1500 -o run"));
    let text = folder.succeeds("info run");
    // Nine letters and the end: 6 (10 + 6 + 10 + 1) + 10.
    assert_says(&text, &["6 hidden units", "10 characters", "172 parameters in f32", "abcdelnov"]);
    assert_says(&text, &["4 names", "1500 of 1500 iterations by autograd", "--learning-rate 0.3"]);
    assert_says(&text, &["█", "char-rnn train --resume run"]);
    let json: serde_json::Value =
        serde_json::from_str(&folder.succeeds("info run --json")).unwrap();
    assert_eq!(json["parameters"], 172);
    assert_eq!(json["shapes"]["wax"], serde_json::json!([6, 10]));
    assert_eq!(json["training"]["iterations"], 1500);
    assert_eq!(json["resume"]["iterations"], 1500);
    assert_eq!(json["history"]["iterations_per_point"], 2);
    assert_eq!(json["history"]["loss"].as_array().unwrap().len(), 750);
    assert_eq!(json["history"]["smoothed_loss"][749], json["training"]["smoothed_loss"]);
    let message = folder.refuses("info names.txt");
    assert_says(&message, &["names.txt: ", "not a char-rnn model"]);
}
