//! A resumed run gives the results of one that never stopped, to the last bit; what may change on
//! resume, and what a model file holds.

mod common;

use candle_core::{DType, Device, Tensor};
use char_rnn::checkpoint::{self, Checkpoint, Run};
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::random::RngSource;
use char_rnn::sample::SampledName;
use char_rnn::train::{
    Best, Decay, GradientMethod, Observer, OptimizerKind, Progress, Stats, TrainConfig, Trained,
    Trainer, Validation,
};
use common::{Folder, assert_says, with_header};
use proptest::prelude::*;
use serde_json::Value;
use std::ops::ControlFlow;

// The library: a run that stops anywhere and resumes gives the same results.

/// Records the events of a run, and stops it after some iterations.
#[derive(Default)]
struct Recorder {
    stops: Vec<u64>,
    events: Vec<String>,
}

impl Observer for Recorder {
    fn example(&mut self, iteration: u64, index: usize, name: &str, characters: &[u32]) {
        self.events.push(format!("{iteration} {index} {name} {characters:?}"));
    }
    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let bits = (progress.loss.to_bits(), progress.smoothed.to_bits());
        self.events.push(format!("{} {bits:?}", progress.iteration));
        match self.stops.contains(&progress.iteration) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
    fn gradients(&mut self, _progress: &Progress, stats: &Stats) {
        self.events.push(format!("{stats:?}"));
    }
    fn validation(&mut self, _progress: &Progress, loss: f64) {
        self.events.push(format!("held out {loss:?}"));
    }
    fn samples(&mut self, _progress: &Progress, names: &[SampledName]) {
        self.events.push(format!("{names:?}"));
    }
}

fn parse(text: &str) -> Corpus {
    Corpus::parse(text.as_bytes(), "", LetterCase::Lower).unwrap()
}

fn new<'a>(corpus: &'a Corpus, config: &TrainConfig) -> Trainer<'a> {
    Trainer::new(corpus, config, &Device::Cpu).unwrap()
}

fn resume<'a>(
    corpus: &'a Corpus,
    config: &TrainConfig,
    trained: &Trained,
) -> char_rnn::Result<Trainer<'a>> {
    Trainer::resume(corpus, config, trained, &Device::Cpu)
}

/// The whole result of a run, with the bits of its numbers.
fn bits(trained: &Trained) -> Vec<(String, Vec<u64>)> {
    let numbers = |tensor: &Tensor| -> Vec<u64> {
        let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        flat.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
    };
    let parameters = trained.model.parameters();
    let mut bits: Vec<(String, Vec<u64>)> =
        parameters.iter().map(|(name, tensor)| (name.to_string(), numbers(tensor))).collect();
    bits.extend(trained.state.iter().map(|(name, tensor)| (name.clone(), numbers(tensor))));
    let Progress { iteration, loss, smoothed } = trained.progress;
    bits.push(("progress".to_string(), vec![iteration, loss.to_bits(), smoothed.to_bits()]));
    // Debug prints as many digits as distinguish a number from all others.
    bits.push((format!("{:?}", trained.history), vec![]));
    if let Some(Validation { names, loss, best, since_best }) = &trained.validation {
        bits.push((names.clone(), vec![loss.to_bits(), *since_best]));
        if let Some(Best { iteration, loss, model }) = best {
            bits.push(("best".to_string(), vec![*iteration, loss.to_bits()]));
            bits.extend(
                model.parameters().map(|(name, tensor)| (format!("best {name}"), numbers(tensor))),
            );
        }
    }
    bits
}

fn saved_and_loaded(trained: &Trained, config: &TrainConfig, corpus: &Corpus) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let checkpoint = Checkpoint::new(corpus, config, trained.clone());
    checkpoint::save(&path, &checkpoint).unwrap();
    checkpoint::load(&path, &Device::Cpu).unwrap().run.unwrap()
}

/// Compares a run that stops after each of `stops` with one that does not, both when it continues
/// in memory and when it resumes from a file.
fn assert_stopping_changes_nothing(corpus: &Corpus, config: &TrainConfig, stops: &[u64]) {
    let mut expected = Recorder::default();
    let whole = new(corpus, config).run(&mut expected).unwrap();
    for through_file in [false, true] {
        let mut seen = Recorder { stops: stops.to_vec(), events: vec![] };
        let mut trainer = new(corpus, config);
        let mut trained = trainer.run(&mut seen).unwrap();
        while !trainer.is_done() {
            if through_file {
                let loaded = saved_and_loaded(&trained, config, corpus);
                assert_eq!(bits(&loaded.trained), bits(&trained));
                assert_eq!((&loaded.config, loaded.list.sha256), (config, corpus.digest()));
                trainer = resume(corpus, &loaded.config, &loaded.trained).unwrap();
            }
            trained = trainer.run(&mut seen).unwrap();
        }
        assert_eq!(seen.events, expected.events, "{config:?}");
        assert_eq!(bits(&trained), bits(&whole), "{config:?}");
    }
}

#[test]
fn stopping_changes_nothing_for_any_method_optimizer_batch_size_and_number_type() {
    let corpus = parse("anna\nbob\ncleo\ndave\n");
    for (backprop, optimizer) in GradientMethod::ALL
        .into_iter()
        .flat_map(|method| OptimizerKind::ALL.map(|optimizer| (method, optimizer)))
    {
        for batch_size in [1, 3, 7] {
            for dtype in [DType::F32, DType::F64] {
                for seed in [RngSource::Seed(4), RngSource::Notebook] {
                    let config = TrainConfig {
                        iterations: 40,
                        batch_size,
                        hidden: 6,
                        eval_every: 7,
                        samples: 2,
                        // So large that the hidden state matters from the first iterations on.
                        learning_rate: 0.3,
                        validation: 0.3,
                        optimizer,
                        backprop,
                        dtype,
                        seed,
                        ..TrainConfig::default()
                    };
                    assert_stopping_changes_nothing(&corpus, &config, &[0, 1, 6, 7, 24, 38]);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn stopping_anywhere_changes_nothing_for_any_configuration(
        names in prop::collection::vec("[a-eé]{1,9}", 1..6),
        stops in prop::collection::vec(0u64..2500, 0..4),
        (iterations, batch_size, hidden) in (1u64..2500, 1usize..6, 1usize..9),
        (learning_rate, clip) in (1e-9f64..0.05, prop_oneof![1e-9f64..9., Just(f64::INFINITY)]),
        (eval_every, seed) in (1u64..900, any::<u64>()),
        (validation, patience) in (prop_oneof![Just(0.), 0.1f64..0.9], 0u64..9),
        (carry_state, factored_input) in any::<(bool, bool)>(),
        (dropout, smoothing) in (prop_oneof![Just(0.), 0.1..0.9], prop_oneof![Just(0.), 0.1..1.]),
        optimizer in prop::sample::select(&OptimizerKind::ALL[..]),
        decay in prop::sample::select(
            &[Decay::None, Decay::Cosine, Decay::Step { every: 300, factor: 0.7 }][..],
        ),
        dtype in prop::sample::select(&[DType::F32, DType::F64][..]),
    ) {
        let list = names.join("\n");
        let corpus = Corpus::parse(list.as_bytes(), "", LetterCase::Lower);
        let Ok(corpus) = corpus else { return Ok(()) };
        prop_assume!(corpus.vocabulary().size() > 2);
        // A single name cannot be held out.
        let distinct: std::collections::BTreeSet<&String> = corpus.names().iter().collect();
        let validation = if distinct.len() > 1 { validation } else { 0. };
        let config = TrainConfig {
            iterations, batch_size, hidden, learning_rate, clip, eval_every, dtype, optimizer,
            decay, carry_state, factored_input, dropout, smoothing, validation,
            patience: if validation > 0. { patience } else { 0 },
            samples: 2,
            backprop: GradientMethod::Hand,
            seed: RngSource::Seed(seed),
            ..TrainConfig::default()
        };
        assert_stopping_changes_nothing(&corpus, &config, &stops);
    }
}

#[test]
fn the_hidden_state_is_a_part_of_the_result() {
    let corpus = parse("anna\nbob\ncleo\ndave\n");
    let config = TrainConfig {
        iterations: 40,
        hidden: 6,
        learning_rate: 0.3,
        carry_state: true,
        ..TrainConfig::default()
    };
    let whole = new(&corpus, &config).run(&mut ()).unwrap();
    let mut stopped = Recorder { stops: vec![24], events: vec![] };
    let mut trained = new(&corpus, &config).run(&mut stopped).unwrap();
    trained.state.clear();
    let other = resume(&corpus, &config, &trained).unwrap().run(&mut ()).unwrap();
    assert_ne!(bits(&other), bits(&whole));
}

#[test]
fn a_run_does_not_resume_with_other_sizes_or_fewer_iterations() {
    let corpus = parse("anna\nbob\n");
    let config = TrainConfig { iterations: 9, hidden: 6, ..TrainConfig::default() };
    let trained = new(&corpus, &config).run(&mut ()).unwrap();
    let refusal = |corpus: &Corpus, config: &TrainConfig| {
        resume(corpus, config, &trained).err().unwrap().to_string()
    };
    let more = TrainConfig { iterations: 10, ..config.clone() };
    let wider = TrainConfig { hidden: 7, ..more.clone() };
    assert_says(&refusal(&corpus, &wider), &["hidden cannot be 7", "6 hidden units"]);
    assert_says(&refusal(&corpus, &config), &["iterations cannot be 9", "9 are done"]);
    let other = parse("anna\nbob\nzoe\n");
    assert_says(&refusal(&other, &more), &["characters", "cannot change"]);
}

// The program: more iterations.

/// A folder with four short names in `names.txt`.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.txt", "anna\nbob\ncleo\ndave\n");
    folder
}

const SMALL: &str =
    "names.txt --hidden 6 --learning-rate 0.3 --decay none --eval-every 7 --samples 3";

#[test]
fn a_run_in_parts_gives_the_file_and_the_notebook_log_of_one_run() {
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
            let start = format!(
                "train {SMALL} --backprop {backprop} --batch-size {batch_size} --dtype {dtype} \
                 {notebook}"
            );
            let whole = folder.succeeds(&format!("{start} --iterations 60 -o whole"));
            let mut log = folder.succeeds(&format!("{start} --iterations 1 -o parts"));
            for iterations in [22, 43, 60] {
                log += &folder
                    .succeeds(&format!("train --resume parts names.txt --iterations {iterations}"));
            }
            assert!(folder.read("parts") == folder.read("whole"), "{start}");
            assert_eq!(log == whole, !notebook.is_empty(), "new names end each part of {start}");
            assert_eq!(
                folder.succeeds("sample parts -n 20 --seed 3"),
                folder.succeeds("sample whole -n 20 --seed 3")
            );
        }
    }
}

#[test]
fn a_resumed_run_continues_the_verbose_log_of_the_notebook() {
    let folder = folder();
    let start = format!("train {SMALL} --notebook --verbose");
    let whole = folder.succeeds(&format!("{start} --iterations 9"));
    assert_says(&whole, &["j =  0 idx =  0", "j =  3 idx =  3", "j =  4 idx =  0"]);
    let first = folder.succeeds(&format!("{start} --iterations 2 -o run"));
    let rest = folder.succeeds("train --resume run names.txt --notebook --verbose --iterations 9");
    assert_eq!(first + &rest, whole);
}

#[test]
fn a_run_resumed_into_another_file_does_not_change_the_first() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o first"));
    let first = folder.read("first");
    let run = folder.run("train --resume first names.txt --iterations 30 -o second");
    assert_eq!(run.status, Some(0));
    assert_says(&run.stderr, &["Continuing after 20 of 30 iterations: 4 names", "Saved second"]);
    assert!(folder.read("first") == first);
    assert_says(&folder.succeeds("info second"), &["30 of 30 iterations"]);
}

// What may change on resume.

#[test]
fn another_list_or_configuration_is_refused_with_both_values_unless_forced() {
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
    let refusal = folder.refuses("train --resume run names.txt --iterations 30 --case keep");
    assert_says(&refusal, &["--case auto, not keep"]);
    let both = "train --resume run other.txt --iterations 30 --seed 7";
    let refusal = folder.refuses(both);
    assert_says(
        &refusal,
        &["--seed 1, not 7; NAMES 4 names of SHA-256 ", "not 5 names of SHA-256"],
    );
    folder.succeeds(&format!("{both} --force -o forced"));
    assert_says(&folder.succeeds("info forced"), &["5 names", "NAMES from 4 names of SHA-256"]);
    // Given, but equal.
    folder.succeeds(
        "train --resume run names.txt --iterations 30 --clip 5 --hidden 6 --seed 1 --dtype f32 \
         -o same",
    );
    assert!(!folder.succeeds("info same").contains("changed"));
}

#[test]
fn the_names_of_an_earlier_list_stay_known() {
    let folder = folder();
    folder.write("other.txt", "coda\nbold\nneva\n");
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.succeeds("train --resume run other.txt --iterations 30 --force -o both");
    folder.succeeds("train --resume both other.txt --iterations 40");
    let saved = checkpoint::load(&folder.path().join("both"), &Device::Cpu).unwrap();
    let known = saved.run.unwrap().known;
    for name in ["anna", "bob", "cleo", "dave", "coda", "bold", "neva"] {
        assert!(known.contains(name), "{name}");
    }
    assert!(!known.contains("adan"));
}

#[test]
fn what_the_shapes_depend_on_cannot_change_even_with_force() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.write("longer.txt", "anna\nbob\ncleo\ndave\nzoe\n");
    for force in ["", "--force"] {
        let refusal = |arguments| {
            folder.refuses(&format!("train --resume run --iterations 30 {arguments} {force}"))
        };
        let message = refusal("names.txt --hidden 7");
        assert_says(&message, &["--hidden cannot be 7", "has 6 hidden units", "cannot change"]);
        assert_says(
            &refusal("longer.txt"),
            &["run: ", "the character 'z', which the network does not have"],
        );
        assert_says(&refusal(""), &["another list than the built-in one", "--resume run NAMES"]);
    }
}

#[test]
fn a_list_with_fewer_characters_needs_force_and_keeps_the_vocabulary() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    // The last has a single character.
    for list in ["nole\nole\n", "nanna\nann\n", "aa\na\n"] {
        folder.write("fewer.txt", list);
        let resume = "train --resume run fewer.txt --iterations 30 -o fewer";
        assert_says(&folder.refuses(resume), &["NAMES 4 names", "--force"]);
        let run = folder.run(&format!("{resume} --force"));
        assert_eq!(run.status, Some(0), "{run:?}");
        let load = |name| checkpoint::load(&folder.path().join(name), &Device::Cpu).unwrap();
        assert_eq!(load("fewer").vocabulary, load("run").vocabulary);
        assert_eq!(load("fewer").run.unwrap().iterations(), 30);
    }
}

#[test]
fn another_learning_rate_needs_no_force_and_is_recorded() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    folder.succeeds("train --resume run names.txt --iterations 30 --learning-rate 0.1");
    assert_says(
        &folder.succeeds("info run"),
        &["--learning-rate 0.1 ", "after 20 iterations: --learning-rate from 0.3 to 0.1"],
    );
    // The rate stays, and so does the record of the change.
    folder.succeeds("train --resume run names.txt --iterations 40");
    assert_says(&folder.succeeds("info run"), &["--learning-rate 0.1 ", "from 0.3 to 0.1"]);
}

#[test]
fn a_diverged_run_reports_what_is_left_and_how_to_continue() {
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

    // The file of the run before stays as it is.
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let saved = folder.read("run");
    for elsewhere in ["", "-o other"] {
        let message = diverges(&format!(
            "--resume run names.txt --iterations 100 --learning-rate 1e39 {elsewhere}"
        ));
        assert_eq!(message.contains("; run is as it was"), elsewhere.is_empty(), "{message}");
        assert!(folder.read("run") == saved);
    }

    // In place of an older model: before the first checkpoint, and after.
    let message = diverges("names.txt --learning-rate 1e39 -o run");
    assert_says(&message, &["run is as it was"]);
    assert!(folder.read("run") == saved);
    let start = "names.txt --hidden 8 --samples 0 --iterations 100 --checkpoint-every 1";
    let message = diverges(&format!("{start} --learning-rate 1e38 -o run"));
    assert_says(&message, &["run holds the run after ", "the older model is kept as .run.old"]);
    assert!(folder.read(".run.old") == saved);
    // The command in the message works.
    let command = message.split("to continue from there: char-rnn ").nth(1).unwrap();
    let command = command.split(';').next().unwrap().trim();
    assert_says(command, &["train --resume run names.txt --learning-rate 5"]);
    assert_says(&folder.run(command).stderr, &["Continuing after ", " of 100 iterations"]);
    assert_says(&folder.succeeds("info run"), &["char-rnn train --resume run"]);
}

#[test]
fn a_finished_run_resumes_only_with_more_iterations() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let message = folder.refuses("train --resume run names.txt");
    assert_says(&message, &["run: ", "all 20 iterations are done", "--iterations"]);
    let message = folder.refuses("train --resume run names.txt --iterations 19");
    assert_says(&message, &["--iterations cannot be 19: ", "20 are done"]);
}

#[test]
fn invalid_flags_of_resuming_are_refused() {
    let folder = folder();
    let message = folder.refuses("train names.txt --checkpoint-every 0");
    assert_says(&message, &["--checkpoint-every cannot be 0"]);
    let message = folder.refuses("train names.txt --notebook --checkpoint-every 5");
    assert_says(&message, &["--checkpoint-every cannot be 5", "-o"]);
    assert_says(&folder.refuses("train --resume nowhere"), &["cannot read nowhere"]);
    assert_says(&folder.refuses("train --resume names.txt"), &["not a char-rnn model"]);
}

// Damaged files.

#[test]
fn a_file_whose_training_state_does_not_fit_is_refused() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 20 -o run"));
    let good = folder.read("run");
    for (what, from, to) in [
        ("an unknown field", r#"\"batch_size\":1"#, r#"\"batch_sizes\":1"#),
        ("another batch size", r#"\"batch_size\":1"#, r#"\"batch_size\":2"#),
        ("no batch", r#"\"batch_size\":1"#, r#"\"batch_size\":0"#),
        ("another history", r#"\"seen\":20"#, r#"\"seen\":19"#),
        ("an unknown method", r#"\"backprop\":\"autograd\""#, r#"\"backprop\":\"autographs\""#),
        ("a control character", r#"\"backprop\":\"autograd\""#, r#"\"backprop\":\"\\u001b[1m\""#),
    ] {
        let changed = with_header(&good, |header| {
            assert!(header.contains(from), "{what}: {header}");
            header.replacen(from, to, 1)
        });
        folder.write("changed", changed);
        for command in ["sample changed", "info changed", "train --resume changed names.txt"] {
            let message = folder.refuses(command);
            assert_says(&message, &["changed: the file is damaged: "]);
            assert!(!message.contains('\u{1b}'), "{what}: {message:?}");
        }
    }
}

// What a model file holds.

#[test]
fn info_prints_the_contents_of_a_model_as_text_and_as_json() {
    let folder = folder();
    folder.succeeds(&format!("train {SMALL} --iterations 1500 -o run"));
    let text = folder.succeeds("info run");
    // Nine letters and the end: 6 (10 + 6 + 10 + 1) + 10.
    assert_says(&text, &["6 hidden units", "10 characters", "172 parameters in f32", "abcdelnov"]);
    assert_says(
        &text,
        &["4 names", "1500 of 1500 iterations, to a smoothed loss of ", "--learning-rate 0.3"],
    );
    assert_says(&text, &["char-rnn train --resume run"]);
    let json: Value = serde_json::from_str(&folder.succeeds("info run --json")).unwrap();
    assert_eq!(json["parameters"], 172);
    assert_eq!(json["shapes"]["wax"], serde_json::json!([6, 10]));
    assert_eq!(json["config"]["iterations"], 1500);
    assert_eq!(json["progress"]["iteration"], 1499);
    let losses = json["history"]["smoothed_loss"].as_array().unwrap();
    assert_eq!((losses.len(), &losses[187][0]), (188, &1496.into()));
    let message = folder.refuses("info names.txt");
    assert_says(&message, &["names.txt: ", "not a char-rnn model"]);
}

/// Another valid value of a field than its default, small where it costs time.
fn other_value(field: &str, default: &Value) -> Value {
    match (field, default) {
        ("iterations", _) => 9.into(),
        ("hidden", _) => 5.into(),
        ("optimizer", _) => "adamw".into(),
        ("decay", _) => "step:5:0.5".into(),
        ("backprop", _) => "hand".into(),
        ("dtype", _) => "f64".into(),
        ("seed", _) => "7".into(),
        (_, Value::Bool(on)) => (!on).into(),
        (_, Value::Number(number)) if number.is_f64() => (number.as_f64().unwrap() + 0.25).into(),
        (_, Value::Number(number)) => (number.as_u64().unwrap() + 1).into(),
        _ => panic!("no other value for {field}"),
    }
}

/// The fields are those of the serialised configuration, so that no new one is left out here.
#[test]
fn every_field_of_the_configuration_is_in_the_model_file_the_log_and_info() {
    let folder = folder();
    let mut expected = TrainConfig::default().fields();
    let mut arguments = "train names.txt -o run --log log.jsonl".to_string();
    for (field, value) in &mut expected {
        *value = other_value(field, value);
        arguments += &format!(" --{}", field.replace('_', "-"));
        match value {
            Value::Bool(_) => {}
            Value::String(text) => arguments += &format!(" {text}"),
            value => arguments += &format!(" {value}"),
        }
    }
    folder.succeeds(&arguments);

    let file = folder.read("run");
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..header]).unwrap();
    let run = header["__metadata__"]["run"].as_str().unwrap();
    let run: Value = serde_json::from_str(run).unwrap();
    assert_eq!(run["config"], Value::Object(expected.clone()));

    let info: Value = serde_json::from_str(&folder.succeeds("info run --json")).unwrap();
    assert_eq!(info["config"], Value::Object(expected.clone()));
    let flags = folder.succeeds("info run");

    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    let log: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    for (field, value) in &expected {
        assert_eq!(&log["settings"][field], value, "{field} in the log");
        let flag = format!("--{}", field.replace('_', "-"));
        assert!(flags.contains(&flag), "no {flag} in {flags}");
    }
}
