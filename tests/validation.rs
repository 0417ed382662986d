//! Held-out names are not trained on, and decide which network is kept and when training stops.

mod common;

use candle_core::{DType, Device, Tensor};
use char_rnn::data::{Corpus, LetterCase};
use char_rnn::eval::evaluate;
use char_rnn::model::CharRnn;
use char_rnn::random::RngSource;
use char_rnn::train::{
    Best, Decay, Observer, OptimizerKind, Progress, TrainConfig, Trained, Trainer, train,
};
use common::{Folder, assert_says};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIST: &str = "anna\nbob\ncleo\ndave\nanna\nerna\nfridolin\ngrete\nhanna\nilse\njan\n";

fn parse(text: &str) -> Corpus {
    Corpus::parse(text.as_bytes(), "", LetterCase::Lower).unwrap()
}

fn numbers(model: &CharRnn) -> Vec<f64> {
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    model.parameters().iter().flat_map(|(_, tensor)| flat(tensor).unwrap()).collect()
}

/// A configuration that overfits soon: the held-out loss rises before the end.
fn overfitting() -> TrainConfig {
    TrainConfig {
        iterations: 2000,
        hidden: 12,
        learning_rate: 0.05,
        eval_every: 90,
        samples: 1,
        validation: 0.3,
        decay: Decay::None,
        ..TrainConfig::default()
    }
}

fn names() -> Corpus {
    parse(LIST)
}

fn resume(corpus: &Corpus, config: &TrainConfig, trained: &Trained) -> Trained {
    Trainer::resume(corpus, config, trained, &Device::Cpu).unwrap().run(&mut ()).unwrap()
}

/// The held-out names, as text and as indices.
fn held_out(corpus: &Corpus, config: &TrainConfig) -> (BTreeSet<String>, Vec<Vec<u32>>) {
    let held_out = corpus.validation_split(config.validation, config.seed).unwrap();
    let pairs = corpus.names().iter().cloned().zip(corpus.encoded()).zip(held_out);
    pairs.filter(|(_, held_out)| *held_out).map(|(pair, _)| pair).unzip()
}

/// Records the names that were trained on, the last of them as indices, and the held-out losses.
#[derive(Default)]
struct Recorder {
    names: BTreeSet<String>,
    last: Vec<u32>,
    losses: Vec<(u64, f64)>,
}

impl Observer for Recorder {
    fn example(&mut self, _iteration: u64, _index: usize, name: &str, characters: &[u32]) {
        self.names.insert(name.to_string());
        self.last = characters.to_vec();
    }
    fn validation(&mut self, progress: &Progress, loss: f64) {
        self.losses.push((progress.iteration, loss));
    }
}

proptest! {
    #[test]
    fn the_held_out_names_are_a_share_of_the_distinct_ones_in_any_order(
        names in prop::collection::vec("[ab]{1,4}", 2..40).prop_shuffle(),
        share in 0.001f64..0.999,
        seed in any::<u64>(),
    ) {
        let list = names.join("\n") + "\na\nb\n";
        let corpus = parse(&list);
        let held_out = corpus.validation_split(share, RngSource::Seed(seed)).unwrap();
        let side = |out: bool| -> BTreeSet<&String> {
            let pairs = corpus.names().iter().zip(&held_out);
            pairs.filter(|(_, held_out)| **held_out == out).map(|(name, _)| name).collect()
        };
        let (out, trained_on) = (side(true), side(false));
        prop_assert!(out.is_disjoint(&trained_on));
        let distinct = out.len() + trained_on.len();
        let expected = (distinct as f64 * share).round().clamp(1., distinct as f64 - 1.);
        prop_assert_eq!(out.len() as f64, expected);

        let mut reversed: Vec<&str> = list.lines().collect();
        reversed.reverse();
        let mirrored =
            parse(&reversed.join("\n")).validation_split(share, RngSource::Seed(seed)).unwrap();
        prop_assert!(mirrored.iter().rev().eq(&held_out));
    }
}

#[test]
fn another_seed_holds_out_other_names() {
    let corpus = Corpus::dinos();
    let held_out = |seed| corpus.validation_split(0.1, RngSource::Seed(seed)).unwrap();
    assert_eq!(held_out(1), held_out(1));
    assert_ne!(held_out(1), held_out(2));
    assert!(parse("ab\nab\n").validation_split(0.5, RngSource::Notebook).is_err());
}

#[test]
fn the_network_with_the_lowest_loss_on_names_it_was_not_trained_on_is_kept() {
    let (corpus, config) = (names(), overfitting());
    let mut seen = Recorder::default();
    let trained = train(&corpus, &config, &mut seen).unwrap();
    let (texts, indices) = held_out(&corpus, &config);
    assert_eq!(texts.len(), 3);
    assert!(texts.is_disjoint(&seen.names));
    let all: BTreeSet<String> = corpus.names().iter().cloned().collect();
    assert_eq!(texts.union(&seen.names).cloned().collect::<BTreeSet<_>>(), all);

    let validation = trained.validation.as_ref().unwrap();
    let Best { iteration, loss, model } = validation.better().unwrap();
    assert!(*iteration > 0 && *loss < validation.loss, "the network does not overfit");
    assert_eq!(seen.losses, trained.history.validation.values());
    assert!(seen.losses.iter().all(|(_, other)| other >= loss));
    let since_best = seen.losses.iter().filter(|(at, _)| at > iteration).count() as u64;
    assert_eq!(validation.since_best, since_best);
    assert_eq!(evaluate(model, &indices).unwrap().nats_per_name(), *loss);
    assert_eq!(evaluate(&trained.model, &indices).unwrap().nats_per_name(), validation.loss);

    // It is the network of that iteration, and `chosen`.
    let short = TrainConfig { iterations: iteration + 1, ..config };
    let then = train(&corpus, &short, &mut ()).unwrap();
    assert_eq!(numbers(model), numbers(&then.model));
    assert_eq!(numbers(trained.chosen()), numbers(model));
    assert_ne!(numbers(&trained.model), numbers(model));
    // The loss of a run that ends there is the lowest at its end.
    assert_eq!(numbers(then.chosen()), numbers(&then.model));
}

#[test]
fn holding_out_names_only_removes_them_from_the_list() {
    let (corpus, config) = (parse("abc\nacb\nbac\nbca\ncab\ncba\nabb\n"), overfitting());
    let (held_out, _) = held_out(&corpus, &config);
    let rest = corpus.names().iter().filter(|name| !held_out.contains(*name));
    let rest: Vec<&str> = rest.map(String::as_str).collect();
    let alone = parse(&rest.join("\n"));
    assert_eq!(alone.vocabulary(), corpus.vocabulary());
    let with = train(&corpus, &config, &mut ()).unwrap();
    let without =
        train(&alone, &TrainConfig { validation: 0., ..config.clone() }, &mut ()).unwrap();
    assert_eq!(numbers(&with.model), numbers(&without.model));
    assert!(without.validation.is_none());
}

#[test]
fn patience_stops_training_after_that_many_evaluations_without_improvement() {
    let corpus = names();
    let patient = TrainConfig { patience: 3, ..overfitting() };
    let mut seen = Recorder::default();
    let trained = train(&corpus, &patient, &mut seen).unwrap();
    let best = trained.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!(trained.progress.iteration, best.iteration + 3 * 90);
    assert_eq!(seen.losses.last().unwrap().0, trained.progress.iteration);
    assert!(trained.progress.iteration < 1999);

    let refusal = Trainer::resume(&corpus, &patient, &trained, &Device::Cpu).err().unwrap();
    assert_says(&refusal.to_string(), &["patience cannot be 3", "larger number"]);
    let more = TrainConfig { patience: 5, ..patient };
    let resumed = resume(&corpus, &more, &trained);
    let whole = train(&corpus, &more, &mut ()).unwrap();
    assert_eq!(resumed.progress, whole.progress);
    assert_eq!(numbers(resumed.chosen()), numbers(whole.chosen()));
}

#[test]
fn the_count_of_evaluations_without_improvement_does_not_overflow() {
    let corpus = names();
    let config = TrainConfig { iterations: 2, eval_every: 1, ..overfitting() };
    let mut trained = train(&corpus, &config, &mut ()).unwrap();
    let validation = trained.validation.as_mut().unwrap();
    validation.best.as_mut().unwrap().loss = 0.;
    validation.since_best = u64::MAX - 1;
    let more = TrainConfig { iterations: 5, ..config };
    let trained = resume(&corpus, &more, &trained);
    assert_eq!(trained.validation.unwrap().since_best, u64::MAX);
}

#[test]
fn the_search_for_the_best_network_restarts_with_other_held_out_names() {
    let (corpus, config) = (names(), overfitting());
    let trained =
        train(&corpus, &TrainConfig { iterations: 500, ..config.clone() }, &mut ()).unwrap();
    let other = TrainConfig { validation: 0.5, iterations: 505, ..config.clone() };
    let resumed = resume(&corpus, &other, &trained);
    // There was no evaluation yet but that of the end.
    let best = resumed.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!(best.iteration, 504);
    assert!(resumed.history.validation.values().is_empty());
    assert_eq!(numbers(resumed.chosen()), numbers(&resumed.model));
    let none = TrainConfig { validation: 0., iterations: 505, ..config };
    let resumed = resume(&corpus, &none, &trained);
    assert!(resumed.validation.is_none());
}

#[test]
fn the_search_for_the_best_network_continues_with_the_list_in_another_order() {
    let (corpus, config) = (names(), overfitting());
    let reversed: Vec<&str> = corpus.names().iter().rev().map(String::as_str).collect();
    let reversed = parse(&reversed.join("\n"));
    let short = TrainConfig { iterations: 500, ..config.clone() };
    let trained = train(&corpus, &short, &mut ()).unwrap();
    let before = trained.validation.as_ref().unwrap().best.as_ref().unwrap();
    let longer = TrainConfig { iterations: 501, learning_rate: 1e-9, ..config };
    let resumed = resume(&reversed, &longer, &trained);
    let best = resumed.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!((best.iteration, best.loss), (before.iteration, before.loss));
}

#[test]
fn an_extended_run_keeps_the_network_of_its_first_end_if_that_was_the_best() {
    let (corpus, config) = (names(), overfitting());
    let short = TrainConfig { iterations: 60, eval_every: 1000, ..config.clone() };
    let trained = train(&corpus, &short, &mut ()).unwrap();
    let end = trained.validation.as_ref().unwrap();
    assert!(end.better().is_none() && end.best.as_ref().unwrap().iteration == 59);
    // Steps of this size ruin the network.
    let ruined = TrainConfig { iterations: 90, learning_rate: 3., eval_every: 1000, ..config };
    let resumed = resume(&corpus, &ruined, &trained);
    assert!(resumed.validation.as_ref().unwrap().loss > end.loss);
    assert_eq!(numbers(resumed.chosen()), numbers(&end.best.as_ref().unwrap().model));
}

#[test]
fn a_changed_optimizer_starts_from_its_initial_state() {
    let corpus = names();
    let sgd = TrainConfig { iterations: 40, hidden: 5, ..TrainConfig::default() };
    let adamw =
        TrainConfig { optimizer: OptimizerKind::AdamW, learning_rate: 0.003, ..sgd.clone() };
    for (first, second) in [(&sgd, &adamw), (&adamw, &sgd)] {
        let trained = train(&corpus, first, &mut ()).unwrap();
        let more = TrainConfig { iterations: 60, ..second.clone() };
        let resumed: Trained = resume(&corpus, &more, &trained);
        assert_ne!(numbers(&trained.model), numbers(&resumed.model));
        let steps = resumed.state.get("adamw.step").map(|steps| steps.to_scalar::<f64>().unwrap());
        assert_eq!(steps, (second.optimizer == OptimizerKind::AdamW).then_some(20.));
    }
}

#[test]
fn the_training_loss_from_the_zero_state_is_that_of_an_evaluation() {
    let corpus = names();
    let config = TrainConfig { iterations: 300, hidden: 9, ..TrainConfig::default() };
    let trained = train(&corpus, &config, &mut ()).unwrap();
    let one_more = TrainConfig { iterations: 301, ..config.clone() };
    let mut seen = Recorder::default();
    let mut trainer = Trainer::resume(&corpus, &one_more, &trained, &Device::Cpu).unwrap();
    let loss = trainer.run(&mut seen).unwrap().progress.loss;
    let evaluated = evaluate(&trained.model, &[seen.last]).unwrap().nats_per_name();
    assert!((loss - evaluated).abs() < 1e-5 * evaluated, "{loss} is not {evaluated}");

    let from_last_state = TrainConfig { carry_state: true, ..config };
    let from_last_state = train(&corpus, &from_last_state, &mut ()).unwrap();
    assert_ne!(numbers(&from_last_state.model), numbers(&trained.model));
}

#[test]
fn step_decay_is_the_same_as_resuming_with_the_reduced_rate() {
    let corpus = names();
    let config =
        TrainConfig { iterations: 50, hidden: 5, decay: Decay::None, ..TrainConfig::default() };
    let falling = TrainConfig { decay: Decay::Step { every: 30, factor: 0.5 }, ..config.clone() };
    let first = train(&corpus, &TrainConfig { iterations: 30, ..config.clone() }, &mut ()).unwrap();
    let half = TrainConfig { learning_rate: config.learning_rate / 2., ..config };
    let resumed = resume(&corpus, &half, &first);
    let fallen = train(&corpus, &falling, &mut ()).unwrap();
    assert_eq!(numbers(&resumed.model), numbers(&fallen.model));
}

// The program.

const OVERFIT: &str = "names.txt --hidden 12 --learning-rate 0.05 --decay none --iterations 2000 \
                       --eval-every 90 --samples 1 --validation 0.3";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.txt", LIST);
    folder
}

#[test]
fn the_program_prints_both_losses_and_saves_the_best_network() {
    let folder = folder();
    let run = folder.run(&format!("train {OVERFIT}"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["8 names, and 3 held out", "iteration 90, loss", ", held out "]);
    assert_says(
        &run.stderr,
        &["New names, after 2000 iterations", "; by the best network, of iteration "],
    );
    let info: serde_json::Value =
        serde_json::from_str(&folder.succeeds("info names.safetensors --json")).unwrap();
    let validation = &info["validation"];
    let best = validation["best_iteration"].as_u64().unwrap();
    assert!(validation["best_loss"].as_f64().unwrap() < validation["loss"].as_f64().unwrap());
    assert_says(
        &folder.succeeds("info names.safetensors"),
        &[&format!("after iteration {best}, which is this model"), "--validation 0.3"],
    );

    // The same model as that of a run to that iteration.
    let short = OVERFIT.replace("--iterations 2000", &format!("--iterations {}", best + 1));
    folder.succeeds(&format!("train {short} -o short"));
    let export = |model: &str| {
        folder.succeeds(&format!("export {model} --format npz -o {model}.npz"));
        folder.read(&format!("{model}.npz"))
    };
    assert!(export("names.safetensors") == export("short"));
}

#[test]
fn a_resumed_run_with_validation_adamw_and_patience_gives_the_same_file() {
    let folder = folder();
    let start = format!("train {OVERFIT} --optimizer adamw --carry-state");
    folder.succeeds(&format!("{start} -o whole"));
    let start = start.replace("--iterations 2000", "--iterations 700");
    folder.succeeds(&format!("{start} -o parts"));
    folder.succeeds("train --resume parts names.txt --iterations 2000");
    assert!(folder.read("parts") == folder.read("whole"));

    let run = folder.run(&format!("train {OVERFIT} --patience 2 -o early"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["Stopped early, after ", ": 2 evaluations without improvement"]);
    // It is done: a new run may replace it, and only more patience resumes it.
    assert_says(
        &folder.refuses("train --resume early names.txt"),
        &["early: this run stopped early, after ", "a larger --patience, or 0"],
    );
    folder.succeeds("train --resume early names.txt --patience 4");
    folder.succeeds(&format!("train {OVERFIT} --patience 4 -o late"));
    assert!(folder.read("early") == folder.read("late"));
}

#[test]
fn a_run_that_stopped_early_resumes_without_patience_or_without_validation() {
    let folder = folder();
    folder.succeeds(&format!("train {OVERFIT} --patience 2 -o early"));
    let early = folder.read("early");
    folder.succeeds("train --resume early names.txt --patience 0");
    assert_says(&folder.succeeds("info early"), &["2000 of 2000 iterations"]);
    folder.write("early", early);
    folder.succeeds("train --resume early names.txt --validation 0 --force");
    assert_says(&folder.succeeds("info early"), &["--validation from 0.3 to 0"]);
}

#[test]
fn the_program_warns_about_held_out_names_that_were_trained_on_before() {
    let folder = folder();
    folder.succeeds("train names.txt --hidden 5 --iterations 20 -o m");
    let run = folder.run("train --resume m names.txt --iterations 30 --validation 0.3 --force");
    assert_says(&run.stderr, &["the first 20 iterations trained on them"]);
    let run = folder.run("train --resume m names.txt --iterations 40");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(!run.stderr.contains("trained on them"), "{run:?}");
}

#[test]
fn changes_that_affect_the_results_are_recorded_even_without_force() {
    let folder = folder();
    let start = "train names.txt --hidden 5 --iterations 20 --validation 0.3 --decay cosine -o m";
    folder.succeeds(start);
    folder.succeeds("train --resume m names.txt --iterations 40 --eval-every 7");
    assert_says(
        &folder.succeeds("info m"),
        &[
            "after 20 iterations: --iterations from 20 to 40",
            "after 20 iterations: --eval-every from 1 to 7",
        ],
    );
    assert_says(
        &folder.refuses("train --resume m names.txt --epochs 4"),
        &["--epochs cannot be 4: that is 32 iterations, and 40 are done"],
    );
}

#[test]
fn epochs_are_passes_over_the_names_that_are_not_held_out() {
    let folder = folder();
    for (flags, iterations) in
        [("--epochs 3", 33), ("--epochs 3 --batch-size 4", 9), ("--epochs 3 --validation 0.3", 24)]
    {
        folder.succeeds(&format!("train names.txt --hidden 5 --samples 0 -o m {flags}"));
        let info = folder.succeeds("info m --json");
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["config"]["iterations"], iterations, "{flags}");
    }
}

#[test]
fn invalid_values_and_combinations_are_refused() {
    let folder = folder();
    folder.write("one.txt", "anna\nanna\n");
    for (flags, message) in [
        ("names.txt --validation 1", "--validation cannot be 1"),
        ("names.txt --validation -0.1", "--validation cannot be -0.1"),
        ("names.txt --validation nan", "--validation"),
        ("one.txt --validation 0.5", "two different names: leave --validation away"),
        ("names.txt --patience 3", "give --validation too"),
        ("names.txt --epochs 0", "--epochs cannot be 0"),
        ("names.txt --epochs 18446744073709551615", "--epochs cannot be"),
        ("names.txt --epochs 1 --iterations 5", "--iterations"),
        ("names.txt --decay linear", "step:N:X"),
        ("names.txt --decay step:0:0.5", "step:N:X"),
        ("names.txt --weight-decay 0.1", "--optimizer adamw"),
        ("names.txt --weight-decay -1 --optimizer adamw", "--weight-decay cannot be -1"),
        ("names.txt --optimizer adam", "adamw"),
    ] {
        assert_says(&folder.refused(&format!("train {flags}")).stderr, &[message]);
    }
    assert!(!folder.path().join("names.safetensors").exists());
}

#[test]
fn what_makes_it_another_run_needs_force() {
    let folder = folder();
    folder.succeeds("train names.txt --hidden 5 --iterations 20 --decay none");
    let resume = "train --resume names.safetensors names.txt --iterations 40";
    for (flags, message) in [
        ("--optimizer adamw", ["--optimizer sgd, not adamw", "--force"]),
        ("--validation 0.2", ["--validation 0, not 0.2", "--force"]),
        ("--carry-state", ["--carry-state off, not on", "--force"]),
    ] {
        assert_says(&folder.refuses(&format!("{resume} {flags}")), &message);
    }
    folder.succeeds("train names.txt --hidden 5 --iterations 20 --carry-state -o carried");
    let refusal = folder.refuses("train --resume carried names.txt --iterations 40 --zero-state");
    assert_says(&refusal, &["--carry-state on, not off"]);
    // The schedule may change as freely as the rate.
    folder.succeeds(&format!("{resume} --decay cosine"));
    let all = "--iterations 60 --optimizer adamw --validation 0.2 --carry-state --force";
    folder.succeeds(&format!("train --resume names.safetensors names.txt {all}"));
    assert_says(
        &folder.succeeds("info names.safetensors"),
        &[
            "after 20 iterations: --decay from none to cosine",
            "after 40 iterations: --optimizer from sgd to adamw",
            "after 40 iterations: --validation from 0 to 0.2",
            "--carry-state --eval-every 1 --hidden 5 --iterations 60 --learning-rate 0.003 \
             --optimizer adamw",
        ],
    );
}

#[test]
fn the_settings_that_best_prints_give_the_same_model_by_hand() {
    let folder = folder();
    let run =
        folder.run("train --best names.txt --hidden 20 --factored-input --dropout 0.2 -o best");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["On 3 held-out names: ", "counting (a Kneser-Ney ", "Saved best"]);
    let settings = run.stderr.lines().find_map(|line| line.strip_prefix("Settings: ")).unwrap();
    assert_says(settings, &["--hidden 20", "--factored-input", "--dropout 0.2"]);
    folder.succeeds(&format!("train names.txt {settings} -o by-hand"));
    assert!(folder.read("best") == folder.read("by-hand"));
    for flag in ["--validation 0.1", "--patience 3"] {
        assert_says(&folder.misused(&format!("train --best names.txt {flag}")), &["--best"]);
    }
}

#[test]
fn best_trains_its_candidates_as_long_as_the_flags_say_and_equal_ones_once() {
    let folder = folder();
    let run = folder.run("train --best names.txt --epochs 2 --backprop hand --hidden 9 -o best");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert!(
        run.stderr.contains("Training on 11 names: 17 characters, 9 hidden units, "),
        "{run:?}"
    );
    let settings = run.stderr.lines().find_map(|line| line.strip_prefix("Settings: ")).unwrap();
    let asked = ["--iterations 3", "--iterations 22"];
    assert!(asked.iter().any(|iterations| settings.contains(iterations)), "{settings}");
    assert_says(&folder.refuses("train --best names.txt --epochs 0"), &["--epochs cannot be 0"]);
    folder.write("log", "");
    assert_says(&folder.refuses("train --best names.txt --log log"), &["exists already"]);
    // After a moment, also where standard error is no terminal.
    let run =
        folder.run("train --best names.txt --iterations 30000 --hidden 9 --samples 0 -o long");
    assert_eq!(run.stderr.matches("This takes about").count(), 1, "{run:?}");
}

#[test]
fn a_run_whose_loss_has_exploded_is_stopped_and_the_older_model_stays() {
    let folder = folder();
    folder.succeeds("train names.txt --iterations 50 --hidden 9");
    let model = folder.read("names.safetensors");
    let run = folder.run("train names.txt --learning-rate 3 --decay none");
    assert_eq!(run.status, Some(2), "{run:?}");
    assert_says(
        &run.stderr,
        &["the smoothed loss became ", "a smaller --learning-rate", "as it was"],
    );
    assert!(folder.read("names.safetensors") == model);
}

#[test]
fn a_held_out_loss_is_reported_beside_that_of_counting() {
    let folder = folder();
    let run = folder.run("train names.txt --iterations 100 --hidden 9 --validation 0.3");
    assert_says(&run.stderr, &["held-out names: ", "nats a character; counting"]);
    let json = folder.succeeds("eval names.safetensors names.txt --baseline names.txt --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["baseline"]["nats_per_character"].as_f64().unwrap() < 2.5, "{json}");
    assert_eq!(json["likeness"]["sampled"], 1000);
    folder.write("more.txt", format!("{LIST}xyz\n"));
    let run = folder.run("eval names.safetensors names.txt --baseline names.txt");
    let parts = ["by a Kneser-Ney ", "distance of first letters", "distance of lengths"];
    assert_says(&run.stdout, &parts);
    assert_says(&run.stderr, &["counts all 11 names, of which a share of 0.3 was held out"]);
    let run = folder.run("eval names.safetensors names.txt --baseline more.txt");
    assert_says(&run.stderr, &["1 of 12 names were left out in counting", "'x' in 1"]);
    assert!(!run.stderr.contains("held out"), "{run:?}");
}
