//! Watching a run: the log, TensorBoard's events, and the picture, on the way and in the end.

mod common;

use char_rnn::corpus::{Case, Corpus};
use char_rnn::engine::Gradients;
use char_rnn::model::PARAMETERS;
use char_rnn::sample::Sampled;
use char_rnn::train::{Observer, Progress, Settings, train};
use common::{Folder, Run, assert_says};
use serde_json::{Value, json};
use std::ops::ControlFlow;

const FLAGS: &str = "--hidden 6 --sample-every 10 --validation 0.3";

/// The lines of a log.
fn log(folder: &Folder, name: &str) -> Vec<Value> {
    let text = String::from_utf8(folder.read(name)).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Its lines of iterations.
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

/// Tells in JSON what it is told.
#[derive(Default)]
struct Told {
    corpus: Option<Corpus>,
    lines: Vec<Value>,
    next: serde_json::Map<String, Value>,
}

impl Observer for Told {
    fn gradients(&mut self, _: &Progress, gradients: &Gradients) {
        let each = PARAMETERS.iter().zip(gradients).map(|(name, gradient)| {
            (name.to_string(), json!({"norm": gradient.norm, "clipped": gradient.clipped}))
        });
        self.next.insert("gradients".to_string(), Value::Object(each.collect()));
    }

    fn validated(&mut self, _: &Progress, loss: f64) {
        self.next.insert("validation".to_string(), json!(loss));
    }

    fn samples(&mut self, _: &Progress, names: &[Sampled]) {
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
fn the_log_is_what_training_told_number_for_number() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 450 {FLAGS} --log log.jsonl"));
    let corpus = Corpus::parse(b"anna\nbob\ncleo\n", "names", Case::Lower).unwrap();
    let settings = Settings {
        iterations: 450,
        hidden: 6,
        sample_every: 10,
        validation: 0.3,
        ..Settings::default()
    };
    let mut told = Told { corpus: Some(corpus.clone()), ..Told::default() };
    train(&corpus, &settings, &mut told).unwrap();
    let log = log(&folder, "log.jsonl");
    assert_eq!(log.len(), 1 + 450 + 1);
    assert!(log[1..=450] == told.lines, "the log is not what an observer was told");
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
    // Gradients are measured ever more rarely, and names and held-out names looked at now and then.
    assert!(log[1].get("gradients").is_some() && log[450].get("gradients").is_none());
    assert!(log[11].get("names").is_some() && log[12].get("names").is_none());
}

#[test]
fn the_log_of_a_run_in_parts_has_each_iteration_once_as_that_of_one_run_has() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 60 {FLAGS} --log whole -o whole.model"));
    let (events, parts) = ("--tensorboard events", "--log parts");
    folder.succeeds(&format!("train names.txt --iterations 25 {FLAGS} {parts} {events}"));
    let saved = folder.read("names.safetensors");
    let resume = "train --resume names.safetensors names.txt";
    folder.succeeds(&format!("{resume} --iterations 60 {parts} {events}"));
    assert_eq!(iterations(&folder, "parts"), iterations(&folder, "whole"));
    let settings: Vec<u64> = log(&folder, "parts")
        .iter()
        .filter_map(|line| line.get("settings")?["iterations_done"].as_u64())
        .collect();
    assert_eq!(settings, [0, 25]);
    assert_eq!(std::fs::read_dir(folder.path().join("events")).unwrap().count(), 2);

    // As if it had been killed on the way from 25 to 60, and at the end of a piece of a line.
    folder.write("names.safetensors", saved);
    let text = String::from_utf8(folder.read("parts")).unwrap();
    let killed = text.find("{\"iteration\":48").unwrap() + 9;
    folder.write("parts", &text[..killed]);
    let run = folder.run(&format!("{resume} --iterations 60 {parts}"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["parts went further than the model", "from iteration 25 on"]);
    assert_eq!(iterations(&folder, "parts"), iterations(&folder, "whole"));
}

#[test]
fn events_are_for_tensorboard_and_each_iteration_is_in_them() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 30 {FLAGS} --tensorboard runs/one"));
    let entries: Vec<_> =
        std::fs::read_dir(folder.path().join("runs/one")).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].file_name().to_str().unwrap().starts_with("events.out.tfevents."));
    let bytes = std::fs::read(entries[0].path()).unwrap();
    let count = |tag: &[u8]| bytes.windows(tag.len()).filter(|bytes| *bytes == tag).count();
    assert_eq!(count(b"brain.Event:2"), 1);
    assert_eq!([count(b"loss/iteration"), count(b"loss/smoothed")], [30, 30]);
    assert_eq!([count(b"loss/validation"), count(b"names")], [3, 3]);
    assert_eq!([count(b"gradient_norm/waa"), count(b"clipped/by")], [30, 30]);
}

#[test]
fn a_picture_is_drawn_of_a_run_and_the_same_from_its_model() {
    let folder = Folder::with_names();
    folder.succeeds(&format!("train names.txt --iterations 30 {FLAGS} --plot run.svg"));
    let picture = String::from_utf8(folder.read("run.svg")).unwrap();
    roxmltree::Document::parse(&picture).unwrap();
    assert_says(&picture, &["names.txt: 3 names, 30 iterations", ">held out<", ">waa<", ">20<"]);
    folder.succeeds("plot names.safetensors");
    let later = String::from_utf8(folder.read("names.svg")).unwrap();
    assert_eq!(later, picture.replacen("names.txt:", "names.safetensors:", 1));
    folder.succeeds("plot names.safetensors -o names.png");
    assert!(folder.read("names.png").starts_with(b"\x89PNG\r\n\x1a\n"));
    // Drawing again takes the place of the older picture, as training goes on.
    folder.write("names.svg", "older");
    folder.succeeds("plot names.safetensors");
    assert_eq!(folder.read("names.svg"), later.as_bytes());
}

#[test]
fn a_png_of_korean_names_says_what_an_svg_would_show() {
    let folder = Folder::new();
    folder.write("towns.txt", "서울\n부산\n대구\n");
    folder.succeeds("train towns.txt --hidden 4 --iterations 5");
    let run = folder.run("plot towns.safetensors -o towns.png");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["characters of the names", "an SVG picture shows them"]);
    let run = folder.run("plot towns.safetensors");
    assert_eq!(run.stderr, "Wrote towns.svg\n");
    let picture = String::from_utf8(folder.read("towns.svg")).unwrap();
    assert!(["서", "부", "대"].iter().any(|syllable| picture.contains(syllable)));
}

#[test]
fn a_model_without_a_history_is_not_drawn() {
    let folder = Folder::new();
    folder.write("old", include_bytes!("fixtures/model_without_resume.safetensors"));
    assert_says(&folder.refuses("plot old"), &["old", "nothing to draw"]);
    assert_says(&folder.refuses("plot none"), &["none"]);
    assert_says(&folder.refuses("plot old -o old.pdf"), &["--output", "old.pdf", ".svg or .png"]);
}

#[test]
fn a_place_that_is_taken_is_refused_before_training() {
    let folder = Folder::with_model();
    folder.write("log.jsonl", "{\"settings\":{}}\n");
    folder.write("letter", "dear\n");
    std::fs::create_dir(folder.path().join("run")).unwrap();
    folder.write("run/events.out.tfevents.1.host.1.0", "");
    let resume = "--resume names.safetensors --iterations 310";
    for (flags, parts) in [
        ("--log log.jsonl", &["log.jsonl", "there already", "--resume"][..]),
        ("--log letter --resume names.safetensors --iterations 310", &["letter", "not the log"]),
        ("--log names.txt", &["--log", "names.txt", "it is the list"]),
        ("--log ./names.txt", &["--log", "it is the list"]),
        ("--log names.safetensors", &["--log", "where the model goes"]),
        ("--log new.safetensors -o new.safetensors", &["--log", "where the model goes"]),
        (&format!("--log names.safetensors {resume} -o new"), &["the run to go on with"]),
        ("--log none/log", &["none/log"]),
        ("--log run", &["run", "there already"]),
        ("--plot a.pdf", &["--plot", "a.pdf", ".svg or .png"]),
        ("--plot none/a.svg", &["there is no folder"]),
        ("--plot a.svg --log a.svg", &["--plot", "where --log goes"]),
        ("--plot a.svg -o a.svg", &["--plot", "where the model goes"]),
        ("--tensorboard run", &["run", "another run"]),
        ("--tensorboard names.txt", &["--tensorboard", "it is the list"]),
        ("--tensorboard letter", &["letter"]),
        ("--tensorboard new --log log.jsonl", &["log.jsonl", "there already"]),
    ] {
        assert_says(&folder.refuses(&format!("train names.txt {flags}")), parts);
    }
    // And the next try finds nothing in its way.
    folder.succeeds("train names.txt --iterations 5 --tensorboard new --log new.jsonl");
}

#[test]
fn a_run_that_diverges_is_told_and_drawn_up_to_there() {
    let folder = Folder::with_names();
    let flags = "--learning-rate 1e300 --log log --plot run.svg --tensorboard run";
    let run = folder.run(&format!("train names.txt {flags}"));
    assert_eq!(run.status, Some(2), "{run:?}");
    let log = log(&folder, "log");
    let end = log.last().unwrap();
    assert_eq!((&end["end"], &end["iterations"]), (&json!("diverged"), &json!(1)));
    assert_says(end["because"].as_str().unwrap(), &["at iteration 1"]);
    assert_eq!(names(&folder), ["log", "names.txt", "run", "run.svg"]);
    assert_says(&String::from_utf8(folder.read("run.svg")).unwrap(), &["1 of 35000 iterations"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_on_a_full_disk_is_told_once_and_all_else_is_done() {
    let folder = Folder::with_names();
    let flags = "--iterations 3000 --hidden 4 --backprop hand --log /dev/full --plot run.svg";
    let Run { status, stderr, stdout } = folder.run(&format!("train names.txt {flags}"));
    // Told where it begins, there is nothing to wait for.
    assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert_eq!(stderr.matches("No space left").count(), 1, "{stderr}");

    let run_where_files_have = |blocks: u32, watched: &str| {
        let limited = format!(r#"ulimit -f {blocks}; trap "" XFSZ; exec "$0" "$@""#);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_char-rnn")]).current_dir(folder.path());
        let flags = "--iterations 3000 --hidden 2 --samples 1 --backprop hand --notebook";
        let arguments = format!("train names.txt {flags} {watched}");
        command.args(arguments.split_whitespace()).output().unwrap()
    };
    // No room at all: nothing is left that would refuse the next run.
    for watched in ["--log log", "--tensorboard run"] {
        let output = run_where_files_have(0, watched);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), &b""[..]), "{stderr}");
        assert_says(&stderr, &["cannot write "]);
    }
    assert_eq!(names(&folder), ["names.txt", "run"]);
    assert_eq!(std::fs::read_dir(folder.path().join("run")).unwrap().count(), 0);

    let output = run_where_files_have(4, "--log log --tensorboard run");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("cannot write").count(), 2, "{stderr}");
    assert_says(&stderr, &["cannot write log: ", "cannot write run/events", "goes on without it"]);
    // The notebook's log is whole: reports at iterations 0 and 2000.
    assert_eq!(String::from_utf8(output.stdout).unwrap().matches("Iteration: ").count(), 2);
}
