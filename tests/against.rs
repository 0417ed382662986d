//! `gradcheck --against` on files that are built here, out of the reference's results. Those of
//! NumPy, with the mistakes of students, are in `tests/gradcheck.rs`.

use char_rnn::gradcheck::{Against, against};
use char_rnn::random::NumpyRandom;
use char_rnn::reference::{self, Parameters, rnn_backward, rnn_forward};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use zip::CompressionMethod;

const X: [Option<usize>; 5] = [None, Some(3), Some(1), Some(3), Some(2)];
const Y: [usize; 5] = [3, 1, 3, 2, 0];
const N_A: usize = 4;
const N_X: usize = 5;

/// An array of a file: its header but for the brackets, and its bytes.
#[derive(Clone)]
struct Array {
    kind: &'static str,
    is_fortran: bool,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Array {
    fn floats(shape: &[usize], values: &[f64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { kind: "<f8", is_fortran: false, shape: shape.to_vec(), data }
    }

    fn integers(values: &[i64]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { kind: "<i8", is_fortran: false, shape: vec![values.len()], data }
    }

    fn header(&self) -> String {
        let shape: String = self.shape.iter().map(|size| format!("{size}, ")).collect();
        let order = if self.is_fortran { "True" } else { "False" };
        format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({shape}), }}", self.kind)
    }
}

type Arrays = BTreeMap<String, Array>;

/// The bytes of a file of `np.savez`.
fn archive(arrays: &Arrays, method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, array) in arrays {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        let header = array.header();
        let length = (header.len() as u16).to_le_bytes();
        for bytes in [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &array.data] {
            zip.write_all(bytes).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

fn check_bytes(bytes: &[u8], clip: Option<f64>) -> char_rnn::Result<Against> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    against(file.path(), clip, false)
}

fn check(arrays: &Arrays) -> char_rnn::Result<Against> {
    check_bytes(&archive(arrays, CompressionMethod::Stored), None)
}

/// Whether all is right.
fn is_right(arrays: &Arrays) -> bool {
    check(arrays).unwrap().agree
}

/// The sentence of a file that cannot be compared, without its path.
fn refusal(arrays: &Arrays) -> String {
    let sentence = check(arrays).unwrap_err().to_string();
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence.split_once(": ").unwrap().1.to_string()
}

fn parameters(n_a: usize, scale: f64) -> (Parameters<f64>, Vec<f64>) {
    let mut random = NumpyRandom::new(1);
    let mut draw = |n: usize| (0..n).map(|_| scale * random.randn()).collect::<Vec<f64>>();
    let flat = shapes(n_a).map(|[rows, columns]| draw(rows * columns));
    let a_prev = draw(n_a).iter().map(|a| a.tanh()).collect();
    (Parameters::from_flat(n_a, N_X, flat.each_ref().map(Vec::as_slice)), a_prev)
}

fn shapes(n_a: usize) -> [[usize; 2]; 5] {
    [[n_a, N_X], [n_a, n_a], [N_X, n_a], [n_a, 1], [N_X, 1]]
}

/// A file of right gradients.
fn right_file() -> Arrays {
    file_of(N_A, 1., X.len())
}

/// Right gradients of `steps` steps with `n_a` hidden units and weights of the size `scale`.
fn file_of(n_a: usize, scale: f64, steps: usize) -> Arrays {
    let (parameters, a_prev) = parameters(n_a, scale);
    let (x, y): (Vec<_>, Vec<_>) = X.into_iter().zip(Y).cycle().take(steps).unzip();
    let (loss, cache) = rnn_forward(&x, &y, &a_prev, &parameters);
    let (gradients, da_next) = rnn_backward(&x, &y, &parameters, &cache);
    let x: Vec<i64> = x.iter().map(|x| x.map_or(-1, |x| x as i64)).collect();
    let y: Vec<i64> = y.iter().map(|&y| y as i64).collect();
    let mut arrays = Arrays::new();
    for (i, name) in ["Wax", "Waa", "Wya", "b", "by"].iter().enumerate() {
        arrays.insert(name.to_string(), Array::floats(&shapes(n_a)[i], &parameters.flat()[i]));
        arrays.insert(format!("d{name}"), Array::floats(&shapes(n_a)[i], &gradients.flat()[i]));
    }
    let states = [("a_prev", &a_prev), ("da_next", &da_next), ("a_last", &cache.a[steps])];
    arrays.extend(states.map(|(name, a)| (name.to_string(), Array::floats(&[n_a, 1], a))));
    arrays.insert("loss".to_string(), Array::floats(&[], &[loss]));
    arrays.insert("X".to_string(), Array::integers(&x));
    arrays.insert("Y".to_string(), Array::integers(&y));
    arrays
}

/// The file with one array in another form.
fn with(arrays: &Arrays, name: &str, change: impl Fn(&mut Array)) -> Arrays {
    let mut arrays = arrays.clone();
    change(arrays.get_mut(name).unwrap());
    arrays
}

/// The array transposed as it lies in memory, and so the same array in Fortran order.
fn turn(array: &mut Array) {
    let (rows, columns) = (array.shape[0], array.shape[1]);
    let number = |at: usize| &array.data[8 * (at % rows * columns + at / rows)..][..8];
    array.data = (0..rows * columns).flat_map(|at| number(at).to_vec()).collect();
}

#[test]
fn a_right_array_is_right_in_every_order_and_form() {
    let right = right_file();
    assert!(is_right(&right));
    let forms: [fn(&mut Array); 5] = [
        |array| array.shape.push(1),
        |array| array.shape.insert(0, 1),
        |array| {
            turn(array);
            array.is_fortran = true;
        },
        |array| {
            turn(array);
            array.is_fortran = true;
            array.shape.push(1);
        },
        |array| {
            array.kind = ">f8";
            array.data.chunks_mut(8).for_each(<[u8]>::reverse);
        },
    ];
    for (i, form) in forms.into_iter().enumerate() {
        for name in ["dWax", "dWaa", "dWya", "Waa"] {
            assert!(is_right(&with(&right, name, form)), "{name}, form {i}");
        }
    }
    let bytes = archive(&right, CompressionMethod::DEFLATE);
    assert!(check_bytes(&bytes, None).unwrap().agree);
}

#[test]
fn a_transposed_array_is_wrong_in_every_order() {
    let right = right_file();
    for is_3d in [false, true] {
        let wrong = with(&right, "dWaa", |array| {
            array.is_fortran = true; // and the bytes are those of C
            array.shape.extend(is_3d.then_some(1));
        });
        let found = check(&wrong).unwrap();
        let causes: Vec<_> = found.explanations.iter().flatten().collect();
        assert_eq!((causes.len(), &causes[0].what[..]), (1, "the array is transposed"));
        assert_eq!(causes[0].arrays, ["dWaa"]);
    }
}

/// No known mistake takes the steps of a name that has one or two of them for granted.
#[test]
fn an_unknown_mistake_in_a_short_name_is_reported_by_its_worst_entries() {
    for steps in [1, 2] {
        let wrong = with(&file_of(N_A, 1., steps), "dWya", |array| {
            array.data[..8].copy_from_slice(&0.1234f64.to_le_bytes());
        });
        let found = check(&wrong).unwrap();
        assert!(!found.agree && found.explanations.is_empty(), "{found:?}");
        assert_eq!((found.worst[0].array, &found.worst[0].at[..]), ("dWya", &[0, 0][..]));
    }
}

#[test]
fn arrays_are_kept_whole_only_if_asked_for() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive(&right_file(), CompressionMethod::Stored)).unwrap();
    for whole in [false, true] {
        let found = against(file.path(), None, whole).unwrap();
        assert!(found.arrays.iter().all(|array| array.whole.is_some() == whole));
    }
}

/// Numbers of single precision, saved as doubles.
#[test]
fn what_was_computed_in_single_precision_is_right_to_single_precision() {
    let mut single = right_file();
    for array in single.values_mut().filter(|array| array.kind == "<f8") {
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
        let rounded = array.data.chunks(8).map(|bytes| f64::from(number(bytes) as f32));
        array.data = rounded.flat_map(f64::to_le_bytes).collect();
    }
    let found = check(&single).unwrap();
    assert!(found.agree && found.single.contains(&"dWaa"), "{found:?}");
    // One array in single precision does not loosen the limits of the others.
    let mut mixed = right_file();
    mixed.insert("dWax".to_string(), single["dWax"].clone());
    let nudged = with(&mixed, "dWya", |array| array.data[3] ^= 0xff); // a part in 10^8
    let found = check(&nudged).unwrap();
    assert_eq!((found.agree, &found.single[..]), (false, &["dWax"][..]));
}

#[test]
fn where_rounding_may_be_as_large_as_the_gradients_they_cannot_be_compared() {
    let mut chaotic = file_of(30, 1., 200);
    let sentence = refusal(&chaotic);
    assert!(sentence.contains("dWaa") && sentence.contains("cannot be compared"), "{sentence}");
    // Nor are zeros right then.
    chaotic.get_mut("dWaa").unwrap().data.fill(0);
    assert!(refusal(&chaotic).contains("cannot be compared"));
}

#[test]
fn a_file_that_cannot_be_used_has_one_sentence_that_helps() {
    let right = right_file();
    let renamed = |old: &str, new: &str| {
        let mut arrays = right.clone();
        let array = arrays.remove(old).unwrap();
        arrays.insert(new.to_string(), array);
        arrays
    };
    let object =
        |shape: &[usize]| Array { kind: "|O", shape: shape.to_vec(), ..right["b"].clone() };
    let dictionary = |name: &str| {
        Arrays::from([(name.to_string(), object(&[])), ("X".to_string(), right["X"].clone())])
    };
    let one_hot = Array::floats(&[5, N_X], &[0.; 25]);
    for (arrays, says) in [
        (dictionary("parameters"), "parameters is a dictionary; write np.savez(file, **parameters"),
        (dictionary("arr_0"), "arr_0 is a dictionary; write np.savez"),
        (renamed("Wax", "arr_3"), "arrays without names, such as arr_3; write np.savez"),
        (renamed("b", "ba"), "here it is b"),
        (renamed("db", "dba"), "here it is db"),
        (renamed("dWax", "dwax"), "did you mean dWax?"),
        (renamed("Y", "y"), "did you mean Y?"),
        (renamed("db", "d\u{1b}[31m\nb"), "it has an array d\\u{1b}[31m\\nb; the notebook's are"),
        (
            with(&right, "X", |array| *array = one_hot.clone()),
            "X is (5, 5): one-hot; give the index",
        ),
        (with(&right, "X", |array| *array = object(&[5])), "write -1 for None"),
        (with(&right, "X", |x| *x = Array::floats(&[5], &[f64::NAN; 5])), "X[0] is NaN; write -1"),
        (with(&right, "Y", |y| y.data[0] = 9), "Y[0] is 9, not an index from 0 to 4"),
        (
            with(&right, "Wax", |array| array.shape.reverse()),
            "Wax is (5, 4), not (4, 5): it is transp",
        ),
        (
            with(&right, "dWya", |array| array.shape.reverse()),
            "dWya is (4, 5), not (5, 4): it is tra",
        ),
        (with(&right, "Waa", |array| array.kind = "<c16"), "Waa has numbers of the kind \"<c16\""),
        (
            with(&right, "Waa", |array| array.data.truncate(100)),
            "Waa is not an array of np.save, or",
        ),
        (with(&right, "Waa", |array| array.shape = vec![1 << 40, 1 << 40]), "Waa is not an array"),
        (with(&right, "Waa", |array| array.shape = vec![1 << 40]), "more than 1073741824 bytes"),
        (with(&right, "Waa", |array| array.shape = vec![1 << 20]), "Waa is (1048576,), not (4, 4)"),
    ] {
        let sentence = refusal(&arrays);
        assert!(sentence.contains(says), "{sentence}\n{says}");
    }
}

/// What a file claims to have is refused before it is read.
#[test]
fn many_arrays_and_false_sizes_are_refused() {
    let right = right_file();
    let many = (0..65).map(|i| (format!("x{i}"), right["b"].clone())).collect();
    assert!(refusal(&many).contains("it has 65 arrays; at most 64 are read"));
    let long = with(&right, "X", |x| *x = Array::integers(&[1; 1002]));
    assert!(refusal(&long).contains("X has 1002 entries; at most 1001"));
    assert!(check_bytes(b"\x93NUMPY\x01\x00", None).unwrap_err().to_string().contains("np.savez"));
    let folder = tempfile::tempdir().unwrap();
    assert!(
        against(folder.path(), None, false)
            .unwrap_err()
            .to_string()
            .ends_with("this is not a file")
    );
}

/// The file of a sample: the parameters, the list and the seed.
fn sample_file(indices: &[usize], seed: i64) -> Arrays {
    let mut arrays = file_of(N_A, 0.5, 5);
    arrays.retain(|name, _| ["Wax", "Waa", "Wya", "b", "by"].contains(&&name[..]));
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    arrays.insert("indices".to_string(), Array::integers(&indices));
    arrays.insert("seed".to_string(), Array { shape: vec![], ..Array::integers(&[seed]) });
    arrays
}

/// The notebook's list, with its newline.
fn sampled(seed: u32) -> Vec<usize> {
    let (parameters, _) = parameters(N_A, 0.5);
    let mut uniforms = (seed..).step_by(2).map(|seed| NumpyRandom::new(seed).random_sample());
    let mut indices = reference::sample(&parameters, 0, || uniforms.next().unwrap());
    indices.push(0);
    indices
}

#[test]
fn the_notebooks_sample_is_right_and_another_list_is_wrong_at_its_first_other_letter() {
    for seed in 0..40 {
        let right = sampled(seed);
        assert!(is_right(&sample_file(&right, seed.into())), "{seed}");
        let at = seed as usize % right.len();
        let mut wrong = right.clone();
        wrong[at] = (wrong[at] + 1) % N_X;
        let letter = check(&sample_file(&wrong, seed.into())).unwrap().letter.unwrap();
        assert_eq!((letter.at, letter.given, letter.right), (at, Some(wrong[at]), Some(right[at])));
        assert!((letter.probabilities.iter().sum::<f64>() - 1.).abs() < 1e-12);
        let longer = [&right[..], &[1]].concat();
        let letter = check(&sample_file(&longer, seed.into())).unwrap().letter.unwrap();
        assert_eq!((letter.at, letter.given, letter.right), (right.len(), Some(1), None));
    }
    let sentence = refusal(&sample_file(&[1, 0], -1));
    assert!(sentence.contains("seed is -1, not an integer from 0"), "{sentence}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// A damaged file is compared or refused, and takes no time or memory.
    #[test]
    fn damaged_files_are_compared_or_refused(
        at: prop::sample::Index, byte: u8, end: prop::sample::Index, cut: bool, kind in 0..4,
    ) {
        let arrays = match kind {
            0 | 1 => right_file(),
            2 => sample_file(&sampled(3), 3),
            _ => {
                let mut arrays = right_file();
                arrays.retain(|name, _| ["dWax", "db"].contains(&&name[..]));
                arrays.insert("dWax_clipped".to_string(), arrays["dWax"].clone());
                arrays.insert("max_value".to_string(), Array::floats(&[], &[0.1]));
                arrays
            }
        };
        let deflated = kind == 1 || byte % 2 == 0;
        let method = if deflated { CompressionMethod::DEFLATE } else { CompressionMethod::Stored };
        let mut bytes = archive(&arrays, method);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let end = if cut { end.index(bytes.len() + 1) } else { bytes.len() };
        if let Err(error) = check_bytes(&bytes[..end], None) {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}
