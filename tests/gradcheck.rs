//! The gradient check can fail: it finds a mistake in any single term of the backward pass, and
//! names exactly the tensors whose gradients are wrong. It finds none in right gradients.

use candle_core::{DType, Device};
use char_rnn::gradcheck::{
    EXACT, Gradients, Known, MISTAKES, Options, Pair, Problem, Rounding, STEP, Scope, Sizes,
    TENSORS, bound, by_step, central_differences, check, exact, planted, prove,
};
use char_rnn::train::GradientMethod;
use proptest::prelude::*;
use std::process::{Command, Output};

fn problem() -> Problem {
    Problem::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 3 }, 1).unwrap()
}

/// The clamp of the mistakes that clip, small enough that it clips some terms and all sums.
const CLIP: f64 = 0.05;

/// The gradients of each method, exact ones and central differences, each with its bound.
fn correct_gradients(problem: &Problem, dtype: DType) -> Vec<(Gradients, f64)> {
    let derived = |method| problem.derived(method, dtype, &Device::Cpu).unwrap();
    let mut all: Vec<_> =
        GradientMethod::ALL.map(|method| (derived(method), bound(dtype, false))).into();
    for scope in [Scope::All, Scope::Entries(problem.entries(1000, 1)), Scope::Directions(1)] {
        all.push((exact(problem, scope), bound(dtype, false)));
    }
    let entries = problem.entries(1000, 1);
    let differences = central_differences(problem, STEP, entries, &Rounding::default());
    all.push((differences, bound(dtype, true)));
    all
}

/// The tensors of the gradients that do not agree.
fn disagreeing(pair: &Pair) -> Vec<&'static str> {
    pair.disagreeing().into_iter().filter(|name| TENSORS.contains(name)).collect()
}

#[test]
fn the_equations_without_a_mistake_match_every_method() {
    let problem = problem();
    for (correct, bound) in correct_gradients(&problem, DType::F64) {
        let pair = Pair::of(&problem, &planted(&problem, &[], CLIP), &correct, bound);
        assert!(pair.agree, "{pair:#?}");
    }
}

#[test]
fn every_mistake_is_found_in_exactly_the_tensors_it_affects() {
    let problem = problem();
    for dtype in [DType::F64, DType::F32] {
        let correct = correct_gradients(&problem, dtype);
        for Known { mistake, tensors, .. } in MISTAKES {
            let wrong = planted(&problem, &[*mistake], CLIP);
            for (correct, bound) in &correct {
                let found = disagreeing(&Pair::of(&problem, &wrong, correct, *bound));
                assert_eq!(found, *tensors, "{mistake:?} against {}", correct.method);
            }
        }
    }
    assert!(prove(&problem).unwrap().iter().all(|planted| planted.agree && planted.has_effect));
}

#[test]
fn a_mistake_in_one_tensor_alone_is_found_in_it_alone() {
    let problem = problem();
    let right = planted(&problem, &[], CLIP);
    for Known { mistake, tensors, .. } in MISTAKES {
        let wrong = planted(&problem, &[*mistake], CLIP);
        for (i, name) in TENSORS.iter().enumerate().filter(|(_, name)| tensors.contains(name)) {
            let mut mixed = right.clone();
            mixed.values[i] = wrong.values[i].clone();
            let directions = exact(&problem, Scope::Directions(7));
            let found = disagreeing(&Pair::of(&problem, &mixed, &directions, 1e-12));
            assert_eq!(found, [*name], "{mistake:?}");
        }
    }
}

/// An error of one part in 10^11 in one entry of 2,500 is 100 times the bound of the directions.
#[test]
fn directions_find_an_error_in_a_single_entry() {
    let sizes = Sizes { hidden: 50, vocabulary: 5, steps: 6, batch: 2 };
    let problem = Problem::random(sizes, 3).unwrap();
    let right = planted(&problem, &[], CLIP);
    for seed in 0..20 {
        let directions = exact(&problem, Scope::Directions(seed));
        assert!(Pair::of(&problem, &right, &directions, 1e-12).agree);
        let norm = right.values[1].iter().map(|g| g * g).sum::<f64>().sqrt();
        let mut wrong = right.clone();
        wrong.values[1][1234 + seed as usize] += 1e-10 * norm;
        let found = disagreeing(&Pair::of(&problem, &wrong, &directions, 1e-12));
        assert_eq!(found, ["waa"], "{seed}");
    }
}

#[test]
fn a_check_compares_all_methods_entries_losses_and_states() {
    let checked = check(&problem(), DType::F64, &Device::Cpu, &Options::default()).unwrap();
    let report = &checked.report;
    assert!(report.agree && report.unrepeatable.is_empty(), "{report:#?}");
    let pair = checked.pair(["hand", EXACT]).unwrap();
    assert_eq!((pair.shared, pair.bound), ("none", 1e-12));
    let sizes: Vec<usize> = pair.tensors.iter().map(|tensor| tensor.compared).collect();
    assert_eq!(sizes, [35, 49, 35, 7, 5, 21, 1, 21]);
    assert_eq!(checked.pair(["hand", "autograd"]).unwrap().shared, "kernels");
    assert_eq!(checked.pair([EXACT, "differences"]).unwrap().shared, "reference");
    assert_eq!(report.ops.len(), 4);
    for slopes in &report.taylor {
        assert!(slopes.slopes.iter().all(|slope| (slope.unwrap() - 2.).abs() < 0.01), "{slopes:?}");
    }
}

/// Padded steps, 200 steps and sizes that no vector divides; and a batch of one, which is what
/// training takes by default.
#[test]
fn all_methods_agree_on_long_names_odd_sizes_and_one_name() {
    let options = Options { entries: Some(10), seed: 1 };
    for (hidden, vocabulary, steps, batch) in
        [(17, 9, 200, 1), (17, 9, 200, 3), (67, 257, 4, 1), (67, 257, 3, 3), (50, 27, 13, 1)]
    {
        let problem = Problem::random(Sizes { hidden, vocabulary, steps, batch }, 1).unwrap();
        for dtype in [DType::F64, DType::F32] {
            let checked = check(&problem, dtype, &Device::Cpu, &options).unwrap();
            assert!(checked.report.agree, "{:#?}", checked.worst_pair());
        }
    }
}

/// Right gradients of which rounding leaves fewer digits than the relative bound allows for: the
/// terms of 20,000 and 10,000 steps cancel, and the probabilities of 10,000 characters are tiny.
#[test]
fn right_gradients_with_few_digits_agree() {
    let options = Options { entries: Some(2), seed: 1 };
    for (dtype, [hidden, vocabulary, steps, batch], seed) in [
        (DType::F64, [2, 27, 1001, 20], 2),
        (DType::F32, [2, 27, 1001, 10], 1),
        (DType::F64, [20, 10_000, 3, 2], 1),
    ] {
        let problem = Problem::random(Sizes { hidden, vocabulary, steps, batch }, seed).unwrap();
        let checked = check(&problem, dtype, &Device::Cpu, &options).unwrap();
        assert!(checked.report.agree, "{:#?}", checked.worst_pair());
    }
}

/// The floor allows for rounding, and for no more: in 200 steps it is far below an error of one
/// part in a million.
#[test]
fn the_rounding_of_a_long_problem_hides_no_error() {
    let sizes = Sizes { hidden: 17, vocabulary: 9, steps: 200, batch: 3 };
    let checked =
        check(&Problem::random(sizes, 1).unwrap(), DType::F64, &Device::Cpu, &Options::default());
    let checked = checked.unwrap();
    for tensor in &checked.pair(["hand", "unrolled"]).unwrap().tensors {
        assert!(tensor.bound < 1e-10, "{tensor:?}");
    }
}

#[test]
fn a_nan_in_a_parameter_fails_the_check() {
    let mut parameters = problem().parameters().clone();
    parameters.by[2] = f64::NAN;
    let names = [vec![1, 2], vec![3], vec![]];
    let problem = Problem::new(parameters, &names, problem().a0().clone()).unwrap();
    let checked = check(&problem, DType::F64, &Device::Cpu, &Options::default()).unwrap();
    assert!(checked.report.pairs.iter().all(|pair| !pair.agree));
}

#[test]
fn vanishing_and_exploding_gradients_are_visible_by_step() {
    let sizes = Sizes { hidden: 30, vocabulary: 9, steps: 25, batch: 4 };
    let found = by_step(&Problem::random(sizes, 1).unwrap(), 0.5);
    let [halved, _, fourfold] = found.steps[24].of_last_loss;
    let first = found.steps[0].of_last_loss;
    assert!(halved < 1e-6 * first[0] && fourfold > 3. * first[2], "{:?}", found.steps[24]);
    for (step, back) in found.steps.iter().zip(0..) {
        assert_eq!(step.back, back);
    }
    for clamped in found.clamped {
        assert!(clamped.clamped_norm < clamped.norm && clamped.share > 0.);
    }
}

#[test]
fn errors_name_the_field() {
    let sizes = Sizes { hidden: 0, vocabulary: 5, steps: 6, batch: 3 };
    let error = Problem::random(sizes, 1).unwrap_err();
    assert_eq!(error.to_string(), "hidden cannot be 0: it must be from 1 to 2048");
    let options = Options { entries: Some(0), ..Options::default() };
    let error = check(&problem(), DType::F64, &Device::Cpu, &options).unwrap_err();
    assert_eq!(error.to_string(), "entries cannot be 0: it must be at least 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn all_methods_agree_at_any_size(
        hidden in 1usize..40,
        vocabulary in 2usize..40,
        steps in 1usize..12,
        batch in 1usize..7,
        seed: u64,
    ) {
        let problem = Problem::random(Sizes { hidden, vocabulary, steps, batch }, seed).unwrap();
        let options = Options { entries: Some(25), seed };
        for dtype in [DType::F64, DType::F32] {
            let checked = check(&problem, dtype, &Device::Cpu, &options).unwrap();
            prop_assert!(checked.report.agree, "{:#?}", checked.worst_pair());
        }
    }
}

/// Runs the program, which must exit with `status`, and returns its standard output and standard
/// error. With status 2 the former must be empty.
fn program(status: i32, command: &str, arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_char-rnn")).arg(command).args(arguments).output();
    let Output { status: found, stdout, stderr } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert_eq!(found.code(), Some(status), "{arguments:?}: {stderr}");
    assert!(status != 2 || stdout.is_empty(), "{arguments:?}: {stdout}");
    (stdout, stderr)
}

fn gradcheck(status: i32, arguments: &[&str]) -> (String, String) {
    program(status, "gradcheck", arguments)
}

const SMALL: [&str; 6] = ["--hidden", "5", "--steps", "4", "--batch", "2"];

#[test]
fn the_result_is_json_and_the_exit_status() {
    let (json, _) = gradcheck(0, &[&SMALL[..], &["--all", "--json"]].concat());
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["agree"], true);
    let checks = answer["checks"].as_array().unwrap();
    assert!(checks.len() >= 8);
    for check in checks {
        let pairs = check["pairs"].as_array().unwrap();
        assert!(pairs.iter().all(|pair| pair["tensors"].as_array().unwrap().len() >= 6));
        assert_eq!(pairs.len(), 13);
    }
}

#[test]
fn output_to_a_pipe_has_no_colour_codes() {
    let (table, stderr) = gradcheck(0, &SMALL);
    assert_eq!(stderr, "");
    assert!(table.contains("unrolled, autograd") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn a_bad_value_is_an_error_of_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("names.txt");
    std::fs::write(&list, "żółw\n").unwrap();
    for arguments in [
        &["--hidden", "0"][..],
        &["--hidden", "100000"],
        &["--steps", "0"],
        &["--batch", "0"],
        &["--vocabulary", "1"],
        &["--hidden", "2048", "--steps", "1000"],
        &["--entries", "0"],
        &["--by-step", "--clip", "0"],
        &["--against", "nowhere.npz"],
        &["--plot", "picture.pdf"],
        &["--plot", "p.svg", "--pair", "hand,hand"],
        &["--plot", "p.svg", "--pair", "hand"],
        &["--model", "nowhere.safetensors"],
    ] {
        let (_, stderr) = gradcheck(2, arguments);
        assert!(stderr.starts_with("char-rnn: ") && stderr.lines().count() == 1, "{stderr}");
    }
    for arguments in [
        &["--model", "m", "--hidden", "3"][..],
        &["names.txt"],
        &["--pair", "hand,autograd"],
        &["--all", "--dtype", "f32"],
        &["--step-sizes", "--dtype", "f32"],
        &["--prove", "--by-step"],
        &["--clip", "5"],
    ] {
        gradcheck(2, arguments);
    }
}

#[test]
fn a_trained_model_is_checked_on_names_within_its_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let model = path("model.safetensors");
    program(0, "train", &["--iterations", "300", "--hidden", "8", "--quiet", "-o", &model]);
    gradcheck(0, &["--model", &model, "--all", "--entries", "20"]);

    std::fs::write(path("names.txt"), "ana\nżółw\n").unwrap();
    let (_, stderr) = gradcheck(2, &["--model", &model, &path("names.txt")]);
    assert!(stderr.contains("'ż' is not in the vocabulary"), "{stderr}");
}

#[test]
fn pictures_are_valid_svg() {
    let folder = tempfile::tempdir().unwrap();
    let by_step = ["--by-step", "--clip", "1"];
    for more in [
        &[][..],
        &["--pair", "differences,hand"],
        &["--pair", "hand,directions"],
        &["--step-sizes"],
        &by_step,
    ] {
        let path = folder.path().join("picture.svg");
        let plot = ["--plot", path.to_str().unwrap()];
        gradcheck(0, &[&SMALL[..], &plot, more].concat());
        let text = std::fs::read_to_string(&path).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let labels = document.descendants().filter(|node| node.has_tag_name("text"));
        assert!(labels.filter_map(|label| label.text()).any(|text| text.contains("waa")));
    }
}

#[test]
fn the_error_of_differences_has_a_minimum_between_the_step_sizes() {
    let (json, _) = gradcheck(0, &[&SMALL[..], &["--step-sizes", "--json"]].concat());
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    let steps = answer["step_sizes"]["steps"].as_array().unwrap();
    let error = |at: usize, tensor: usize| steps[at]["relative_errors"][tensor].as_f64().unwrap();
    for tensor in 0..6 {
        let lowest = (0..steps.len()).map(|at| error(at, tensor)).fold(f64::INFINITY, f64::min);
        assert!(lowest < 1e-8, "{tensor}");
        assert!(error(0, tensor) > 1e4 * lowest && error(steps.len() - 1, tensor) > 1e4 * lowest);
    }
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/gradients/{name}.npz", env!("CARGO_MANIFEST_DIR"))
}

/// Files that NumPy made (`scripts/make_gradients.py`): their wrong arrays, and a part of what is
/// said of them.
#[test]
fn the_mistake_in_a_file_of_numpy_is_named() {
    const ALL: &str = "dWax, dWaa, dWya, db, dby";
    const HIDDEN: &str = "dWax, dWaa, db";
    for (file, clip, arrays, says) in [
        ("no_slope", None, HIDDEN, "the factor 1 - a_t^2 of tanh is missing"),
        ("no_carry", None, HIDDEN, "is not carried back"),
        ("carry_too_far", None, HIDDEN, "carried back one step too far"),
        ("waa_not_transposed", None, HIDDEN, "Waa is not transposed in the backward pass"),
        ("dwaa_of_same_state", None, "dWaa", "dWaa has a_t in place of a_{t-1}"),
        ("dwax_shifted", None, "dWax", "dWax has x_{t+1} in place of x_t"),
        ("no_one_hot", None, ALL, "the one-hot target is not subtracted"),
        ("mean", None, "dWax, dWaa, dWya, db, dby, loss", "the mean over the steps"),
        ("dwaa_transposed", None, "dWaa", "the array is transposed"),
        ("dwya_sign", None, "dWya", "the sign is wrong"),
        ("last_step_only", None, ALL, "only the last step contributes"),
        ("overwritten", None, ALL, "= in place of +="),
        ("clipped_steps", Some("0.2"), ALL, "each step is clipped before the sum"),
        ("a_prev_zero", None, "dWax, dWaa, dWya, db, dby, loss, a_last", "a_prev is taken as zero"),
        ("softmax_axis", None, "dWax, dWaa, dWya, db, dby, loss", "over the wrong axis"),
        ("two_mistakes", None, HIDDEN, "the backward pass, and the factor 1 - a_t^2"),
        ("clipped", None, ALL, "compare them with --clip 0.2"),
        ("right", Some("0.2"), ALL, "compare them without --clip"),
        (
            "after_update",
            None,
            "dWax, dWaa, dWya, db, dby, loss, a_last",
            "those after update_parameters",
        ),
    ] {
        let path = fixture(file);
        let clip: Vec<&str> = clip.into_iter().flat_map(|clip| ["--clip", clip]).collect();
        let arguments = [&["--against", &path], &clip[..]].concat();
        let (table, stderr) = gradcheck(1, &arguments);
        let line = table.lines().find(|line| line.starts_with(&format!("{arrays}: ")));
        assert!(line.is_some_and(|line| line.contains(says)), "{file}: {table}");
        assert_eq!(stderr, format!("char-rnn: wrong: {arrays}\n"));
        let forward = table.contains("The forward pass is wrong");
        assert_eq!(forward, arrays.contains("loss"), "{file}");
        let json = gradcheck(1, &[&arguments[..], &["--json"]].concat()).0;
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(found["diagnoses"].as_array().unwrap().len(), 1, "{file}: {json}");
        assert_eq!(
            (&found["agree"], &found["forward_agrees"]),
            (&false.into(), &(!forward).into())
        );
    }
}

#[test]
fn two_wrong_arrays_in_a_file_have_a_diagnosis_each() {
    let (table, _) = gradcheck(1, &["--against", &fixture("two_arrays")]);
    assert!(table.contains("\ndWaa: dWaa has a_t in place of a_{t-1}\n"), "{table}");
    assert!(table.contains("\ndWya: the sign is wrong\n"), "{table}");
}

#[test]
fn an_unknown_mistake_is_reported_by_its_worst_entries() {
    let (table, _) = gradcheck(1, &["--against", &fixture("unknown")]);
    assert!(table.contains("\ndWaa: no known mistake gives these numbers\n"), "{table}");
    let (json, _) = gradcheck(1, &["--against", &fixture("unknown"), "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let worst = &found["unexplained"][0]["worst"][0];
    assert_eq!(worst["at"], serde_json::json!([2, 3]));
    let value = |key: &str| worst[key].as_f64().unwrap();
    assert!((value("given") - value("right") - 0.25).abs() < 1e-12);
}

#[test]
fn right_gradients_of_numpy_are_right() {
    for arguments in [&["right"][..], &["right_f32"], &["clipped", "--clip", "0.2"]] {
        let path = fixture(arguments[0]);
        let (table, stderr) = gradcheck(0, &[&["--against", &path], &arguments[1..]].concat());
        assert!(table.ends_with("All arrays are right.\n") && stderr.is_empty(), "{table}");
    }
}

#[test]
fn a_file_that_cannot_be_compared_is_an_error_that_names_the_array() {
    let model = fixture("../seed_cells.safetensors");
    let model = model.trim_end_matches(".npz");
    for (path, says) in [
        (&fixture("misshapen")[..], "dWax is (5, 6), not (6, 5): it is transposed"),
        (&fixture("none_in_x"), "X holds Python objects, as an array with None does"),
        (&fixture("no_y"), "it has no array Y"),
        (&fixture("misspelt"), "it has an array dwax"),
        (&fixture("index_outside"), "Y[5] is 5, not an index from 0 to 4"),
        (&fixture("compressed"), "save it with np.savez, not np.savez_compressed"),
        (model, "it is no file of np.savez"),
    ] {
        let (_, stderr) = gradcheck(2, &["--against", path]);
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{path}: {stderr}");
    }
}

#[test]
fn the_proof_is_a_table_json_and_the_exit_status() {
    let (table, _) = gradcheck(0, &["--prove"]);
    let slope = table.lines().find(|line| line.contains("1 - a_t^2 of tanh is missing"));
    assert!(slope.unwrap().ends_with(" wax waa b a0"), "{table}");
    let (json, _) = gradcheck(0, &["--prove", "--json", "--batch", "1"]);
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mistakes = found["mistakes"].as_array().unwrap();
    assert_eq!((mistakes.len(), &found["agree"]), (MISTAKES.len(), &true.into()));
    // There is nothing to find in the mean over one name.
    let mean = mistakes.iter().find(|planted| planted["mistake"] == "mean_over_names").unwrap();
    assert_eq!(mean["has_effect"], false);
}

#[test]
fn gradients_by_step_are_a_table_and_json() {
    let (table, _) = gradcheck(0, &["--by-step", "--steps", "12"]);
    assert_eq!(table.lines().filter(|line| line.contains('e')).count(), 12 + 8, "{table}");
    let (json, _) = gradcheck(0, &["--by-step", "--steps", "12", "--clip", "1", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["by_step"]["steps"].as_array().unwrap().len(), 12);
    assert_eq!(found["by_step"]["clip"], 1.);
}
