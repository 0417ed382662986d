//! `--log`.

mod common;

use char_rnn::data::{Corpus, LetterCase};
use char_rnn::model::PARAMETERS;
use char_rnn::sample::SampledName;
use char_rnn::train::{Decay, Observer, Progress, Stats, TrainConfig, train};
use common::{Folder, Run, assert_says};
use serde_json::{Value, json};
use std::ops::ControlFlow;

const FLAGS: &str = "--hidden 6 --decay none --eval-every 10 --validation 0.3";

/// The lines of a log.
fn log(folder: &Folder, name: &str) -> Vec<Value> {
    let text = String::from_utf8(folder.read(name)).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of a log that are of iterations.
fn iterations(folder: &Folder, name: &str) -> Vec<Value> {
    log(folder, name).into_iter().filter(|line| line.get("iteration").is_some()).collect()
}

/// Names of files and folders, sorted.
fn names(folder: &Folder) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Collects the lines that a log should have.
#[derive(Default)]
struct Expected {
    corpus: Option<Corpus>,
    lines: Vec<Value>,
    next: serde_json::Map<String, Value>,
}

impl Observer for Expected {
    fn gradients(&mut self, _: &Progress, stats: &Stats) {
        let each = PARAMETERS.iter().zip(stats).map(|(name, stats)| {
            (name.to_string(), json!({"norm": stats.norm, "clipped": stats.clipped}))
        });
        self.next.insert("gradients".to_string(), Value::Object(each.collect()));
    }

    fn validation(&mut self, _: &Progress, loss: f64) {
        self.next.insert("validation".to_string(), json!(loss));
    }

    fn samples(&mut self, _: &Progress, names: &[SampledName]) {
        let vocabulary = self.corpus.as_ref().unwrap().vocabulary();
        let names: Vec<String> = names
            .iter()
            .map(|sampled| {
                let name = vocabulary.decode(&sampled.indices);
                let mut rest = name.chars();
                let first = rest.next().into_iter().flat_map(char::to_uppercase);
                first.collect::<String>() + rest.as_str()
            })
            .collect();
        self.next.insert("names".to_string(), json!(names));
    }

    fn iteration(&mut self, progress: &Progress) -> ControlFlow<()> {
        let mut line = std::mem::take(&mut self.next);
        line.insert("iteration".to_string(), json!(progress.iteration));
        line.insert("loss".to_string(), json!(progress.loss));
        line.insert("smoothed".to_string(), json!(progress.smoothed));
        self.lines.push(Value::Object(line));
        ControlFlow::Continue(())
    }
}

#[test]
fn the_log_has_the_numbers_that_an_observer_receives() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 450 {FLAGS} --log log.jsonl"));
    let corpus = Corpus::parse(b"anna\nbob\ncleo\n", "names", LetterCase::Lower).unwrap();
    let settings = TrainConfig {
        iterations: 450,
        hidden: 6,
        eval_every: 10,
        validation: 0.3,
        decay: Decay::None,
        ..TrainConfig::default()
    };
    let mut expected = Expected { corpus: Some(corpus.clone()), ..Expected::default() };
    train(&corpus, &settings, &mut expected).unwrap();
    let log = log(&folder, "log.jsonl");
    assert_eq!(log.len(), 1 + 450 + 1);
    assert!(log[1..=450] == expected.lines);
    for (key, value) in [
        ("program", json!(format!("char-rnn {}", env!("CARGO_PKG_VERSION")))),
        ("list", json!("names.txt")),
        ("names", json!(3)),
        ("list_sha256", json!(corpus.digest())),
        ("model", json!("names.safetensors")),
        ("iterations", json!(450)),
        ("iterations_done", json!(0)),
        ("hidden", json!(6)),
        ("validation", json!(0.3)),
        ("clip", json!(5.0)),
        ("backprop", json!("autograd")),
        ("seed", json!("1")),
    ] {
        assert_eq!(log[0]["settings"][key], value, "{key}");
    }
    assert_eq!(log[451], json!({"end": "done", "iterations": 450}));
    // Gradients are measured more and more rarely, and names sampled every 10 iterations.
    assert!(log[1].get("gradients").is_some() && log[450].get("gradients").is_none());
    assert!(log[11].get("names").is_some() && log[12].get("names").is_none());
}

#[test]
fn the_log_of_a_resumed_run_has_each_iteration_once() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 60 {FLAGS} --log whole -o whole.model"));
    let parts = "--log parts";
    folder.succeeds(&format!("train names.txt --iterations 25 {FLAGS} {parts}"));
    let saved = folder.read("names.safetensors");
    let resume = "train --resume names.safetensors names.txt";
    folder.succeeds(&format!("{resume} --iterations 60 {parts}"));
    assert_eq!(iterations(&folder, "parts"), iterations(&folder, "whole"));
    let settings: Vec<u64> = log(&folder, "parts")
        .iter()
        .filter_map(|line| line.get("settings")?["iterations_done"].as_u64())
        .collect();
    assert_eq!(settings, [0, 25]);

    // As if the run had been killed between 25 and 60, in the middle of a line.
    folder.write("names.safetensors", saved);
    let text = String::from_utf8(folder.read("parts")).unwrap();
    let killed = text.find("{\"iteration\":48").unwrap() + 9;
    folder.write("parts", &text[..killed]);
    let run = folder.run(&format!("{resume} --iterations 60 {parts}"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["parts is ahead of the model", "from iteration 25 on"]);
    assert_eq!(iterations(&folder, "parts"), iterations(&folder, "whole"));
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_training() {
    let folder = Folder::with_model();
    folder.write("log.jsonl", "{\"settings\":{}}\n");
    folder.write("letter", "dear\n");
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let resume = "--resume names.safetensors --iterations 310";
    for (flags, parts) in [
        ("--log log.jsonl", &["log.jsonl", "exists already", "--resume"][..]),
        ("--log letter --resume names.safetensors --iterations 310", &["letter", "not the log"]),
        ("--log names.txt", &["--log", "names.txt", "it is the list"]),
        ("--log ./names.txt", &["--log", "it is the list"]),
        ("--log names.safetensors", &["--log", "it is the model file"]),
        ("--log new.safetensors -o new.safetensors", &["--log", "it is the model file"]),
        (&format!("--log names.safetensors {resume} -o new"), &["it is the run to resume"]),
        ("--log none/log", &["none/log"]),
        ("--log run", &["run", "exists already"]),
    ] {
        assert_says(&folder.refuses(&format!("train names.txt {flags}")), parts);
    }
}

#[test]
fn a_run_that_diverges_is_logged() {
    let folder = Folder::with_names();
    let run = folder.run("train names.txt --learning-rate 1e300 --log log");
    assert_eq!(run.status, Some(2), "{run:?}");
    let log = log(&folder, "log");
    let end = log.last().unwrap();
    assert_eq!((&end["end"], &end["iterations"]), (&json!("diverged"), &json!(1)));
    assert_says(end["because"].as_str().unwrap(), &["at iteration 1"]);
    assert_eq!(names(&folder), ["log", "names.txt"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_once_and_training_continues() {
    let folder = Folder::with_names();
    let flags = "--iterations 3000 --hidden 4 --backprop hand --log /dev/full";
    let Run { status, stderr, stdout } = folder.run(&format!("train names.txt {flags}"));
    // The log cannot be opened: training does not begin.
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert_eq!(stderr.matches("No space left").count(), 1, "{stderr}");

    let run_where_files_have = |blocks: u32| {
        let limited = format!(r#"ulimit -f {blocks}; exec "$0" "$@""#);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_char-rnn")]).current_dir(folder.path());
        let flags = "--iterations 3000 --hidden 2 --samples 1 --backprop hand --notebook";
        let arguments = format!("train names.txt {flags} --log log");
        command.args(arguments.split_whitespace()).output().unwrap()
    };
    // Without any room no file is left that the next run would refuse.
    let output = run_where_files_have(0);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]), "{stderr}");
    assert_says(&stderr, &["cannot write "]);
    assert_eq!(names(&folder), ["names.txt"]);

    let output = run_where_files_have(4);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("cannot write").count(), 1, "{stderr}");
    assert_says(&stderr, &["cannot write log: ", "training continues without it"]);
    // The notebook's log is complete: reports at iterations 0 and 2000.
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches("Iteration: ").count(), 2);
}
