//! `export --format html`: the scripts of the page in a JavaScript engine, against the program and the
//! reference. `scripts/check_page.py` opens pages in a browser.

mod common;

use candle_core::{DType, Device};
use char_rnn::checkpoint;
use char_rnn::data::{Corpus, LetterCase, Spelling};
use char_rnn::reference::{Parameters, rnn_backward, rnn_forward};
use common::{Folder, assert_says, without_run};
use rquickjs::{CatchResultExt, Context, Function, Runtime};
use serde_json::{Value, json};

const RNN: &str = include_str!("../src/page/rnn.js");
const NAMES: &str = include_str!("../src/page/names.js");
const CHARTS: &str = include_str!("../src/page/charts.js");

/// A JavaScript engine with the scripts of the page that need no browser.
struct Engine(Context);

impl Engine {
    fn new() -> Self {
        let context = Context::full(&Runtime::new().unwrap()).unwrap();
        context.with(|ctx| {
            let atob = |text: String| {
                let bytes = base64::decode(text).unwrap();
                bytes.into_iter().map(char::from).collect::<String>()
            };
            ctx.globals().set("atob", Function::new(ctx.clone(), atob)).unwrap();
        });
        let engine = Self(context);
        engine.run(&[RNN, NAMES].concat());
        engine
    }

    /// With the model of a page.
    fn with_model(page: &str) -> Self {
        assert!(page.contains(RNN) && page.contains(NAMES));
        let engine = Self::new();
        engine.run(&format!("const model = model_of({});", data(page)));
        engine
    }

    fn run(&self, script: &str) {
        self.0.with(|ctx| ctx.eval::<(), _>(script).catch(&ctx).unwrap());
    }

    /// The value of an expression.
    fn value(&self, expression: &str) -> Value {
        let script = format!("JSON.stringify({expression})");
        let json = self.0.with(|ctx| ctx.eval::<String, _>(script).catch(&ctx).unwrap());
        serde_json::from_str(&json).unwrap()
    }
}

/// The JSON of a page.
fn data(page: &str) -> &str {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    rest.split_once("</script>").unwrap().0
}

/// The page of the model that `train` makes with these flags.
fn page_of(folder: &Folder, flags: &str) -> String {
    let _ = std::fs::remove_file(folder.path().join("m.safetensors"));
    let _ = std::fs::remove_file(folder.path().join("m.html"));
    folder.succeeds(&format!("train {flags} --quiet -o m.safetensors"));
    folder.succeeds("export m.safetensors --format html");
    String::from_utf8(folder.read("m.html")).unwrap()
}

/// Lists in several scripts, with what these need: marks, joiners, directions, a final sigma.
const WORLD: &str = "ΝΙΚΟΣ Νικολάου\nΆΝΝΑ\nÉva-Luise O'Neil\nJose\u{301}\nǆemal\nßen\nLe\u{328}\u{301}\n\
    नेहा श\u{94d}\u{200d}\nประภา\nשרה לוי\nمی\u{200c}نا\nŁukasz\n\u{200e}İnci\nR2D2 5th\n𐐀𐐨\n";

/// A list whose words restore its capitals: those after a hyphen depend on the word.
fn towns() -> String {
    let starts = ["Saint-Jean", "Saint-Remy", "Aix", "Constructor", "5th Bourg"];
    let ends = ["le-Vieux", "les-Bains", "le-Bourg", "McKay", "XIV", "toString-le-Vieux"];
    starts
        .iter()
        .flat_map(|start| {
            ends.map(|end| {
                format!(
                    "{start}-{end}
"
                )
            })
        })
        .collect()
}

/// The flags of the network; then number of names, seed, temperature, prefix, and more flags.
type Case =
    (&'static str, &'static [(usize, &'static str, &'static str, &'static str, &'static str)]);

const CASES: [Case; 6] = [
    (
        "--hidden 50 --dtype f64 --iterations 3000",
        &[
            (250, "1", "1", "", ""),
            (50, "18446744073709551615", "0.5", "Ty", ""),
            (50, "7", "0.2", "", "--new"),
        ],
    ),
    ("--hidden 50 --iterations 3000", &[(200, "4294967296", "1", "", ""), (50, "2", "3", "a", "")]),
    ("--hidden 300 --iterations 300", &[(40, "3", "1", "", "")]),
    (
        "world.txt --case lower --hidden 30 --iterations 4000 --dtype f64",
        &[(200, "1", "1", "", ""), (60, "5", "1.5", "ΝΙΚ", "--new")],
    ),
    (
        "world.txt --hidden 30 --iterations 4000 --case keep",
        &[(100, "1", "1", "", ""), (50, "5", "0.7", "éVA", "--new"), (3, "1", "0", "", "")],
    ),
    (
        "towns.txt --hidden 30 --iterations 6000 --dtype f64",
        &[(100, "1", "1", "", ""), (50, "1", "1.2", "st", "--new")],
    ),
];

#[test]
fn names_are_those_of_the_program() {
    let folder = Folder::new();
    folder.write("world.txt", WORLD);
    folder.write("towns.txt", towns());
    let (mut all, mut rounded) = (0, 0);
    for (flags, runs) in CASES {
        let engine = Engine::with_model(&page_of(&folder, flags));
        let words = engine.value("Object.keys(model.spelling?.words ?? {}).length");
        assert_eq!(words == 0, !flags.contains("towns"), "{flags}: {words}");
        for (count, seed, temperature, prefix, more) in runs {
            let (prefix_json, new) = (json!(prefix), more.contains("--new"));
            let found = engine.value(&format!(
                "[...sample_until(model, {{ seed: {seed}n, count: {count}, only_new: {new}, \
                 temperature: {temperature}, max_length: model.max_length, \
                 prefix: encode_prefix({prefix_json}, model) }})].filter(Boolean)"
            ));
            let expected = folder.succeeds(&format!(
                "sample m.safetensors --json -n {count} --seed {seed} --temperature {temperature} \
                 --prefix={prefix} {more}"
            ));
            let expected: Vec<Value> =
                expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let found = found.as_array().unwrap();
            assert_eq!((found.len(), expected.len()), (*count, *count), "{flags}");
            let different: Vec<_> = found.iter().zip(&expected).filter(|(a, b)| a != b).collect();
            // In single precision a number can fall between two sums that round apart.
            let allowed = usize::from(!flags.contains("f64"));
            assert!(different.len() <= allowed, "{flags} {prefix} {different:?}");
            (all, rounded) = (all + count, rounded + different.len());
        }
    }
    assert!(all >= 1000 && rounded <= 1, "{rounded} of {all}");
}

#[test]
fn probabilities_and_gradients_are_those_of_explain() {
    let folder = Folder::new();
    // In single precision `explain` rounds, and the page does not.
    for (dtype, bound, gradient_bound) in [("f64", 1e-9, 1e-9), ("f32", 1e-6, 1e-5)] {
        let page = page_of(&folder, &format!("--hidden 50 --iterations 3000 --dtype {dtype}"));
        let engine = Engine::with_model(&page);
        for name in ["Tyrannosaurus", "a", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"] {
            let explained: Value = serde_json::from_str(
                &folder.succeeds(&format!("explain m.safetensors {name} --json")),
            )
            .unwrap();
            engine.run(&format!(
                "var name = encode(trimmed(cleaned({name:?}, true)), model), cache = rnn_forward(model.parameters, name);"
            ));
            let steps = explained["steps"].as_array().unwrap();
            assert_eq!(steps.len(), name.len() + 1);
            for (t, step) in steps.iter().enumerate() {
                let others = step["alternatives"].as_array().unwrap();
                for known in others.iter().chain([step]) {
                    let character = &known["character"];
                    let index = format!("Math.max(0, model.vocabulary.indexOf({character}))");
                    let found = engine.value(&format!("cache.y_hat[{t}][{index}]"));
                    assert_close(&found, &known["probability"], bound);
                }
                let norms = engine.value(&format!(
                    "(({{ da, dx }}) => da.map((da, s) => ({{ state: norm(da), input: norm(dx[s]) }})))\
                     (rnn_backward(model.parameters, cache, {t}, [...name, 0][{t}]))"
                ));
                let norms = norms.as_array().unwrap();
                let expected = step["gradient_norms"].as_array().unwrap();
                assert_eq!((norms.len(), expected.len()), (t + 1, t + 1));
                for (found, expected) in norms.iter().zip(expected) {
                    assert_close(&found["state"], &expected["state"], gradient_bound);
                    assert_close(&found["input"], &expected["input"], gradient_bound);
                }
            }
        }
    }
}

#[track_caller]
fn assert_close(found: &Value, expected: &Value, bound: f64) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= bound * (1. + expected.abs()), "{found} {expected}");
}

/// The gradient by a state is that of the loss of the remaining steps, less that of the steps before
/// the explained one.
#[test]
fn gradients_are_the_references_whatever_waa_is_multiplied_by() {
    let folder = Folder::new();
    let page = page_of(&folder, "--hidden 20 --iterations 3000 --dtype f64");
    let engine = Engine::with_model(&page);
    let saved = checkpoint::load(&folder.path().join("m.safetensors"), &Device::Cpu).unwrap();
    let flat = saved.model.parameters().map(|(_, tensor)| {
        let tensor = tensor.to_dtype(DType::F64).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
    });
    let name = saved.vocabulary.encode("megalosaurus").unwrap();
    let x: Vec<Option<usize>> =
        std::iter::once(None).chain(name.iter().map(|&x| Some(x as usize))).collect();
    let y: Vec<usize> = x[1..].iter().flatten().copied().chain([0]).collect();
    for scale in [0.5, 1., 4.] {
        let mut parameters =
            Parameters::from_flat(20, y.len().max(27), flat.each_ref().map(Vec::as_slice));
        parameters.waa.iter_mut().flatten().for_each(|w| *w *= scale);
        let states = rnn_forward(&x, &y, &[0.; 20], &parameters).1.a;
        let da = |first: usize, end: usize| {
            let (x, y) = (&x[first..end], &y[first..end]);
            let (_, cache) = rnn_forward(x, y, &states[first], &parameters);
            rnn_backward(x, y, &parameters, &cache).1
        };
        engine.run(&format!(
            "var name = {name:?}, p = scaled(model.parameters, {scale}), cache = rnn_forward(p, name);"
        ));
        for (t, target) in y.iter().enumerate().skip(1) {
            let found = engine
                .value(&format!("rnn_backward(p, cache, {t}, {target}).da.map((da) => [...da])"));
            for step in 0..t {
                let found: Vec<f64> = serde_json::from_value(found[step].clone()).unwrap();
                let (with, without) = (da(step + 1, t + 1), da(step + 1, t));
                for (found, (with, without)) in found.iter().zip(with.iter().zip(without)) {
                    // Of ln p, the negative loss.
                    let expected = without - with;
                    assert!((found - expected).abs() <= 1e-6, "{found} {expected}");
                }
            }
        }
    }
}

#[test]
fn fingerprints_are_the_start_of_the_sha_256() {
    let engine = Engine::new();
    let long = "é東𐐀a".repeat(70);
    // The digests of "" and "abc" begin e3b0c442 and ba7816bf.
    for (text, expected) in [("", 0x42c4_b0e3_u32), ("abc", 0xbf16_78ba)] {
        assert_eq!(engine.value(&format!("fingerprint({text:?})")), expected);
    }
    for text in long.char_indices().map(|(at, _)| &long[..at]) {
        use sha2::{Digest, Sha256};
        let digest: [u8; 32] = Sha256::digest(text).into();
        let expected = u32::from_le_bytes(*digest.first_chunk().unwrap());
        assert_eq!(engine.value(&format!("fingerprint({})", json!(text))), expected);
    }
}

#[test]
fn every_letter_has_the_titlecase_of_the_program() {
    let engine = Engine::new();
    let spelling = Spelling::lower();
    let letters: String = ('\0'..=char::MAX).filter(|c| c.is_alphabetic()).collect();
    engine.run(&format!("const letters = [...{}];", json!(letters)));
    let found =
        engine.value("letters.map((c) => shown(c, { styles: { \"\": \"title\" }, words: {} }))");
    let found: Vec<String> = serde_json::from_value(found).unwrap();
    let different = letters.chars().zip(&found).filter(|(c, found)| {
        let expected = spelling.shown(&c.to_string());
        // The engine's Unicode is younger, and has capitals that the program leaves away.
        expected != **found && expected != c.to_string()
    });
    assert_eq!(different.collect::<Vec<_>>(), []);
}

/// On texts of what matters: letters of all kinds, digits, signs, marks, blanks and joiners.
#[test]
fn texts_are_shown_as_by_the_program() {
    let engine = Engine::new();
    let pool: Vec<char> =
        "aAbSsß éÉİıΣσς5ⅳ²-'’.ʻ\u{301}\u{308}\u{300}\u{200d}\u{200c}\u{ad}\u{feff}\u{2003}न\u{94d}東ǆǅŉﬂᾳ\u{345}ა🏴\u{e0067}"
            .chars()
            .collect();
    let mut state = 1u64;
    let mut pick = |count: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % count
    };
    let texts: Vec<String> =
        (0..4000).map(|_| (0..pick(12)).map(|_| pool[pick(pool.len())]).collect()).collect();
    let corpus = Corpus::parse(towns().as_bytes(), "", LetterCase::Auto).unwrap();
    for spelling in [corpus.spelling().clone(), Spelling::lower(), Spelling::keep()] {
        let shown = engine.value(&format!(
            "{}.map((text) => shown(text, {}))",
            json!(texts),
            serde_json::to_string(&spelling).unwrap()
        ));
        for (text, shown) in texts.iter().zip(shown.as_array().unwrap()) {
            assert_eq!(&spelling.shown(text), shown, "{text:?}");
        }
    }
}

/// Nothing that a list or a path has can end the element that it is in.
#[test]
fn the_data_is_one_json_value_that_ends_no_script() {
    let folder = Folder::new();
    let list =
        "</script><script>alert(1)</script>\n<img src=x onerror=alert(1)>\n<!--\"&'\n]]>\\u003c\n";
    folder.write("hostile.txt", list);
    let page = page_of(&folder, "hostile.txt --hidden 4 --iterations 50 --case keep");
    let name = "<!--<script>'\"&\u{2028}.safetensors";
    std::fs::rename(folder.path().join("m.safetensors"), folder.path().join(name)).unwrap();
    let run = folder.command("export --format html -o").arg("x.html").arg(name).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let renamed = String::from_utf8(folder.read("x.html")).unwrap();
    for page in [page, renamed] {
        assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
        assert_eq!((page.matches("<!--").count(), page.matches("onerror").count()), (0, 0));
        let value: Value = serde_json::from_str(data(&page)).unwrap();
        let vocabulary = value["vocabulary"].as_str().unwrap();
        assert!("</>!&\"'\\".chars().all(|c| vocabulary.contains(c)));
    }
}

/// The tensors in the data of a page of gradients, by name.
fn tensor<'a>(data: &'a Value, name: &str) -> &'a Value {
    data["tensors"].as_array().unwrap().iter().find(|tensor| tensor["name"] == name).unwrap()
}

/// The numbers of a side of a tensor.
fn side(tensor: &Value, side: usize) -> Vec<f64> {
    let bytes = base64::decode(tensor["values"][side].as_str().unwrap()).unwrap();
    let scale = tensor["scales"][side].as_f64().unwrap();
    let of = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())) * scale;
    bytes.chunks(4).map(of).collect()
}

#[test]
fn a_page_of_wrong_gradients_marks_the_worst_entry_and_ends_no_script() {
    let folder = Folder::new();
    let file = include_bytes!("fixtures/gradients/no_slope.npz");
    let hostile = "<!--<script>'\"&\u{2028}.npz";
    folder.write(hostile, file);
    let run =
        |arguments: &str| folder.command(arguments).args(["--against", hostile]).output().unwrap();
    let (plain, written) = (run("gradcheck"), run("gradcheck --html x.html"));
    assert_eq!(written.status.code(), Some(1));
    assert_eq!(written.stdout, plain.stdout);
    let expected = format!("Wrote x.html\n{}", String::from_utf8(plain.stderr).unwrap());
    assert_eq!(String::from_utf8(written.stderr).unwrap(), expected);
    let page = String::from_utf8(folder.read("x.html")).unwrap();
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    assert_eq!(page.matches("<!--").count(), 0);
    let value: Value = serde_json::from_str(data(&page)).unwrap();
    assert!(value["title"].as_str().unwrap().contains("<!--<script>'\"&"));
    let found: Value = serde_json::from_slice(&run("gradcheck --json").stdout).unwrap();
    let arrays = found["arrays"].as_array().unwrap();
    assert_eq!(arrays.len(), value["tensors"].as_array().unwrap().len());
    for array in arrays {
        let tensor = tensor(&value, array["tensor"].as_str().unwrap());
        assert_eq!((&tensor["shape"], &tensor["agree"]), (&array["shape"], &array["agree"]));
        let Some(worst) = tensor["worst"].get(0) else {
            assert_eq!(array["largest_difference"], 0.);
            continue;
        };
        let [i, j] = [0, 1].map(|k| worst[k].as_u64().unwrap());
        let columns = tensor["columns"].as_u64().unwrap();
        let places = array["at"].as_array().unwrap().iter().zip(array["shape"].as_array().unwrap());
        let at =
            places.fold(0, |flat, (at, size)| flat * size.as_u64().unwrap() + at.as_u64().unwrap());
        assert_eq!(i * columns + j, at, "{tensor}");
        for k in 0..2 {
            let entry = side(tensor, k)[(i * columns + j) as usize];
            assert_close(&json!(entry), &array["values"][k], 1e-6);
        }
    }
    let before = folder.read("x.html");
    assert_says(
        &folder.refuses("gradcheck --html x.html"),
        &["cannot write x.html", "exists", "with --html"],
    );
    assert_says(&folder.refuses("gradcheck --html none/x.html"), &["cannot write none/x.html"]);
    assert_says(&folder.misused("gradcheck --html y.html --all"), &["--all"]);
    folder.write("s.npz", include_bytes!("fixtures/gradients/sample.npz"));
    let sample = folder.refuses("gradcheck --against s.npz --html y.html");
    assert_says(&sample, &["s.npz: it has no gradients", "leave --html out"]);
    assert!(!folder.path().join("y.html").exists());
    assert_eq!(folder.read("x.html"), before);
}

/// A state near zero has the colour of the background; a difference near zero is still one.
#[test]
fn only_where_it_is_asked_for_has_a_value_near_zero_a_colour() {
    let engine = Engine::new();
    engine.run(&[CHARTS, "svg = (parent, tag, attributes) => parent.push(attributes);"].concat());
    for (faintest, opacities) in [(0, json!([1])), (1, json!([1. / 12., 1]))] {
        engine.run(&format!(
            "var drawn = []; cells(drawn, [[0, 0.01, 1]], 3, [0, 0, 1, 1, 1], [], {faintest});"
        ));
        assert_eq!(engine.value("drawn.map((path) => path['fill-opacity'])"), opacities);
    }
}

#[test]
fn a_page_of_gradients_has_each_tensor_by_both_methods_and_the_characters() {
    let folder = Folder::with_model();
    folder.succeeds("gradcheck --model names.safetensors names.txt --dtype f32 --html x.html");
    let page = String::from_utf8(folder.read("x.html")).unwrap();
    let value: Value = serde_json::from_str(data(&page)).unwrap();
    let saved = checkpoint::load(&folder.path().join("names.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(value["characters"], json!(saved.vocabulary.characters()));
    assert_eq!(value["sides"], json!(["autograd", "hand"]));
    for (name, parameter) in saved.model.parameters() {
        let tensor = tensor(&value, name);
        let [autograd, hand, difference] = [0, 1, 2].map(|k| side(tensor, k));
        assert_eq!(autograd.len(), parameter.elem_count());
        assert!(autograd.iter().any(|&g| g != 0.), "{name}");
        for ((g1, g2), difference) in autograd.iter().zip(&hand).zip(&difference) {
            assert!((g1 - g2 - difference).abs() <= 1e-6 * (1. + g1.abs()), "{name}");
        }
    }
    assert_eq!(side(tensor(&value, "a0"), 0).len() % saved.model.config().hidden, 0);
}

#[test]
fn a_page_is_at_most_80_kb_larger_than_its_weights() {
    let folder = Folder::new();
    for hidden in [50, 300] {
        let page =
            page_of(&folder, &format!("--hidden {hidden} --iterations 1500 --eval-every 10"));
        let value: Value = serde_json::from_str(data(&page)).unwrap();
        let weights = ["wax", "waa", "wya", "b", "by"]
            .map(|name| value["parameters"][name].as_str().unwrap().len());
        let beside = page.len() - weights.iter().sum::<usize>();
        println!("{hidden} hidden units: {} bytes, {beside} beside the weights", page.len());
        assert!(beside <= 80_000 && page.len() < 700_000, "{beside}");
    }
}

#[test]
fn a_model_without_a_run_has_a_page_and_no_page_is_overwritten() {
    let folder = Folder::with_model();
    folder.write("bare", without_run(&folder.read("names.safetensors")));
    let export = "export bare --format html";
    folder.succeeds(export);
    let page = String::from_utf8(folder.read("bare.html")).unwrap();
    let value: Value = serde_json::from_str(data(&page)).unwrap();
    assert_eq!((&value["run"], &value["max_length"]), (&Value::Null, &json!(50)));
    let names = Engine::with_model(&page).value(
        "[...sample_until(model, { seed: 1n, count: 20, temperature: 1, max_length: 50, \
         prefix: [] })].filter(Boolean).map(({ name }) => name)",
    );
    let names: Vec<String> = serde_json::from_value(names).unwrap();
    let expected = folder.succeeds("sample bare --seed 1 -n 20");
    assert_eq!(names, expected.lines().collect::<Vec<_>>());
    assert_says(&folder.refuses(export), &["cannot write bare.html", "exists"]);
}
