//! The gradient check can fail: an error planted in any single term of the backward pass is
//! caught, and the tensors that it spoils, and no others, are named.

use candle_core::{DType, Device};
use char_rnn::batch::NONE;
use char_rnn::engine::Backprop;
use char_rnn::gradcheck::{Case, Gradients, Options, Pair, STEP, Sizes, bound, check};
use proptest::prelude::*;
use std::process::{Command, Output};

/// An error in one term of the equations of [`char_rnn::bptt`].
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
/// All behind the hidden state: what (6) gives is untouched.
const HIDDEN: &[&str] = &["wax", "waa", "b", "a0"];

/// Each fault, and the tensors whose gradient it makes wrong.
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

/// `m v`, or `m^T v`, of a row-major matrix with `v.len()` columns, or rows.
fn product(m: &[f64], v: &[f64], transposed: bool) -> Vec<f64> {
    let other = m.len() / v.len();
    let at = |i: usize, j: usize| if transposed { m[j * other + i] } else { m[i * v.len() + j] };
    (0..other).map(|i| (0..v.len()).map(|j| at(i, j) * v[j]).sum()).collect()
}

/// `m += u v^T`.
fn add_outer(m: &mut [f64], u: &[f64], v: &[f64]) {
    for (row, u) in m.chunks_exact_mut(v.len()).zip(u) {
        row.iter_mut().zip(v).for_each(|(m, v)| *m += u * v);
    }
}

fn add(sum: &mut [f64], terms: &[f64]) {
    sum.iter_mut().zip(terms).for_each(|(s, t)| *s += t);
}

/// Backpropagation through time as the equations say it, name by name, a step at a time, with
/// one of their terms wrong. Padded steps are run, as the engines run them.
fn naive(case: &Case, fault: Fault) -> Gradients {
    let (p, batch) = (case.parameters(), case.batch());
    let (n, v, steps, names) = (p.n_a, p.n_x, batch.steps(), batch.size());
    let lengths = case.shapes().map(|shape| shape.iter().product::<usize>());
    let [mut wax, mut waa, mut wya, mut b, mut by, mut a0] = lengths.map(|l| vec![0.; l]);
    for i in 0..names {
        let row = |t: usize| t * names + i;
        let (x, y) = (|t: usize| batch.x()[row(t)], |t: usize| batch.y()[row(t)]);
        // (1) to (3). a[t] is the state after t steps.
        let mut a = vec![case.a0()[i * n..][..n].to_vec()];
        let mut softmax = Vec::new();
        for t in 0..steps {
            let mut pre = product(&p.waa, &a[t], false);
            add(&mut pre, &p.b);
            if x(t) != NONE {
                (0..n).for_each(|r| pre[r] += p.wax[r * v + x(t) as usize]);
            }
            let state: Vec<f64> = pre.iter().map(|pre| pre.tanh()).collect();
            let mut z = product(&p.wya, &state, false);
            add(&mut z, &p.by);
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let sum = if fault == SoftmaxNotNormalised { 1. } else { sum };
            softmax.push(z.iter().map(|z| z.exp() / sum).collect::<Vec<f64>>());
            a.push(state);
        }
        let (mut dpre_after, mut da_after) = (vec![0.; n], vec![0.; n]);
        for t in (0..steps).rev() {
            // (5)
            let mut dz = softmax[t].clone();
            let target = if fault == OneHotOfNextStep && t + 1 < steps { y(t + 1) } else { y(t) };
            if target != NONE && fault != NoOneHot {
                dz[target as usize] -= 1.;
            }
            if y(t) == NONE && fault != MaskForgotten {
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
            let signed: Vec<f64> = dz.iter().map(|dz| dz * sign).collect();
            if fault != DwyaLastStepDropped || t + 1 < steps {
                add_outer(&mut wya, &signed, state);
            }
            if fault == DbyNotSummed {
                by.copy_from_slice(&dz);
            } else {
                add(&mut by, &dz);
            }
            // (7)
            let mut da = product(&p.wya, &dz, true);
            let sign = match fault {
                FromOutputForgotten => 0.,
                FromOutputSign => -1.,
                _ => 1.,
            };
            da.iter_mut().for_each(|da| *da *= sign);
            // (8)
            let after = if fault == CarryOfDa { &da_after } else { &dpre_after };
            let carry = product(&p.waa, after, fault != CarryWaaTransposed);
            let sign = match fault {
                CarryForgotten => 0.,
                CarrySign => -1.,
                _ => 1.,
            };
            (0..n).for_each(|r| da[r] += sign * carry[r]);
            // (9)
            let slope = |r: usize| match fault {
                TanhSlopeMissing => 1.,
                TanhSlopeNotSquared => 1. - a[t + 1][r],
                TanhSlopeOfEarlierState => 1. - a[t][r] * a[t][r],
                TanhSlopePlus => 1. + a[t + 1][r] * a[t + 1][r],
                _ => 1. - a[t + 1][r] * a[t + 1][r],
            };
            let dpre: Vec<f64> = (0..n).map(|r| slope(r) * da[r]).collect();
            // (11)
            let earlier = if fault == DwaaOfSameState { &a[t + 1] } else { &a[t] };
            let skipped = (fault == DwaaLastStepDropped && t + 1 == steps)
                || (fault == DwaaWithoutInitialState && t == 0);
            match fault {
                _ if skipped => {}
                DwaaTransposed => add_outer(&mut waa, earlier, &dpre),
                _ => add_outer(&mut waa, &dpre, earlier),
            }
            let skipped = (fault == DbLastStepDropped && t + 1 == steps)
                || (fault == DbFirstNameOnly && i > 0);
            if !skipped {
                add(&mut b, &dpre);
            }
            // (12)
            let column = match fault {
                DwaxOfTarget => y(t),
                DwaxNoneIsFirstCharacter if x(t) == NONE => 0,
                _ => x(t),
            };
            if column != NONE {
                for (r, dpre) in dpre.iter().enumerate() {
                    let entry = &mut wax[r * v + column as usize];
                    match fault {
                        DwaxSign => *entry -= dpre,
                        DwaxOverwritten => *entry = *dpre,
                        _ => *entry += dpre,
                    }
                }
            }
            (dpre_after, da_after) = (dpre, da);
        }
        // (10)
        let first = if fault == Da0WithoutSlope { &da_after } else { &dpre_after };
        if fault != Da0Forgotten {
            a0[i * n..][..n].copy_from_slice(&product(&p.waa, first, fault != Da0WaaTransposed));
        }
    }
    Gradients { way: format!("{fault:?}"), values: [wax, waa, wya, b, by, a0], entries: None }
}

fn case() -> Case {
    Case::random(Sizes { hidden: 7, vocabulary: 5, steps: 6, names: 3 }, 1).unwrap()
}

/// The right gradients: by each way back, and by differences, with what each is held against.
fn right_ones(case: &Case) -> Vec<(Gradients, f64)> {
    let derived = |way| case.derived(way, DType::F64, &Device::Cpu).unwrap();
    let mut all: Vec<_> = Backprop::ALL.map(|way| (derived(way), bound(DType::F64, false))).into();
    all.push((case.differences(STEP, case.entries(1000, 1)), bound(DType::F64, true)));
    all
}

#[test]
fn without_a_fault_the_equations_agree_with_every_way() {
    let case = case();
    for (right, bound) in right_ones(&case) {
        let pair = Pair::of(&case, &naive(&case, Nothing), &right, bound);
        assert!(pair.agree, "{pair:#?}");
    }
}

#[test]
fn a_fault_in_any_term_is_caught_by_every_way_and_named_by_its_tensors() {
    let case = case();
    let right = right_ones(&case);
    for (fault, tensors) in FAULTS {
        let wrong = naive(&case, *fault);
        for (right, bound) in &right {
            let pair = Pair::of(&case, &wrong, right, *bound);
            assert_eq!(pair.disagreeing(), *tensors, "{fault:?} beside {}", right.way);
        }
    }
}

/// In f32 the bounds are wider; no fault slips through them.
#[test]
fn a_fault_is_caught_in_f32_too() {
    let case = case();
    for (fault, tensors) in FAULTS {
        for way in Backprop::ALL {
            let right = case.derived(way, DType::F32, &Device::Cpu).unwrap();
            let pair = Pair::of(&case, &naive(&case, *fault), &right, bound(DType::F32, false));
            assert_eq!(pair.disagreeing(), *tensors, "{fault:?} beside {way}");
        }
    }
}

#[test]
fn a_nan_in_a_parameter_fails_the_check() {
    let mut parameters = case().parameters().clone();
    parameters.by[2] = f64::NAN;
    let case = Case::new(parameters, case().batch().clone(), case().a0().to_vec()).unwrap();
    let checked = check(&case, DType::F64, &Device::Cpu, &Options::default()).unwrap();
    assert!(checked.report.pairs.iter().all(|pair| !pair.agree));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn all_ways_agree_at_any_size(
        hidden in 1usize..40, vocabulary in 2usize..40, steps in 1usize..12, names in 1usize..7, seed: u64,
    ) {
        let case = Case::random(Sizes { hidden, vocabulary, steps, names }, seed).unwrap();
        let options = Options { entries: Some(25), seed };
        for dtype in [DType::F64, DType::F32] {
            let checked = check(&case, dtype, &Device::Cpu, &options).unwrap();
            prop_assert!(checked.report.agree, "{:#?}", checked.widest());
        }
    }
}

/// Runs the program, which must end with `status`: its standard output, empty where it refuses,
/// and its standard error.
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
fn the_command_answers_in_json_and_with_its_exit_status() {
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
fn a_table_in_a_pipe_has_no_colour() {
    let (table, stderr) = gradcheck(0, &SMALL);
    assert_eq!(stderr, "");
    assert!(table.contains("unrolled and autograd") && !table.contains('\u{1b}'), "{table}");
}

#[test]
fn bad_values_are_refused_in_one_sentence() {
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
        let (_, said) = gradcheck(2, arguments);
        assert!(said.starts_with("char-rnn: ") && said.lines().count() == 1, "{said}");
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
fn a_trained_model_is_checked_on_real_names_and_on_no_unknown_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let model = path("model.safetensors");
    program(0, "train", &["--iterations", "300", "--hidden", "8", "--quiet", "-o", &model]);
    gradcheck(0, &["--model", &model, "--all", "--entries", "20"]);

    std::fs::write(path("names.txt"), "ana\nżółw\n").unwrap();
    let (_, said) = gradcheck(2, &["--model", &model, &path("names.txt")]);
    assert!(said.contains("'ż' is not in the vocabulary"), "{said}");
}

#[test]
fn pictures_are_xml_and_png() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&[][..], &["--pair", "differences,hand"], &["--step-sizes"]] {
        for file in ["picture.svg", "picture.png"] {
            let path = folder.path().join(file);
            let plot = ["--plot", path.to_str().unwrap()];
            gradcheck(0, &[&SMALL[..], &plot, more].concat());
            let bytes = std::fs::read(&path).unwrap();
            if file.ends_with("svg") {
                let text = std::str::from_utf8(&bytes).unwrap();
                let document = roxmltree::Document::parse(text).unwrap();
                let labels = document.descendants().filter(|node| node.has_tag_name("text"));
                assert!(labels.filter_map(|label| label.text()).any(|text| text.contains("waa")));
            } else {
                let picture = tiny_skia::Pixmap::decode_png(&bytes).unwrap();
                assert!(picture.width() > 1000);
            }
        }
    }
}

#[test]
fn the_error_of_differences_is_a_v() {
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
