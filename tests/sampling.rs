//! `sample`, `eval` and `explain` on the command line.

mod common;

use char_rnn::data::Spelling;
use common::{Folder, assert_says};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const LIST: [&str; 3] = ["Anna", "Bob", "Cleo"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Names and the logarithms of their probabilities.
fn with_probabilities(lines: &str) -> Vec<(&str, f64)> {
    lines
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(name, log_probability)| (name, log_probability.parse().unwrap()))
        .collect()
}

#[test]
fn explicit_defaults_give_the_same_names() {
    let folder = Folder::with_model();
    let names = folder.succeeds("sample names.safetensors -n 500 --seed 1");
    let defaults = "--temperature 1 --min-length 0 --max-length 50";
    assert_eq!(
        folder.succeeds(&format!("sample names.safetensors -n 500 --seed 1 {defaults}")),
        names
    );
}

#[test]
fn new_and_unique_filter_the_same_sequence_of_names() {
    let folder = Folder::with_model();
    let all = folder.succeeds("sample names.safetensors -n 3000 --seed 1 --temperature 0.5");
    let expected: Vec<&str> = all.lines().filter(|name| !LIST.contains(name)).collect();
    assert!(expected.len() > 10 && expected.len() < 3000, "{}", expected.len());
    let count = expected.len();
    let new = folder
        .succeeds(&format!("sample names.safetensors -n {count} --seed 1 --temperature 0.5 --new"));
    assert_eq!(new.lines().collect::<Vec<_>>(), expected);

    let mut seen = HashSet::new();
    let unique: Vec<&str> = expected.into_iter().filter(|&name| seen.insert(name)).collect();
    let count = unique.len();
    let once = folder.succeeds(&format!(
        "sample names.safetensors -n {count} --seed 1 --temperature 0.5 --new --unique"
    ));
    assert_eq!(once.lines().collect::<Vec<_>>(), unique);
}

#[test]
fn sampling_ends_if_too_few_names_pass_the_filters() {
    let folder = Folder::with_model();
    let run =
        folder.run("sample names.safetensors -n 5 --seed 1 --top-k 1 --unique --min-length 3");
    assert_eq!((run.status, run.stdout.lines().count()), (Some(1), 1), "{run:?}");
    assert_says(&run.stderr, &["only 1 of 5 names in 1 samples"]);
}

/// The lines of `lines` for which `holds`.
fn those(lines: &str, holds: impl Fn(&str) -> bool) -> Vec<&str> {
    lines.lines().filter(|name| holds(name)).collect()
}

#[test]
fn filters_choose_from_the_same_sequence_of_names() {
    let folder = Folder::with_model();
    folder.write("bad.txt", "\u{feff}OB\r\n\n  le\n");
    let sample = "sample names.safetensors --seed 1 --max-length 6";
    let all = folder.succeeds(&format!("{sample} -n 2000"));
    type Filter<'f> = (&'f str, &'f dyn Fn(&str) -> bool);
    let filters: [Filter; 7] = [
        ("--matching ^a", &|name| name.starts_with('A')),
        ("--matching ^a --matching a$", &|name| {
            name.starts_with('A') && name.ends_with(['a', 'A'])
        }),
        ("--matching A", &|name| name.contains('A')),
        ("--excluding b --excluding nn", &|name| {
            !name.contains(['b', 'B']) && !name.to_lowercase().contains("nn")
        }),
        ("--excluding-words bad.txt", &|name| {
            !["ob", "le"].iter().any(|word| name.to_lowercase().contains(word))
        }),
        ("--complete", &|name| name.len() < 6),
        ("--matching .{4} --excluding ^.{5}", &|name| name.len() == 4),
    ];
    for (flags, holds) in filters {
        let expected = those(&all, holds);
        assert!(expected.len() > 10 && expected.len() < 2000, "{flags}: {}", expected.len());
        let found = folder.succeeds(&format!("{sample} {flags} -n {}", expected.len()));
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{flags}");
    }
}

#[test]
fn a_search_for_what_never_comes_ends_and_says_what_came_instead() {
    let folder = Folder::with_model();
    folder.write("all.txt", "a\nb\nc\ne\nl\nn\no\n");
    let sample = "sample names.safetensors --seed 1 -n 1";
    for (flags, reason) in [
        ("--matching z", "not matching (--matching)"),
        ("--excluding . --top-k 1 --min-length 2", "1 excluded (--excluding)"),
        (
            "--excluding-words all.txt --top-k 1 --min-length 2",
            "1 with an excluded word (--excluding-words)",
        ),
        ("--complete --max-length 1 --top-k 1 --min-length 1", "1 cut off (--max-length)"),
        ("--new --prefix anna --max-length 5 --top-k 1", "1 in the list (--new)"),
    ] {
        let run = folder.run(&format!("{sample} {flags}"));
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{flags}: {run:?}");
        assert_says(&run.stderr, &["found only 0 of 1 name", reason]);
    }
    for (flags, says) in [
        ("--matching a(b", &["--matching cannot be \"a(b\"", "character 2: unclosed group"][..]),
        ("--excluding *", &["--excluding cannot be \"*\"", "missing expression"]),
        ("--excluding-words nowhere", &["cannot read nowhere"]),
    ] {
        assert_says(&folder.refuses(&format!("{sample} {flags}")), says);
    }
}

#[test]
fn several_prefixes_take_turns_and_fit_names_with_capitals_in_any_case() {
    let folder = Folder::with_model();
    let sample = "sample names.safetensors -n 40 --seed 1";
    let names = folder.succeeds(&format!("{sample} --prefix an --prefix B --prefix cleo"));
    for (i, name) in names.lines().enumerate() {
        assert!(name.starts_with(["An", "B", "Cleo"][i % 3]), "{names}");
    }
    folder.write("kept.txt", "Anna McKay\nBob McLeod\nAnna Bo\n");
    folder.succeeds("train kept.txt --case keep --hidden 12 --iterations 2000 -q");
    let kept = |prefix: &str| {
        let output = folder
            .command("sample kept.safetensors -n 40 --seed 1 --prefix")
            .arg(prefix)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = kept("Anna Mc");
    assert_eq!(expected.lines().count(), 40);
    assert!(expected.lines().all(|name| name.starts_with("Anna Mc")), "{expected}");
    assert_eq!(kept("anna"), kept("Anna"));
    assert_eq!(kept("ANNA"), kept("Anna"));
}

#[test]
fn at_temperature_0_each_prefix_has_one_name_the_likeliest() {
    let folder = Folder::with_model();
    let likeliest = "sample names.safetensors --prefix a --prefix b --temperature 0";
    let names = folder.succeeds(likeliest);
    assert_eq!(names.lines().count(), 2);
    let top = likeliest.replace("--temperature 0", "--top-k 1 -n 4");
    assert_eq!(folder.succeeds(&top), names.repeat(2));
    let run = folder.run(&format!("{likeliest} --unique -n 9"));
    assert_eq!((run.status, &run.stdout), (Some(1), &names));
    assert_says(&run.stderr, &["only 2 of 9 names in 2 samples"]);
}

#[test]
fn like_prints_the_same_names_the_most_similar_first() {
    let folder = Folder::with_model();
    let sample = "sample names.safetensors -n 300 --seed 1 --unique";
    let all = folder.succeeds(sample);
    let mut expected: Vec<&str> = all.lines().collect();
    expected.sort_by_key(|name| strsim::levenshtein(&name.to_lowercase(), "banna"));
    let like = folder.succeeds(&format!("{sample} --like BAnna"));
    assert_eq!(like.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn every_name_starts_with_the_prefix_cleaned_as_the_list_was() {
    let folder = Folder::new();
    folder.write("towns.txt", "남양주\n남원\n서울\nÉva Lind\nΔΕΣΠΟΙΝΑ ΔΕΣ\n");
    folder.succeeds("train towns.txt --case lower --hidden 8 --iterations 300 --quiet");
    let from = |prefix: &str| {
        let output = folder
            .command("sample towns.safetensors -n 40 --seed 1 --prefix")
            .arg(prefix)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{prefix}");
        String::from_utf8(output.stdout).unwrap()
    };
    let names = from("남");
    assert_eq!(names.lines().count(), 40);
    assert!(names.lines().all(|name| name.starts_with('남')), "{names}");
    assert!(names.lines().collect::<HashSet<_>>().len() > 1, "{names}");
    assert_eq!(from("\u{1102}\u{1161}\u{11b7}"), names);
    assert_eq!(from("E\u{301}VA"), from("éva"));
    assert!(from("éva l").lines().all(|name| name.starts_with("Éva l")));
    // The sigma within a word, not the final one, which the list has too.
    assert!(from("ΔΕΣ").lines().all(|name| name.starts_with("Δεσ")));

    let refusal = folder.refuses("sample towns.safetensors --prefix 남극");
    assert_says(&refusal, &["--prefix", "'극'", "vocabulary of the model"]);
}

#[test]
fn lengths_are_within_their_limits() {
    let folder = Folder::with_model();
    let names =
        folder.succeeds("sample names.safetensors -n 300 --seed 1 --min-length 5 --max-length 7");
    assert_eq!(names.lines().count(), 300);
    assert!(names.lines().all(|name| (5..=7).contains(&name.chars().count())), "{names}");
    let long = folder.succeeds("sample names.safetensors -n 2 --min-length 60 --max-length 60");
    assert!(long.lines().all(|name| name.chars().count() == 60), "{long}");
}

#[test]
fn names_that_are_cut_off_are_marked_and_never_new() {
    let folder = Folder::new();
    let list = "the island of the blue ".repeat(3) + "bay\n" + &"the hills of ".repeat(5) + "sun";
    folder.write("titles.txt", &list);
    folder.succeeds("train titles.txt --hidden 32 --iterations 500 --quiet");
    let sample = "sample titles.safetensors -n 40 --seed 1";
    // The longest name has 72 characters.
    for (options, limit) in [("--temperature 1.5", 73), ("--max-length 20", 20)] {
        let run = folder.run(&format!("{sample} {options} --json"));
        let names: Vec<Value> = run.stdout.lines().map(json).collect();
        let length = |name: &Value| name["name"].as_str().unwrap().len();
        assert!(names.iter().all(|name| name["ended"] == false || length(name) < limit), "{run:?}");
        let cut = names.iter().filter(|name| name["ended"] == false).count();
        assert!(cut > 0, "{run:?}");
        assert_says(&run.stderr, &[&format!("{cut} of 40 names were cut off at {limit} ")]);
    }
    let new = folder.succeeds(&format!("{sample} --max-length 20 --new"));
    assert!(new.lines().all(|name| name.len() < 20), "{new}");
}

#[test]
fn names_are_compared_as_they_are_printed() {
    let folder = Folder::new();
    // Two letters with one capital, and two that compose.
    folder.write("names.txt", "ilqar\nılğım\nılqa\nile\u{323}\nkẹe\u{301}l\nſara\nsara\n");
    let trained = folder
        .succeeds("train names.txt --hidden 12 --iterations 500 --samples 150 --eval-every 500");
    let unique = folder.run("sample names.safetensors -n 400 --seed 1 --unique --max-length 5");
    let new = folder.run("sample names.safetensors -n 400 --seed 1 --new --unique");
    let list = ["Ilqar", "Ilğım", "Ilqa", "Ilẹ", "Kẹél", "Sara"];
    let last = trained.lines().skip(150).collect();
    for (names, is_new) in [
        (last, true),
        (unique.stdout.lines().collect(), false),
        (new.stdout.lines().collect(), true),
    ] {
        let names: Vec<&str> = names;
        assert!(names.len() > 50 && names.iter().any(|name| name.starts_with('I')), "{names:?}");
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| Spelling::keep().shown(name) == *name), "{names:?}");
        assert!(!is_new || !list.iter().any(|name| names.contains(name)), "{names:?}");
    }
}

#[test]
fn an_evaluation_names_each_line_as_the_list_has_it() {
    let folder = Folder::with_model();
    // The model has no space and no z.
    folder.write("others.txt", "Bo ann\r\rzoe\rcelo\n LEO\n");
    let evaluation = folder.succeeds("eval names.safetensors others.txt --json");
    let mut command = folder.command("eval names.safetensors - --json");
    command.stdin(std::fs::File::open(folder.path().join("others.txt")).unwrap());
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap(), evaluation);
    let losses = json(&evaluation)["losses"].take();
    for (at, line, name) in [(0, 4, "celo"), (1, 5, "LEO")] {
        assert_eq!((&losses[at]["line"], &losses[at]["name"]), (&line.into(), &name.into()));
    }
    folder.write("one.txt", "leo");
    let table = folder.succeeds("eval names.safetensors one.txt");
    assert!(table.contains(": 1 name, ") && !table.contains("Easiest"), "{table}");
}

#[test]
fn characters_that_cannot_be_seen_are_printed_as_their_code() {
    let folder = Folder::new();
    folder.write("names.txt", "م\u{200c}ن\nAn\u{ad}na\nბანდა\n'Abd\n");
    folder.succeeds("train names.txt --hidden 4 --iterations 5 --quiet");
    assert_says(&folder.succeeds("info names.safetensors"), &[r"'\xad'", r"'\u200c'"]);
    for (name, expected) in
        [("an\u{ad}na", r"An'\xad'na.  "), ("ბანდა", "ბანდა.  "), ("'abd", "'Abd.  ")]
    {
        let explained = folder.succeeds(&format!("explain names.safetensors {name}"));
        assert!(explained.starts_with(expected) && !explained.contains('\u{ad}'), "{explained}");
    }
}

#[test]
fn sample_eval_and_explain_print_the_same_probability() {
    let folder = Folder::with_model();
    let options = "-n 30 --seed 1 --unique --temperature 2 --top-k 5 --max-length 6";
    let printed =
        folder.succeeds(&format!("sample names.safetensors {options} --with-probability"));
    let printed = with_probabilities(&printed);
    let plain = folder.succeeds(&format!("sample names.safetensors {options}"));
    let names: Vec<&str> = printed.iter().map(|&(name, _)| name).collect();
    assert_eq!(plain.lines().collect::<Vec<_>>(), names);

    folder.write("sampled.txt", plain.as_bytes());
    let evaluation = json(&folder.succeeds("eval names.safetensors sampled.txt --json"));
    for (at, (name, log_probability)) in printed.into_iter().enumerate() {
        let scored = &evaluation["losses"][at];
        assert_eq!(scored["name"], name);
        let nats = scored["nats"].as_f64().unwrap();
        assert!((nats + log_probability).abs() < 1e-4, "{name}: {nats} {log_probability}");

        let explained = json(&folder.succeeds(&format!("explain names.safetensors {name} --json")));
        let steps = explained["steps"].as_array().unwrap();
        assert_eq!(steps.len(), name.len() + 1);
        assert_eq!(steps.last().unwrap()["character"], Value::Null);
        let product: f64 =
            steps.iter().map(|step| step["probability"].as_f64().unwrap().ln()).sum();
        assert!((nats + product).abs() < 1e-4, "{name}: {nats} {product}");
    }
}

#[test]
fn sort_prints_the_same_names_the_most_likely_first() {
    let folder = Folder::with_model();
    let options = "-n 600 --seed 1 --with-probability";
    let unsorted = folder.succeeds(&format!("sample names.safetensors {options}"));
    let sorted = folder.succeeds(&format!("sample names.safetensors {options} --sort"));
    let sorted_lines = with_probabilities(&sorted);
    assert!(sorted_lines.is_sorted_by(|(_, a), (_, b)| a >= b));
    let (mut a, mut b): (Vec<&str>, Vec<&str>) =
        (unsorted.lines().collect(), sorted.lines().collect());
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!(a, b);
    let bare = folder.succeeds("sample names.safetensors -n 600 --seed 1 --sort");
    let names: Vec<&str> = sorted_lines.iter().map(|&(name, _)| name).collect();
    assert_eq!(bare.lines().collect::<Vec<_>>(), names);
}

#[test]
fn json_output_is_an_object_a_line() {
    let folder = Folder::with_model();
    let plain = folder.succeeds("sample names.safetensors -n 30 --seed 1");
    let lines = folder.succeeds("sample names.safetensors -n 30 --seed 1 --json");
    let names: Vec<Value> = lines.lines().map(json).collect();
    assert_eq!(names.len(), 30);
    for (name, object) in plain.lines().zip(&names) {
        assert_eq!(object, &serde_json::json!({ "name": name, "ended": true }));
    }
    let first = folder.succeeds("sample names.safetensors -n 1 --seed 1 --json --with-probability");
    assert!(json(&first)["log_probability"].as_f64().unwrap() < 0.);
}

#[test]
fn the_first_name_is_printed_before_the_others_are_sampled() {
    let folder = Folder::with_model();
    let arguments = format!("sample names.safetensors -n {} --with-probability", u64::MAX);
    let mut command = folder.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(with_probabilities(&line).len(), 1);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn errors_name_the_flag_out_of_range() {
    let folder = Folder::with_model();
    for (options, says) in [
        ("--temperature -1", ["--temperature cannot be -1", "at least 0"]),
        ("--temperature -1e-5", ["--temperature cannot be -0.00001", "at least 0"]),
        ("--temperature nan", ["--temperature cannot be NaN", "at least 0"]),
        ("--top-k 0", ["--top-k cannot be 0", "at least 1"]),
        ("--top-p 0", ["--top-p cannot be 0", "at most 1"]),
        ("--top-p nan", ["--top-p cannot be NaN", "at most 1"]),
        ("--top-p 1.5", ["--top-p cannot be 1.5", "at most 1"]),
        ("--max-length 0", ["--max-length cannot be 0", "from 1 to 1000"]),
        ("--max-length 1001", ["--max-length cannot be 1001", "from 1 to 1000"]),
        ("--min-length 9 --max-length 8", ["--min-length cannot be 9", "--max-length"]),
        ("--prefix anna --max-length 4", ["--prefix cannot be 4 characters", "--max-length"]),
        ("--prefix annxa", ["--prefix cannot be \"annxa\"", "'x'"]),
    ] {
        assert_says(&folder.refuses(&format!("sample names.safetensors {options}")), &says);
    }
    assert_says(&folder.misused("sample names.safetensors --top-k x"), &["'x'", "--top-k"]);
    assert_says(&folder.misused("sample names.safetensors --top-p x"), &["'x'", "--top-p"]);
}

#[test]
fn the_means_of_an_evaluation_are_consistent() {
    let folder = Folder::with_model();
    let answer = json(&folder.succeeds("eval names.safetensors names.txt --json"));
    let number = |key: &str| answer[key].as_f64().unwrap();
    let losses = answer["losses"].as_array().unwrap();
    let total: f64 = losses.iter().map(|loss| loss["nats"].as_f64().unwrap()).sum();
    let names: Vec<&str> = losses.iter().map(|loss| loss["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["anna", "bob", "cleo"], "as the list has them");
    // Anna, Bob and Cleo have 11 letters, and three ends.
    assert_eq!((number("names"), number("characters"), number("left_out")), (3., 14., 0.));
    assert!((number("nats_per_name") - total / 3.).abs() < 1e-12);
    assert!((number("nats_per_character") - total / 14.).abs() < 1e-12);
    assert!((number("bits_per_character") - total / 14. / 2f64.ln()).abs() < 1e-12);
    assert!((number("perplexity") - (total / 14.).exp()).abs() < 1e-9);
    // Better than a choice among the 9 characters of the list.
    assert!(number("perplexity") < 9., "{answer}");

    let table = folder.succeeds("eval names.safetensors names.txt");
    assert_says(
        &table,
        &["3 names, 14 characters", &format!("{:.4} bits", number("bits_per_character"))],
    );
    assert_says(&table, &["Hardest", "Easiest", "Anna", "Bob", "Cleo"]);
    assert!(!table.contains('\u{1b}'), "colour without a terminal: {table}");
}

#[test]
fn names_with_unknown_characters_are_left_out_and_reported() {
    let folder = Folder::with_model();
    folder.write("others.txt", "ANNA\nzoe\nbozz\n\nleo\n");
    let run = folder.run("eval names.safetensors others.txt");
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_says(&run.stdout, &["2 names, 9 characters", "Anna", "Leo"]);
    assert_says(&run.stderr, &["2 of 4 names were left out", "'z' in 2"]);
    let answer = json(&folder.succeeds("eval names.safetensors others.txt --json"));
    assert_eq!((&answer["names"], &answer["left_out"]), (&2.into(), &2.into()));
    assert_eq!(answer["unknown_characters"], serde_json::json!({ "z": 2 }));

    folder.write("none.txt", "zzz\nxyz\n");
    let refusal = folder.refuses("eval names.safetensors none.txt");
    assert_says(&refusal, &["none.txt", "no name can be evaluated", "'z' in 2", "'x' in 1"]);
    assert_says(&folder.refuses("eval names.safetensors"), &["the built-in list", "no name"]);
    assert_says(&folder.refuses("eval names.safetensors missing.txt"), &["missing.txt"]);
    assert_says(&folder.refuses("eval names.txt"), &["names.txt", "not a char-rnn model"]);
}

#[test]
fn explain_prints_a_line_for_each_character() {
    let folder = Folder::with_model();
    let table = folder.succeeds("explain names.safetensors Anna");
    assert!(table.starts_with("Anna.  "), "{table}");
    let signs: Vec<&str> =
        table.lines().skip(3).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(signs, ["a", "n", "n", "a", "end"], "{table}");
    assert!(!table.contains('\u{1b}'), "colour without a terminal: {table}");

    let answer = json(&folder.succeeds("explain names.safetensors ANNA --json"));
    assert_eq!(answer["name"], "Anna");
    for step in answer["steps"].as_array().unwrap() {
        let alternatives = step["alternatives"].as_array().unwrap();
        assert_eq!(alternatives.len(), 5);
        assert!(alternatives.iter().all(|other| other["character"] != step["character"]));
    }
    let refusal = folder.refuses("explain names.safetensors annx");
    assert_says(&refusal, &["NAME cannot be \"annx\"", "'x'"]);
    let line_end = folder.command("explain names.safetensors").arg("an\nna").output().unwrap();
    assert_eq!(line_end.status.code(), Some(2));
    assert_says(&String::from_utf8(line_end.stderr).unwrap(), &["'\\n'"]);
}
