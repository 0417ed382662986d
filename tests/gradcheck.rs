//! The gradient check can fail: it finds a fault in any single term of the backward pass, and names
//! exactly the tensors whose gradients are wrong.

use candle_core::{DType, Device};
use char_rnn::data::{IGNORE_INDEX, START};
use char_rnn::gradcheck::{
    Gradients, Options, Pair, Problem, STEP, Sizes, bound, central_differences, check,
};
use char_rnn::reference::{Cache, Matrix, Parameters, rnn_forward};
use char_rnn::train::GradientMethod;
use proptest::prelude::*;
use std::process::{Command, Output};

/// A fault in one term of the equations of [`char_rnn::train::bptt`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Nothing,
    // (5) dz_t = softmax(z_t) - onehot(y_t), or 0 at a padded step
    NoOneHot,
    OneHotOfNextStep,
    SoftmaxNotNormalised,
    DzSign,
    DzScale,
    MaskForgotten,
    // (6) dwya = sum of dz_t a_t^T, dby = sum of dz_t
    DwyaOfEarlierState,
    DwyaSign,
    DwyaLastStepDropped,
    DbyNotSummed,
    // (7) from_output_t = wya^T dz_t
    FromOutputForgotten,
    FromOutputSign,
    // (8) da_t = from_output_t + waa^T dpre_{t+1}
    CarryForgotten,
    CarrySign,
    CarryWaaTransposed,
    CarryOfDa,
    // (9) dpre_t = (1 - a_t^2) da_t
    TanhSlopeMissing,
    TanhSlopeNotSquared,
    TanhSlopeOfEarlierState,
    TanhSlopePlus,
    // (10) da_0 = waa^T dpre_1
    Da0Forgotten,
    Da0WaaTransposed,
    Da0WithoutSlope,
    // (11) dwaa = sum of dpre_t a_{t-1}^T, db = sum of dpre_t
    DwaaOfSameState,
    DwaaTransposed,
    DwaaWithoutInitialState,
    DwaaLastStepDropped,
    DbFirstNameOnly,
    DbLastStepDropped,
    // (12) dwax = sum of dpre_t x_t^T
    DwaxOfTarget,
    DwaxSign,
    DwaxNoneIsFirstCharacter,
    DwaxOverwritten,
}

use Fault::*;

const ALL: &[&str] = &["wax", "waa", "wya", "b", "by", "a0"];
/// All that depend on the gradient of the hidden state: (6) does not.
const HIDDEN: &[&str] = &["wax", "waa", "b", "a0"];

/// Each fault and the tensors whose gradients it makes wrong.
const FAULTS: &[(Fault, &[&str])] = &[
    (NoOneHot, ALL),
    (OneHotOfNextStep, ALL),
    (SoftmaxNotNormalised, ALL),
    (DzSign, ALL),
    (DzScale, ALL),
    (MaskForgotten, ALL),
    (DwyaOfEarlierState, &["wya"]),
    (DwyaSign, &["wya"]),
    (DwyaLastStepDropped, &["wya"]),
    (DbyNotSummed, &["by"]),
    (FromOutputForgotten, HIDDEN),
    (FromOutputSign, HIDDEN),
    (CarryForgotten, HIDDEN),
    (CarrySign, HIDDEN),
    (CarryWaaTransposed, HIDDEN),
    (CarryOfDa, HIDDEN),
    (TanhSlopeMissing, HIDDEN),
    (TanhSlopeNotSquared, HIDDEN),
    (TanhSlopeOfEarlierState, HIDDEN),
    (TanhSlopePlus, HIDDEN),
    (Da0Forgotten, &["a0"]),
    (Da0WaaTransposed, &["a0"]),
    (Da0WithoutSlope, &["a0"]),
    (DwaaOfSameState, &["waa"]),
    (DwaaTransposed, &["waa"]),
    (DwaaWithoutInitialState, &["waa"]),
    (DwaaLastStepDropped, &["waa"]),
    (DbFirstNameOnly, &["b"]),
    (DbLastStepDropped, &["b"]),
    (DwaxOfTarget, &["wax"]),
    (DwaxSign, &["wax"]),
    (DwaxNoneIsFirstCharacter, &["wax"]),
    (DwaxOverwritten, &["wax"]),
];

/// `m v`, or `m^T v` if `transposed`.
fn product(m: &Matrix<f64>, v: &[f64], transposed: bool) -> Vec<f64> {
    let at = |i: usize, j: usize| if transposed { m[j][i] } else { m[i][j] };
    let rows = if transposed { m[0].len() } else { m.len() };
    (0..rows).map(|i| (0..v.len()).map(|j| at(i, j) * v[j]).sum()).collect()
}

/// `m += u v^T`.
fn add_outer(m: &mut Matrix<f64>, u: &[f64], v: &[f64]) {
    m.iter_mut().zip(u).for_each(|(row, &u)| add(row, u, v));
}

/// `sum += scale * terms`.
fn add(sum: &mut [f64], scale: f64, terms: &[f64]) {
    sum.iter_mut().zip(terms).for_each(|(s, t)| *s += scale * t);
}

/// The backward pass of the equations, name by name and step by step, with `fault` in one of
/// their terms. Padded steps are run too, as the gradient methods run them.
fn faulty_gradients(problem: &Problem, fault: Fault) -> Gradients {
    let (p, batch) = (problem.parameters(), problem.batch());
    let (steps, names) = (batch.steps(), batch.size());
    let mut sums = Parameters::zeros(p.b.len(), p.by.len());
    let mut da0 = Vec::new();
    for i in 0..names {
        let (x, y): (Vec<_>, Vec<_>) = (0..steps)
            .map(|t| (batch.x()[t * names + i], batch.y()[t * names + i]))
            .map(|(x, y)| (index(x, START), index(y, IGNORE_INDEX)))
            .unzip();
        // (1) to (3). The target of a padded step does not matter here. a[t]: after t steps.
        let targets: Vec<usize> = y.iter().map(|y| y.unwrap_or(0)).collect();
        let (_, Cache { y_hat, a }) = rnn_forward(&x, &targets, &problem.a0()[i], p);
        let zero = vec![0.; p.b.len()];
        let (mut dpre_after, mut da_after) = (zero.clone(), zero);
        for t in (0..steps).rev() {
            let is_last = t + 1 == steps;
            // (5)
            let mut dz = y_hat[t].clone();
            if fault == SoftmaxNotNormalised {
                dz.iter_mut().for_each(|dz| *dz *= 2.);
            }
            let target = if fault == OneHotOfNextStep && !is_last { y[t + 1] } else { y[t] };
            if let (Some(target), true) = (target, fault != NoOneHot) {
                dz[target] -= 1.;
            }
            if y[t].is_none() && fault != MaskForgotten {
                dz.fill(0.);
            }
            let scale = match fault {
                DzSign => -1.,
                DzScale => 1. / names as f64,
                _ => 1.,
            };
            dz.iter_mut().for_each(|dz| *dz *= scale);
            // (6)
            let state = if fault == DwyaOfEarlierState { &a[t] } else { &a[t + 1] };
            let sign = if fault == DwyaSign { -1. } else { 1. };
            if fault != DwyaLastStepDropped || !is_last {
                let signed: Vec<f64> = dz.iter().map(|dz| sign * dz).collect();
                add_outer(&mut sums.wya, &signed, state);
            }
            match fault {
                DbyNotSummed => sums.by.copy_from_slice(&dz),
                _ => add(&mut sums.by, 1., &dz),
            }
            // (7), (8)
            let mut da = vec![0.; p.b.len()];
            let sign = match fault {
                FromOutputForgotten => 0.,
                FromOutputSign => -1.,
                _ => 1.,
            };
            add(&mut da, sign, &product(&p.wya, &dz, true));
            let after = if fault == CarryOfDa { &da_after } else { &dpre_after };
            let sign = match fault {
                CarryForgotten => 0.,
                CarrySign => -1.,
                _ => 1.,
            };
            add(&mut da, sign, &product(&p.waa, after, fault != CarryWaaTransposed));
            // (9)
            let slope = |r: usize| match fault {
                TanhSlopeMissing => 1.,
                TanhSlopeNotSquared => 1. - a[t + 1][r],
                TanhSlopeOfEarlierState => 1. - a[t][r] * a[t][r],
                TanhSlopePlus => 1. + a[t + 1][r] * a[t + 1][r],
                _ => 1. - a[t + 1][r] * a[t + 1][r],
            };
            let dpre: Vec<f64> = da.iter().enumerate().map(|(r, da)| slope(r) * da).collect();
            // (11)
            let earlier = if fault == DwaaOfSameState { &a[t + 1] } else { &a[t] };
            match fault {
                DwaaLastStepDropped if is_last => {}
                DwaaWithoutInitialState if t == 0 => {}
                DwaaTransposed => add_outer(&mut sums.waa, earlier, &dpre),
                _ => add_outer(&mut sums.waa, &dpre, earlier),
            }
            match fault {
                DbLastStepDropped if is_last => {}
                DbFirstNameOnly if i > 0 => {}
                _ => add(&mut sums.b, 1., &dpre),
            }
            // (12)
            let column = match fault {
                DwaxOfTarget => y[t],
                DwaxNoneIsFirstCharacter => x[t].or(Some(0)),
                _ => x[t],
            };
            for (row, dpre) in sums.wax.iter_mut().zip(&dpre) {
                let Some(column) = column else { break };
                match fault {
                    DwaxSign => row[column] -= dpre,
                    DwaxOverwritten => row[column] = *dpre,
                    _ => row[column] += dpre,
                }
            }
            (dpre_after, da_after) = (dpre, da);
        }
        // (10)
        let first = if fault == Da0WithoutSlope { &da_after } else { &dpre_after };
        let scale = if fault == Da0Forgotten { 0. } else { 1. };
        let gradient = product(&p.waa, first, fault != Da0WaaTransposed);
        da0.extend(gradient.iter().map(|g| scale * g));
    }
    let [wax, waa, wya, b, by] = sums.flat();
    Gradients { method: format!("{fault:?}"), values: [wax, waa, wya, b, by, da0], entries: None }
}

/// The index, unless it is `absent`.
fn index(index: u32, absent: u32) -> Option<usize> {
    (index != absent).then_some(index as usize)
}

fn problem() -> Problem {
    Problem::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, batch: 3 }, 1).unwrap()
}

/// The gradients of each method and of central differences, each with its bound.
fn correct_gradients(problem: &Problem) -> Vec<(Gradients, f64)> {
    let derived = |method| problem.derived(method, DType::F64, &Device::Cpu).unwrap();
    let mut all: Vec<_> =
        GradientMethod::ALL.map(|method| (derived(method), bound(DType::F64, false))).into();
    let differences = central_differences(problem, STEP, problem.entries(1000, 1));
    all.push((differences, bound(DType::F64, true)));
    all
}

#[test]
fn the_equations_without_a_fault_match_every_method() {
    let problem = problem();
    for (correct, bound) in correct_gradients(&problem) {
        let pair = Pair::of(&problem, &faulty_gradients(&problem, Nothing), &correct, bound);
        assert!(pair.agree, "{pair:#?}");
    }
}

#[test]
fn a_fault_in_any_term_is_found_in_exactly_the_tensors_it_affects() {
    let problem = problem();
    let correct = correct_gradients(&problem);
    for (fault, tensors) in FAULTS {
        let wrong = faulty_gradients(&problem, *fault);
        for (correct, bound) in &correct {
            let pair = Pair::of(&problem, &wrong, correct, *bound);
            assert_eq!(pair.disagreeing(), *tensors, "{fault:?} against {}", correct.method);
        }
    }
}

#[test]
fn every_fault_is_found_within_the_wider_bounds_of_f32_too() {
    let (problem, bound) = (problem(), bound(DType::F32, false));
    for (fault, tensors) in FAULTS {
        for method in GradientMethod::ALL {
            let correct = problem.derived(method, DType::F32, &Device::Cpu).unwrap();
            let pair = Pair::of(&problem, &faulty_gradients(&problem, *fault), &correct, bound);
            assert_eq!(pair.disagreeing(), *tensors, "{fault:?} against {method}");
        }
    }
}

#[test]
fn a_nan_in_a_parameter_fails_the_check() {
    let mut parameters = problem().parameters().clone();
    parameters.by[2] = f64::NAN;
    let problem =
        Problem::new(parameters, problem().batch().clone(), problem().a0().clone()).unwrap();
    let checked = check(&problem, DType::F64, &Device::Cpu, &Options::default()).unwrap();
    assert!(checked.report.pairs.iter().all(|pair| !pair.agree));
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
    assert!(checks.len() >= 2);
    for check in checks {
        let pairs = check["pairs"].as_array().unwrap();
        assert!(pairs.iter().all(|pair| pair["tensors"].as_array().unwrap().len() == 6));
    }
    assert_eq!(checks[0]["pairs"].as_array().unwrap().len(), 6);
}

#[test]
fn output_to_a_pipe_has_no_colour_codes() {
    let (table, stderr) = gradcheck(0, &SMALL);
    assert_eq!(stderr, "");
    assert!(table.contains("unrolled and autograd") && !table.contains('\u{1b}'), "{table}");
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
    for more in [&[][..], &["--pair", "differences,hand"], &["--step-sizes"]] {
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
