//! Names that are held out are not learned, and decide which network is kept and when training
//! ends.

mod common;

use candle_core::{DType, Tensor};
use char_rnn::corpus::{Case, Corpus};
use char_rnn::eval::evaluate;
use char_rnn::model::CharRnn;
use char_rnn::optim::{Algorithm, Decay};
use char_rnn::random::Randomness;
use char_rnn::train::{Observer, Progress, Settings, Trained, Training, train};
use char_rnn::validation::Best;
use common::{Folder, assert_says};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn parse(text: &str) -> Corpus {
    Corpus::parse(text.as_bytes(), "", Case::Lower).unwrap()
}

fn numbers(model: &CharRnn) -> Vec<f64> {
    let flat = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
    model.parameters().iter().flat_map(|(_, tensor)| flat(tensor).unwrap()).collect()
}

/// Settings with which a small network soon learns its names by heart, so that those held out get
/// worse before the end.
fn overfitting() -> Settings {
    Settings {
        iterations: 2000,
        hidden: 12,
        learning_rate: 0.05,
        sample_every: 90,
        samples: 1,
        validation: 0.3,
        ..Settings::default()
    }
}

fn names() -> Corpus {
    parse("anna\nbob\ncleo\ndave\nanna\nerna\nfridolin\ngrete\nhanna\nilse\njan\n")
}

/// The names that are held out, and as indices.
fn judges(corpus: &Corpus, settings: &Settings) -> (BTreeSet<String>, Vec<Vec<u32>>) {
    let held_out = corpus.held_out(settings.validation, settings.randomness).unwrap();
    let pairs = corpus.names().iter().cloned().zip(corpus.encoded()).zip(held_out);
    pairs.filter(|(_, held_out)| *held_out).map(|(pair, _)| pair).unzip()
}

/// Remembers the names that were learned, and the held-out losses.
#[derive(Default)]
struct Witness {
    learned: BTreeSet<String>,
    losses: Vec<(u64, f64)>,
}

impl Observer for Witness {
    fn example(&mut self, _iteration: u64, _index: usize, name: &str, _characters: &[u32]) {
        self.learned.insert(name.to_string());
    }
    fn validated(&mut self, progress: &Progress, loss: f64) {
        self.losses.push((progress.iteration, loss));
    }
}

proptest! {
    #[test]
    fn the_names_held_out_are_a_share_of_the_distinct_ones_whatever_their_order(
        names in prop::collection::vec("[ab]{1,4}", 2..40).prop_shuffle(),
        share in 0.001f64..0.999,
        seed in any::<u64>(),
    ) {
        let list = names.join("\n") + "\na\nb\n";
        let corpus = parse(&list);
        let held_out = corpus.held_out(share, Randomness::Seed(seed)).unwrap();
        let side = |out: bool| -> BTreeSet<&String> {
            let pairs = corpus.names().iter().zip(&held_out);
            pairs.filter(|(_, held_out)| **held_out == out).map(|(name, _)| name).collect()
        };
        let (judges, learned) = (side(true), side(false));
        prop_assert!(judges.is_disjoint(&learned));
        let distinct = judges.len() + learned.len();
        let expected = (distinct as f64 * share).round().clamp(1., distinct as f64 - 1.);
        prop_assert_eq!(judges.len() as f64, expected);

        let mut reversed: Vec<&str> = list.lines().collect();
        reversed.reverse();
        let mirrored =
            parse(&reversed.join("\n")).held_out(share, Randomness::Seed(seed)).unwrap();
        prop_assert!(mirrored.iter().rev().eq(&held_out));
    }
}

#[test]
fn another_seed_holds_out_other_names() {
    let corpus = Corpus::dinos();
    let held_out = |seed| corpus.held_out(0.1, Randomness::Seed(seed)).unwrap();
    assert_eq!(held_out(1), held_out(1));
    assert_ne!(held_out(1), held_out(2));
    assert!(parse("ab\nab\n").held_out(0.5, Randomness::Notebook).is_err());
}

#[test]
fn the_network_that_is_kept_is_the_one_that_did_best_on_names_it_never_learned() {
    let (corpus, settings) = (names(), overfitting());
    let mut seen = Witness::default();
    let trained = train(&corpus, &settings, &mut seen).unwrap();
    let (texts, indices) = judges(&corpus, &settings);
    assert_eq!(texts.len(), 3);
    assert!(texts.is_disjoint(&seen.learned));
    let all: BTreeSet<String> = corpus.names().iter().cloned().collect();
    assert_eq!(texts.union(&seen.learned).cloned().collect::<BTreeSet<_>>(), all);

    let validation = trained.validation.as_ref().unwrap();
    let Best { iteration, loss, model } = validation.better().unwrap();
    assert!(*iteration > 0 && *loss < validation.loss, "the list is not learned by heart");
    assert_eq!(seen.losses, trained.history.validation.values());
    assert!(seen.losses.iter().all(|(_, other)| other >= loss));
    let looks_since = seen.losses.iter().filter(|(at, _)| at > iteration).count() as u64;
    assert_eq!(validation.since, looks_since);
    assert_eq!(evaluate(model, &indices).unwrap().nats_per_name(), *loss);
    assert_eq!(evaluate(&trained.model, &indices).unwrap().nats_per_name(), validation.loss);

    // It is the network of that iteration, and `chosen`.
    let short = Settings { iterations: iteration + 1, ..settings };
    let then = train(&corpus, &short, &mut ()).unwrap();
    assert_eq!(numbers(model), numbers(&then.model));
    assert_eq!(numbers(trained.chosen()), numbers(model));
    assert_ne!(numbers(&trained.model), numbers(model));
    // A run that ends while it gets better is best at its end.
    assert_eq!(numbers(then.chosen()), numbers(&then.model));
}

#[test]
fn holding_out_names_changes_nothing_but_the_list_that_is_learned() {
    let (corpus, settings) = (parse("abc\nacb\nbac\nbca\ncab\ncba\nabb\n"), overfitting());
    let (held_out, _) = judges(&corpus, &settings);
    let rest: Vec<&str> = corpus
        .names()
        .iter()
        .filter(|name| !held_out.contains(*name))
        .map(String::as_str)
        .collect();
    let alone = parse(&rest.join("\n"));
    assert_eq!(alone.vocabulary(), corpus.vocabulary());
    let with = train(&corpus, &settings, &mut ()).unwrap();
    let without = train(&alone, &Settings { validation: 0., ..settings.clone() }, &mut ()).unwrap();
    assert_eq!(numbers(&with.model), numbers(&without.model));
    assert!(without.validation.is_none());
}

#[test]
fn patience_ends_training_after_so_many_looks_that_found_nothing_better() {
    let corpus = names();
    let patient = Settings { patience: Some(3), ..overfitting() };
    let mut seen = Witness::default();
    let trained = train(&corpus, &patient, &mut seen).unwrap();
    let best = trained.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!(trained.progress.iteration, best.iteration + 3 * 90);
    assert_eq!(seen.losses.last().unwrap().0, trained.progress.iteration);
    assert!(trained.progress.iteration < 1999);

    let refusal = Training::resume(&corpus, &patient, &trained).map(|_| ()).unwrap_err();
    assert_says(&refusal.to_string(), &["--patience cannot be 3", "larger number"]);
    let more = Settings { patience: Some(5), ..patient };
    let resumed = Training::resume(&corpus, &more, &trained).unwrap().run(&mut ()).unwrap();
    let whole = train(&corpus, &more, &mut ()).unwrap();
    assert_eq!(resumed.progress, whole.progress);
    assert_eq!(numbers(resumed.chosen()), numbers(whole.chosen()));
}

#[test]
fn looks_that_found_nothing_better_are_counted_up_to_the_largest_number_and_no_further() {
    let corpus = names();
    let settings = Settings { iterations: 2, sample_every: 1, ..overfitting() };
    let mut trained = train(&corpus, &settings, &mut ()).unwrap();
    let told = trained.validation.as_mut().unwrap();
    told.best.as_mut().unwrap().loss = 0.;
    told.since = u64::MAX - 1;
    let more = Settings { iterations: 5, ..settings };
    let trained = Training::resume(&corpus, &more, &trained).unwrap().run(&mut ()).unwrap();
    assert_eq!(trained.validation.unwrap().since, u64::MAX);
}

#[test]
fn other_names_held_out_begin_the_search_for_the_best_anew() {
    let (corpus, settings) = (names(), overfitting());
    let trained =
        train(&corpus, &Settings { iterations: 500, ..settings.clone() }, &mut ()).unwrap();
    let other = Settings { validation: 0.5, iterations: 505, ..settings.clone() };
    let resumed = Training::resume(&corpus, &other, &trained).unwrap().run(&mut ()).unwrap();
    // There was no look yet, but the end.
    let best = resumed.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!(best.iteration, 504);
    assert!(resumed.history.validation.values().is_empty());
    assert_eq!(numbers(resumed.chosen()), numbers(&resumed.model));
    let none = Settings { validation: 0., iterations: 505, ..settings };
    let resumed = Training::resume(&corpus, &none, &trained).unwrap().run(&mut ()).unwrap();
    assert!(resumed.validation.is_none());
}

#[test]
fn the_same_names_held_out_are_the_same_in_another_order() {
    let (corpus, settings) = (names(), overfitting());
    let reversed: Vec<&str> = corpus.names().iter().rev().map(String::as_str).collect();
    let reversed = parse(&reversed.join("\n"));
    let short = Settings { iterations: 500, ..settings.clone() };
    let trained = train(&corpus, &short, &mut ()).unwrap();
    let before = trained.validation.as_ref().unwrap().best.as_ref().unwrap();
    let longer = Settings { iterations: 501, learning_rate: 1e-9, ..settings };
    let resumed = Training::resume(&reversed, &longer, &trained).unwrap().run(&mut ()).unwrap();
    let best = resumed.validation.as_ref().unwrap().best.as_ref().unwrap();
    assert_eq!((best.iteration, best.loss), (before.iteration, before.loss));
}

#[test]
fn a_run_that_is_made_longer_keeps_the_network_of_its_first_end_where_that_was_the_best() {
    let (corpus, settings) = (names(), overfitting());
    let short = Settings { iterations: 60, sample_every: 1000, ..settings.clone() };
    let trained = train(&corpus, &short, &mut ()).unwrap();
    let end = trained.validation.as_ref().unwrap();
    assert!(end.better().is_none() && end.best.as_ref().unwrap().iteration == 59);
    // What ruins the network is not what is kept.
    let ruined = Settings { iterations: 90, learning_rate: 3., sample_every: 1000, ..settings };
    let resumed = Training::resume(&corpus, &ruined, &trained).unwrap().run(&mut ()).unwrap();
    assert!(resumed.validation.as_ref().unwrap().loss > end.loss);
    assert_eq!(numbers(resumed.chosen()), numbers(&end.best.as_ref().unwrap().model));
}

#[test]
fn an_optimizer_that_changes_on_the_way_starts_anew() {
    let corpus = names();
    let sgd = Settings { iterations: 40, hidden: 5, ..Settings::default() };
    let adamw = Settings { optimizer: Algorithm::AdamW, learning_rate: 0.003, ..sgd.clone() };
    for (first, second) in [(&sgd, &adamw), (&adamw, &sgd)] {
        let trained = train(&corpus, first, &mut ()).unwrap();
        let more = Settings { iterations: 60, ..second.clone() };
        let resumed: Trained =
            Training::resume(&corpus, &more, &trained).unwrap().run(&mut ()).unwrap();
        assert_ne!(numbers(&trained.model), numbers(&resumed.model));
        let steps =
            resumed.carried.get("adamw.step").map(|steps| steps.to_scalar::<f64>().unwrap());
        assert_eq!(steps, (second.optimizer == Algorithm::AdamW).then_some(20.));
    }
}

#[test]
fn with_the_zero_state_a_name_costs_in_training_what_it_costs_when_it_is_judged() {
    let corpus = names();
    let settings = Settings { iterations: 300, hidden: 9, zero_state: true, ..Settings::default() };
    let trained = train(&corpus, &settings, &mut ()).unwrap();
    let one_more = Settings { iterations: 301, ..settings.clone() };
    let mut last = LastExample::default();
    let next = Training::resume(&corpus, &one_more, &trained).unwrap().run(&mut last).unwrap();
    let judged = evaluate(&trained.model, &[last.characters]).unwrap().nats_per_name();
    let loss = next.progress.loss;
    assert!((loss - judged).abs() < 1e-5 * judged, "{loss} is not {judged}");

    let carried = Settings { zero_state: false, ..settings };
    let carried = train(&corpus, &carried, &mut ()).unwrap();
    assert_ne!(numbers(&carried.model), numbers(&trained.model));
}

#[derive(Default)]
struct LastExample {
    characters: Vec<u32>,
}

impl Observer for LastExample {
    fn example(&mut self, _iteration: u64, _index: usize, _name: &str, characters: &[u32]) {
        self.characters = characters.to_vec();
    }
}

#[test]
fn a_rate_that_falls_takes_smaller_steps() {
    let corpus = names();
    let settings = Settings { iterations: 50, hidden: 5, ..Settings::default() };
    // Half the rate from the first fall on is the same as resuming with half of it.
    let falling = Settings { decay: Decay::Step { every: 30, factor: 0.5 }, ..settings.clone() };
    let first = train(&corpus, &Settings { iterations: 30, ..settings.clone() }, &mut ()).unwrap();
    let half = Settings { learning_rate: settings.learning_rate / 2., ..settings };
    let resumed = Training::resume(&corpus, &half, &first).unwrap().run(&mut ()).unwrap();
    let fallen = train(&corpus, &falling, &mut ()).unwrap();
    assert_eq!(numbers(&resumed.model), numbers(&fallen.model));
}

// The program.

const LIST: &str = "anna\nbob\ncleo\ndave\nanna\nerna\nfridolin\ngrete\nhanna\nilse\njan\n";
const OVERFIT: &str = "names.txt --hidden 12 --learning-rate 0.05 --iterations 2000 --sample-every 90 \
                       --samples 1 --validation 0.3";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.txt", LIST);
    folder
}

#[test]
fn the_program_shows_both_losses_and_saves_the_best_network() {
    let folder = folder();
    let run = folder.run(&format!("train {OVERFIT}"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["8 names, and 3 held out", "iteration 90, loss", ", held out "]);
    assert_says(&run.stderr, &["New names, after 2000 iterations", "by the network of iteration"]);
    let info: serde_json::Value =
        serde_json::from_str(&folder.succeeds("info names.safetensors --json")).unwrap();
    let held_out = &info["resume"]["held_out"];
    let best = held_out["best_iteration"].as_u64().unwrap();
    assert!(held_out["best_loss"].as_f64().unwrap() < held_out["loss"].as_f64().unwrap());
    assert_says(
        &folder.succeeds("info names.safetensors"),
        &[&format!("after iteration {best}, which is this model"), "--validation 0.3"],
    );

    // What is saved is what a run to that iteration saves.
    let short = OVERFIT.replace("--iterations 2000", &format!("--iterations {}", best + 1));
    folder.succeeds(&format!("train {short} -o short"));
    let export = |model: &str| {
        folder.succeeds(&format!("export {model} --format npz -o {model}.npz"));
        folder.read(&format!("{model}.npz"))
    };
    assert!(export("names.safetensors") == export("short"));
}

#[test]
fn a_run_with_names_held_out_goes_on_exactly_as_with_adamw_and_patience() {
    let folder = folder();
    let begin = format!("train {OVERFIT} --optimizer adamw --zero-state");
    folder.succeeds(&format!("{begin} -o whole"));
    let begin = begin.replace("--iterations 2000", "--iterations 700");
    folder.succeeds(&format!("{begin} -o parts"));
    folder.succeeds("train --resume parts names.txt --iterations 2000");
    assert!(folder.read("parts") == folder.read("whole"));

    let run = folder.run(&format!("train {OVERFIT} --patience 2 -o early"));
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stderr, &["Ended after", "the last 2 looks"]);
    // It is done, so that a new one may take its place, and it goes on with more patience alone.
    assert_says(
        &folder.refuses("train --resume early names.txt"),
        &["early: this run ended early, after ", "a larger --patience, or 0"],
    );
    folder.succeeds("train --resume early names.txt --patience 4");
    folder.succeeds(&format!("train {OVERFIT} --patience 4 -o late"));
    assert!(folder.read("early") == folder.read("late"));
}

#[test]
fn a_run_can_give_up_its_patience_or_the_names_that_it_holds_out() {
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
fn names_that_were_learned_before_they_were_held_out_are_told() {
    let folder = folder();
    folder.succeeds("train names.txt --hidden 5 --iterations 20 -o m");
    let run = folder.run("train --resume m names.txt --iterations 30 --validation 0.3 --force");
    assert_says(&run.stderr, &["they were learned in the first 20 iterations"]);
    let run = folder.run("train --resume m names.txt --iterations 40");
    assert!(!run.stderr.contains("they were learned"), "{run:?}");
}

#[test]
fn what_bends_the_course_of_a_run_is_told_though_it_needs_no_force() {
    let folder = folder();
    let begin = "train names.txt --hidden 5 --iterations 20 --validation 0.3 --decay cosine -o m";
    folder.succeeds(begin);
    folder.succeeds("train --resume m names.txt --iterations 40 --sample-every 7");
    assert_says(
        &folder.succeeds("info m"),
        &[
            "after 20 iterations: --iterations from 20 to 40",
            "after 20 iterations: --sample-every from 2000 to 7",
        ],
    );
    assert_says(
        &folder.refuses("train --resume m names.txt --epochs 4"),
        &["--epochs cannot be 4: that is 32 iterations, and 40 are done"],
    );
}

#[test]
fn epochs_are_rounds_of_the_names_that_are_learned() {
    let folder = folder();
    for (flags, iterations) in
        [("--epochs 3", 33), ("--epochs 3 --batch-size 4", 9), ("--epochs 3 --validation 0.3", 24)]
    {
        folder.succeeds(&format!("train names.txt --hidden 5 --samples 0 -o m {flags}"));
        let info = folder.succeeds("info m --json");
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["training"]["iterations"], iterations, "{flags}");
    }
}

#[test]
fn settings_that_make_no_sense_together_are_refused() {
    let folder = folder();
    folder.write("one.txt", "anna\nanna\n");
    for (flags, said) in [
        ("names.txt --validation 1", "--validation cannot be 1"),
        ("names.txt --validation -0.1", "--validation cannot be -0.1"),
        ("names.txt --validation nan", "--validation"),
        ("one.txt --validation 0.5", "no two different names"),
        ("names.txt --patience 3", "without --validation"),
        ("names.txt --epochs 0", "--epochs cannot be 0"),
        ("names.txt --epochs 18446744073709551615", "--epochs cannot be"),
        ("names.txt --epochs 1 --iterations 5", "--iterations"),
        ("names.txt --decay linear", "step:N:X"),
        ("names.txt --decay step:0:0.5", "step:N:X"),
        ("names.txt --weight-decay 0.1", "--optimizer adamw"),
        ("names.txt --weight-decay -1 --optimizer adamw", "--weight-decay cannot be -1"),
        ("names.txt --optimizer adam", "adamw"),
    ] {
        assert_says(&folder.refused(&format!("train {flags}")).stderr, &[said]);
    }
    assert!(!folder.path().join("names.safetensors").exists());
}

#[test]
fn what_makes_it_another_run_needs_force() {
    let folder = folder();
    folder.succeeds("train names.txt --hidden 5 --iterations 20");
    let resume = "train --resume names.safetensors names.txt --iterations 40";
    for (flags, said) in [
        ("--optimizer adamw", ["--optimizer sgd, not adamw", "--force"]),
        ("--validation 0.2", ["--validation 0, not 0.2", "--force"]),
        ("--zero-state", ["--zero-state off, not on", "--force"]),
    ] {
        assert_says(&folder.refuses(&format!("{resume} {flags}")), &said);
    }
    // Another course of the learning rate is as ordinary as another rate.
    folder.succeeds(&format!("{resume} --decay cosine"));
    let all = "--iterations 60 --optimizer adamw --validation 0.2 --zero-state --force";
    folder.succeeds(&format!("train --resume names.safetensors names.txt {all}"));
    assert_says(
        &folder.succeeds("info names.safetensors"),
        &[
            "after 20 iterations: --decay from none to cosine",
            "after 40 iterations: --optimizer from sgd to adamw",
            "after 40 iterations: --validation from 0 to 0.2",
            "--zero-state --optimizer adamw --weight-decay 0.01 --learning-rate 0.003",
        ],
    );
}
