//! The gradient check through the library and the program. The tests of
//! `src/gradcheck/against/explain.rs` show that it finds each known mistake.

use candle_core::{DType, Device};
use char_rnn::gradcheck::{Options, Pair, Problem, Report, Sizes, check};
use char_rnn::reference::Parameters;
use proptest::prelude::*;
use std::process::{Command, Output};

fn problem() -> Problem {
    Problem::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 3 }, 1).unwrap()
}

/// The pair of these two methods.
fn pair<'a>(report: &'a Report, methods: [&str; 2]) -> &'a Pair {
    report.pairs.iter().find(|pair| pair.methods == methods).unwrap()
}

/// The pairs that do not agree.
fn failing(report: &Report) -> Vec<&Pair> {
    report.pairs.iter().filter(|pair| !pair.agree).collect()
}

#[test]
fn a_check_compares_all_methods_tensors_losses_and_states() {
    let report = check(&problem(), DType::F64, &Device::Cpu, &Options::default()).unwrap();
    assert!(report.agree && report.unrepeatable.is_empty(), "{report:#?}");
    let exact = pair(&report, ["hand", "exact"]);
    assert_eq!((exact.shared, exact.bound), ("none", 1e-12));
    let sizes: Vec<usize> = exact.tensors.iter().map(|tensor| tensor.compared).collect();
    assert_eq!(sizes, [35, 49, 35, 7, 5, 21, 1, 21]);
    assert_eq!(pair(&report, ["autograd", "hand"]).shared, "kernels");
    assert_eq!(pair(&report, ["exact", "differences"]).shared, "reference");
    assert!(report.shown().iter().all(|tensor| tensor.whole.is_none()));
    let options = Options { whole: true, ..Options::default() };
    let report = check(&problem(), DType::F64, &Device::Cpu, &options).unwrap();
    let whole = report.shown().iter().map(|tensor| tensor.whole.as_ref().unwrap()[0].len());
    assert_eq!(whole.collect::<Vec<_>>(), sizes);
}

/// Padded steps, 200 steps and sizes that no vector divides; and a batch of one, which is what
/// training takes by default.
#[test]
fn all_methods_agree_on_long_names_odd_sizes_and_one_name() {
    let options = Options { seed: 1, ..Options::default() };
    for (hidden, vocabulary, steps, batch) in
        [(17, 9, 200, 1), (17, 9, 200, 3), (67, 257, 4, 1), (67, 257, 3, 3), (50, 27, 13, 1)]
    {
        let problem = Problem::random(Sizes { hidden, vocabulary, steps, batch }, 1).unwrap();
        for dtype in [DType::F64, DType::F32] {
            let report = check(&problem, dtype, &Device::Cpu, &options).unwrap();
            assert!(report.agree, "{:#?}", failing(&report));
        }
    }
}

/// Right gradients of which rounding leaves fewer digits than the relative bound allows for: the
/// terms of 20,000 and 10,000 steps cancel, and the probabilities of 10,000 characters are tiny.
#[test]
fn right_gradients_with_few_digits_agree() {
    let options = Options { seed: 1, ..Options::default() };
    for (dtype, [hidden, vocabulary, steps, batch], seed) in [
        (DType::F64, [2, 27, 1001, 20], 2),
        (DType::F32, [2, 27, 1001, 10], 1),
        (DType::F64, [20, 10_000, 3, 2], 1),
    ] {
        let problem = Problem::random(Sizes { hidden, vocabulary, steps, batch }, seed).unwrap();
        let report = check(&problem, dtype, &Device::Cpu, &options).unwrap();
        assert!(report.agree, "{:#?}", failing(&report));
    }
}

/// The floor allows for rounding, and for no more: in 200 steps it is far below an error of one
/// part in a million.
#[test]
fn the_rounding_of_a_long_problem_hides_no_error() {
    let sizes = Sizes { hidden: 17, vocabulary: 9, steps: 200, batch: 3 };
    let problem = Problem::random(sizes, 1).unwrap();
    let report = check(&problem, DType::F64, &Device::Cpu, &Options::default()).unwrap();
    for tensor in &pair(&report, ["unrolled", "hand"]).tensors {
        assert!(tensor.bound < 1e-10, "{tensor:?}");
    }
}

#[test]
fn a_nan_in_a_parameter_fails_the_check() {
    let mut parameters = Parameters::zeros(7, 5);
    parameters.by[2] = f64::NAN;
    let problem = Problem::new(parameters, &[vec![1, 2], vec![]], vec![vec![0.5; 7]; 2]).unwrap();
    let report = check(&problem, DType::F64, &Device::Cpu, &Options::default()).unwrap();
    assert!(report.pairs.iter().all(|pair| !pair.agree));
}

#[test]
fn errors_name_the_field() {
    let sizes = Sizes { hidden: 0, vocabulary: 5, steps: 6, batch: 3 };
    let error = Problem::random(sizes, 1).unwrap_err();
    assert_eq!(error.to_string(), "hidden cannot be 0: it must be from 1 to 2048");
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
        let options = Options { seed, whole: false };
        for dtype in [DType::F64, DType::F32] {
            let report = check(&problem, dtype, &Device::Cpu, &options).unwrap();
            prop_assert!(report.agree, "{:#?}", failing(&report));
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
        // The exact derivative by each entry of a large network would take long.
        let is_large = check["sizes"]["vocabulary"] == 257;
        assert_eq!(pairs.len(), if is_large { 9 } else { 13 });
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
        &["--against", "nowhere.npz", "--clip", "0"],
        &["--against", "nowhere.npz"],
        &["--model", "nowhere.safetensors"],
    ] {
        let (_, stderr) = gradcheck(2, arguments);
        assert!(stderr.starts_with("char-rnn: ") && stderr.lines().count() == 1, "{stderr}");
    }
    for arguments in [
        &["--model", "m", "--hidden", "3"][..],
        &["names.txt"],
        &["--all", "--dtype", "f32"],
        &["--clip", "5"],
        &["--against", "f.npz", "--batch", "2"],
        &["--against", "f.npz", "--dtype", "f32"],
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
    gradcheck(0, &["--model", &model, "--all"]);

    std::fs::write(path("names.txt"), "ana\nżółw\n").unwrap();
    let (_, stderr) = gradcheck(2, &["--model", &model, &path("names.txt")]);
    assert!(stderr.contains("'ż' is not in the vocabulary"), "{stderr}");
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
    const EACH: &str = "dWax, dWaa, dWya, db, dby, loss, a_last";
    for (file, clip, arrays, says) in [
        ("no_slope", None, HIDDEN, "the factor 1 - a_t^2 of tanh is missing"),
        ("inverse_slope", None, HIDDEN, "da is divided by 1 - a_t^2, not multiplied"),
        ("no_carry", None, HIDDEN, "is not carried back"),
        ("carry_too_far", None, HIDDEN, "carried back one step too far"),
        ("waa_not_transposed", None, HIDDEN, "Waa is not transposed in the backward pass"),
        ("dwaa_of_same_state", None, "dWaa", "dWaa has a_t in place of a_{t-1}"),
        ("dwax_shifted", None, "dWax", "dWax has x_{t+1}, the target, in place of x_t"),
        ("no_one_hot", None, ALL, "the one-hot target is not subtracted"),
        ("mean", None, "dWax, dWaa, dWya, db, dby, loss", "the mean over the steps"),
        ("doubled", None, ALL, "2 times the right values"),
        ("dwaa_transposed", None, "dWaa", "the array is transposed"),
        ("dwya_sign", None, "dWya", "the sign is wrong"),
        ("last_step_only", None, ALL, "only the last step contributes"),
        ("overwritten", None, ALL, "assigned where it should be added to: = for +="),
        ("clipped_steps", Some("0.2"), ALL, "each step is clipped before the sum"),
        ("a_prev_zero", None, EACH, "a_prev is taken as zero"),
        ("softmax_axis", None, "dWax, dWaa, dWya, db, dby, loss", "over the wrong axis"),
        ("clipped", None, ALL, "compare them with --clip 0.2"),
        ("right", Some("0.2"), ALL, "compare them without --clip"),
        ("zero", None, ALL, "was rnn_backward run"),
        ("after_update", None, EACH, "those after update_parameters (learning rate 0.01)"),
        ("after_clip", None, EACH, "update_parameters (learning rate 0.05, clipped at 0.3)"),
        ("clip_copied", None, "dWaa_clipped, db_clipped", "np.clip returns a new array"),
        ("sample_a_prev", None, "indices", "a_prev is not updated"),
        ("sample_x", None, "indices", "x is not reset to zeros"),
    ] {
        let path = fixture(file);
        let clip: Vec<&str> = clip.into_iter().flat_map(|clip| ["--clip", clip]).collect();
        let arguments = [&["--against", &path], &clip[..]].concat();
        let (table, stderr) = gradcheck(1, &arguments);
        let is_said = |line: &str| line.starts_with(&format!("{arrays}: ")) && line.contains(says);
        assert!(table.lines().any(is_said), "{file}: {table}");
        assert_eq!(stderr, format!("char-rnn: wrong: {arrays}\n"));
        let found = json(&[&arguments[..], &["--json"]].concat());
        let causes = |explanation: &serde_json::Value| explanation.as_array().unwrap().len();
        assert_eq!(causes(&found["explanations"][0]), 1, "{file}: {found}");
        // The largest entry of an array that is not clipped is no limit.
        assert!(file != "clip_copied" || causes(&found["explanations"]) == 1, "{found}");
        assert_eq!((&found["agree"], causes(&found["worst"])), (&false.into(), 0));
    }
}

/// The result for a wrong file.
fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&gradcheck(1, arguments).0).unwrap()
}

#[test]
fn two_mistakes_in_a_file_are_two_causes_of_one_explanation() {
    for (file, causes) in [
        ("two_arrays", ["dWaa: dWaa has a_t in place of a_{t-1}", "dWya: the sign is wrong"]),
        (
            "two_mistakes",
            [
                "dWax, dWaa, db: Waa is not transposed in the backward pass",
                "dWax, dWaa, db: the factor 1 - a_t^2 of tanh is missing",
            ],
        ),
    ] {
        let (table, _) = gradcheck(1, &["--against", &fixture(file)]);
        let lines = causes.join("\n");
        assert!(table.contains(&format!("\n{lines}\n")), "{table}");
        let found = json(&["--against", &fixture(file), "--json"]);
        let explanation = found["explanations"][0].as_array().unwrap();
        assert_eq!(explanation.len(), 2, "{found}");
    }
}

#[test]
fn an_unknown_mistake_is_reported_by_its_worst_entries() {
    let (table, _) = gradcheck(1, &["--against", &fixture("unknown")]);
    assert!(table.contains("\nNo known mistake gives these numbers."), "{table}");
    let found = json(&["--against", &fixture("unknown"), "--json"]);
    assert_eq!(found["explanations"].as_array().unwrap().len(), 0);
    assert_eq!(found["worst"].as_array().unwrap().len(), 10);
    let worst = &found["worst"][0];
    assert_eq!((&worst["array"], &worst["at"]), (&"dWaa".into(), &serde_json::json!([2, 3])));
    let value = |key: &str| worst[key].as_f64().unwrap();
    assert!((value("given") - value("right") - 0.25).abs() < 1e-12);
}

#[test]
fn the_first_wrong_letter_of_a_sample_is_shown_with_both_distributions() {
    let (table, _) = gradcheck(1, &["--against", &fixture("sample_a_prev")]);
    for says in ["indices[", "the probabilities there, right: ", "the probabilities there, yours: "]
    {
        assert!(table.contains(says), "{table}");
    }
}

#[test]
fn right_gradients_of_numpy_are_right() {
    for arguments in [
        &["right"][..],
        &["right_f32"],
        &["compressed"],
        &["clipped", "--clip", "0.2"],
        &["clip"],
        &["sample"],
    ] {
        let path = fixture(arguments[0]);
        let (table, stderr) = gradcheck(0, &[&["--against", &path], &arguments[1..]].concat());
        assert!(table.contains("\nAll is right") && stderr.is_empty(), "{table}");
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
        (&fixture("misspelt"), "it has an array dwax; did you mean dWax?"),
        (&fixture("index_outside"), "Y[5] is 5, not an index from 0 to 4"),
        (model, "it is no file of np.savez"),
    ] {
        let (_, stderr) = gradcheck(2, &["--against", path]);
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{path}: {stderr}");
    }
}
