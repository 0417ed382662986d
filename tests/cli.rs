//! The program: what it prints and where, which files it writes, and what it refuses.

mod common;

use char_rnn::train::TrainConfig;
use common::{Folder, assert_says};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

// Training.

#[test]
fn names_go_to_standard_output_and_progress_to_standard_error() {
    let folder = Folder::new();
    let run = folder.run("train --iterations 30 --eval-every 20");
    assert_eq!(run.status, Some(0), "{run:?}");
    let names: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(names.len(), 7 * 3, "at iterations 0 and 20, and the new ones: {names:?}");
    let is_shown = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_uppercase())
            && name[1..].chars().all(|character| character.is_ascii_lowercase())
    };
    // A name of an untrained model may be empty; a new name never is.
    assert!(names[..14].iter().all(|name| name.is_empty() || is_shown(name)), "{names:?}");
    assert!(names[14..].iter().all(is_shown), "{names:?}");
    assert_says(
        &run.stderr,
        &["Training on 1318 names: ", "iteration 0, loss 42.", "iteration 20, loss 43."],
    );
    assert_says(&run.stderr, &["after 30 iterations", "Saved dinos.safetensors"]);
    assert!(!names.iter().any(|name| !name.is_empty() && run.stderr.contains(name)), "{run:?}");
}

#[test]
fn the_model_is_named_after_the_list_and_saved_in_the_current_folder() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("lists")).unwrap();
    folder.write("lists/towns.old.txt", "york\nkyoto\n");
    let run = folder.run("train lists/towns.old.txt --hidden 4 --iterations 10");
    assert_says(&run.stderr, &["Saved towns.old.safetensors"]);
    assert_eq!(folder.files().into_keys().collect::<Vec<_>>(), ["towns.old.safetensors"]);
}

#[test]
fn the_last_names_are_not_in_the_list_and_distinct() {
    let folder = Folder::new();
    // Nearly half of the names that an untrained network makes of two letters is in this list.
    let list = ["a", "b", "aa", "ab", "ba", "bb"];
    folder.write("list.txt", list.join("\n"));
    let stdout =
        folder.succeeds("train list.txt --case keep --hidden 4 --iterations 1 --samples 40");
    let names: Vec<&str> = stdout.lines().collect();
    let (first, new) = names.split_at(40);
    assert!(
        first.iter().any(|name| list.contains(name)),
        "no sampled name is in the list: {first:?}"
    );
    assert_eq!(new.len(), 40);
    assert_eq!(new.iter().collect::<HashSet<_>>().len(), 40, "{new:?}");
    assert!(!new.iter().any(|name| list.contains(name)), "{new:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let folder = Folder::with_names();
    let train = |seed| {
        let stdout =
            folder.succeeds(&format!("train names.txt --hidden 8 --iterations 40 --seed {seed}"));
        (stdout, folder.read("names.safetensors"))
    };
    let (first, second) = (train(5), train(5));
    assert_eq!(first.0, second.0);
    assert_eq!(weights(&first.1), weights(&second.1));
    let other = train(6);
    assert_ne!(first.0, other.0);
    assert_ne!(weights(&first.1), weights(&other.1));
}

/// The bytes of a model file's tensors.
fn weights(file: &[u8]) -> &[u8] {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    &file[8 + header..]
}

#[test]
fn quiet_training_prints_nothing_on_standard_error() {
    let folder = Folder::with_names();
    for arguments in [
        "train names.txt --hidden 4 --iterations 10 --quiet",
        "train names.txt --hidden 4 --iterations 10 -q --notebook -o notebook.safetensors",
    ] {
        let run = folder.run(arguments);
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""));
        assert!(!run.stdout.is_empty());
    }
}

#[test]
fn a_new_model_replaces_an_older_one_and_leaves_no_other_file() {
    let folder = Folder::with_model();
    let older = folder.read("names.safetensors");
    folder.succeeds("train names.txt --hidden 8 --iterations 301 -o names.safetensors");
    assert_ne!(folder.read("names.safetensors"), older);
    assert_eq!(folder.files().into_keys().collect::<Vec<_>>(), ["names.safetensors", "names.txt"]);
}

#[test]
fn every_gradient_method_and_number_type_trains_to_the_same_loss() {
    let folder = Folder::with_names();
    let mut losses = Vec::new();
    for backprop in ["unrolled", "autograd", "hand"] {
        for dtype in ["f32", "f64"] {
            let run = folder.run(&format!(
                "train names.txt --hidden 8 --iterations 200 --backprop {backprop} --dtype {dtype}"
            ));
            assert_eq!(run.status, Some(0), "{run:?}");
            losses.extend(
                run.stderr.lines().filter(|line| line.contains("after 200")).map(str::to_string),
            );
        }
    }
    assert_eq!(losses.len(), 6);
    assert!(losses.iter().all(|line| *line == losses[0]), "{losses:?}");
}

#[test]
fn a_network_that_makes_too_few_new_names_reports_their_number() {
    let folder = Folder::with_names();
    // Steps of this size make one character certain after any other.
    let run =
        folder.run("train names.txt --hidden 4 --iterations 20 --learning-rate 1e30 --clip inf --eval-every 90");
    assert_eq!(run.status, Some(0), "{run:?}");
    let new = run.stdout.lines().count() - 7;
    assert!(new < 7, "{run:?}");
    assert_says(&run.stderr, &[&format!("No more than {new} of 7 were found"), "the loss at "]);
    assert!(run.stderr.lines().all(|line| line.len() < 100), "{run:?}");
}

// Lists.

const QUICK: &str = "--hidden 8 --iterations 100 --samples 30";

#[test]
fn line_ends_blank_lines_and_white_space_do_not_change_the_result() {
    let folder = Folder::new();
    folder.write("clean.txt", "anna\nbob\nemma lou\n");
    let expected = folder.succeeds(&format!("train clean.txt {QUICK}"));
    for messy in [
        "anna\r\nbob\r\nemma lou\r\n",
        "\u{feff}anna\nbob\nemma lou\n",
        "\n\nanna\n  \n\t\nbob\n\nemma lou\n\n",
        "anna\nbob\nemma lou",
        " anna\nbob  \n\temma lou\u{3000}\n",
        "ANNA\nBob\nEmma LOU\n",
    ] {
        folder.write("messy.txt", messy);
        assert_eq!(
            folder.succeeds(&format!("train messy.txt --case lower {QUICK}")),
            expected,
            "{messy:?}"
        );
    }
}

#[test]
fn korean_names_are_composed_syllables_even_from_a_decomposed_list() {
    let folder = Folder::new();
    folder.write("composed.txt", "김민준\n이서연\n박지훈\n");
    // The same names in conjoining jamo, as macOS writes them.
    let decomposed: String = "김민준\n이서연\n박지훈\n".chars().flat_map(jamo).collect();
    assert_eq!(decomposed.chars().count(), 9 * 3 - 3 + 3, "이, 서 and 지 have no final consonant");
    folder.write("decomposed.txt", &decomposed);
    let composed = folder.succeeds(&format!("train composed.txt {QUICK}"));
    assert_eq!(folder.succeeds(&format!("train decomposed.txt {QUICK}")), composed);
    assert!(composed.chars().all(|c| c == '\n' || ('가'..='힣').contains(&c)), "{composed}");
    assert!(composed.lines().any(|name| name.chars().count() == 3), "{composed}");
}

/// A Hangul syllable taken apart (Unicode, section 3.12); any other character as it is.
fn jamo(character: char) -> Vec<char> {
    let index = u32::from(character).wrapping_sub(0xac00);
    if index >= 11_172 {
        return vec![character];
    }
    let parts = [0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11a7 + index % 28];
    let count = if index % 28 == 0 { 2 } else { 3 };
    parts[..count].iter().map(|&code| char::from_u32(code).unwrap()).collect()
}

#[test]
fn names_in_other_scripts_are_lower_cased_and_printed_with_a_capital() {
    let folder = Folder::new();
    folder.write("names.txt", "ИВАН\nольга\nJose\u{301}\nÉVA\n");
    let stdout = folder.succeeds(&format!("train names.txt --case lower {QUICK}"));
    let letters: HashSet<char> = "иванольгjoséva".chars().collect();
    for name in stdout.lines().filter(|name| !name.is_empty()) {
        let mut characters = name.chars();
        let first = characters.next().unwrap();
        assert!(first.is_uppercase(), "{name}");
        assert!(first.to_lowercase().chain(characters).all(|c| letters.contains(&c)), "{name}");
    }
}

#[test]
fn capitals_that_are_kept_are_characters_and_names_are_printed_as_they_are_written() {
    let folder = Folder::new();
    folder.write("names.txt", "mcDONALD\noMALLEY\n");
    let trained = folder.succeeds(&format!("train names.txt --case keep {QUICK}"));
    let sampled = folder.succeeds("sample names.safetensors -n 50 --seed 1");
    for stdout in [trained, sampled] {
        let letters: HashSet<char> = "mcDONALDoMALLEY".chars().collect();
        assert!(stdout.lines().flat_map(str::chars).all(|c| letters.contains(&c)), "{stdout}");
        let firsts: Vec<char> = stdout.lines().filter_map(|name| name.chars().next()).collect();
        assert!(firsts.iter().any(|first| first.is_lowercase()), "{stdout}");
    }
}

#[test]
fn no_name_is_blank_or_has_white_space_around_it() {
    let folder = Folder::new();
    folder.write("names.txt", "a b\nb a\na  a\n");
    // An untrained network makes every third character a space.
    folder.succeeds("train names.txt --hidden 2 --iterations 1 --quiet");
    let names = folder.succeeds("sample names.safetensors -n 300 --seed 1");
    assert_eq!(names.lines().count(), 300);
    assert!(names.lines().any(|name| name.contains(' ')));
    assert!(names.lines().all(|name| !name.is_empty() && name == name.trim()), "{names}");
}

#[test]
fn a_list_from_standard_input_gives_the_same_model() {
    let folder = Folder::with_model();
    let from_input = |arguments: &str| {
        let list = fs::File::open(folder.path().join("names.txt")).unwrap();
        folder.command(arguments).stdin(list).output().unwrap()
    };
    let train = "train - --hidden 8 --iterations 300 --quiet";
    assert_eq!(from_input(&format!("{train} -o input.safetensors")).status.code(), Some(0));
    assert!(folder.read("input.safetensors") == folder.read("names.safetensors"));
    let refused = from_input(train);
    assert_eq!(refused.status.code(), Some(2));
    assert_says(&String::from_utf8(refused.stderr).unwrap(), &["standard input: ", "--output"]);
    assert_eq!(from_input("vocab -").stdout, folder.succeeds("vocab names.txt").as_bytes());
}

#[test]
fn lists_of_another_form_are_warned_of() {
    let folder = Folder::new();
    let train = "train list.txt --hidden 2 --iterations 1 --samples 0";
    folder.write("list.txt", "Mia,f\nBen,m\n");
    for command in ["vocab list.txt", train] {
        let run = folder.run(command);
        assert_eq!(run.status, Some(0), "{run:?}");
        assert_says(run.stderr.lines().next().unwrap(), &["char-rnn: list.txt: ", "table"]);
    }
}

#[cfg(unix)]
#[test]
fn the_printed_commands_can_be_pasted() {
    let folder = Folder::new();
    let program = Path::new(env!("CARGO_BIN_EXE_char-rnn")).parent().unwrap().to_str().unwrap();
    for list in ["Anna's list (1).txt", "-x.txt", "$HOME;&.txt"] {
        folder.write(list, "anna\nbob\n");
        let mut train = folder.command("train --hidden 2 --iterations 1 --samples 1");
        let run = train.arg(format!("./{list}")).output().unwrap();
        let stderr = String::from_utf8(run.stderr).unwrap();
        let commands = stderr.lines().filter(|line| line.starts_with("  char-rnn "));
        let pasted: Vec<(Option<i32>, usize)> = commands
            .map(|command| {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", command]).current_dir(folder.path()).env("PATH", program);
                let pasted = shell.output().unwrap();
                (pasted.status.code(), String::from_utf8(pasted.stdout).unwrap().lines().count())
            })
            .collect();
        let [(Some(0), 1..), (Some(0), 10), (Some(0), 0)] = pasted[..] else {
            panic!("{pasted:?} {stderr}")
        };
    }
}

// The notebook.

#[test]
fn a_notebook_run_is_saved_only_with_an_output() {
    let folder = Folder::with_names();
    let log = folder.succeeds("train names.txt --notebook --hidden 4 --iterations 3");
    assert!(log.starts_with("Iteration: 0, Loss: "), "{log}");
    assert_eq!(folder.files().len(), 1);
    folder.succeeds("train names.txt --notebook --hidden 4 --iterations 3 -o notebook.safetensors");
    assert_eq!(folder.succeeds("sample notebook.safetensors -n 3").lines().count(), 3);
}

/// What Python 3.11 prints for the notebook's first cells on the list.
#[test]
fn the_vocabulary_is_printed_as_the_notebooks_first_cells_print_it() {
    let folder = Folder::new();
    let letters: Vec<char> = ('a'..='z').collect();
    let list: Vec<String> = letters.iter().map(|letter| format!("'{letter}'")).collect();
    let pairs: Vec<String> =
        (1..).zip(&letters).map(|(index, letter)| format!("    {index}: '{letter}'")).collect();
    assert_eq!(
        folder.succeeds("vocab"),
        format!(
            "There are 16865 total characters and 27 unique characters in your data.\n\
             ['\\n', {}]\n{{   0: '\\n',\n{}}}\n",
            list.join(", "),
            pairs.join(",\n")
        )
    );

    folder.write("names.txt", "Al\r\nO'Neil\n");
    assert_eq!(
        folder.succeeds("vocab names.txt --case lower"),
        "There are 10 total characters and 8 unique characters in your data.\n\
         ['\\n', \"'\", 'a', 'e', 'i', 'l', 'n', 'o']\n\
         {0: '\\n', 1: \"'\", 2: 'a', 3: 'e', 4: 'i', 5: 'l', 6: 'n', 7: 'o'}\n"
    );
}

// Sampling.

#[test]
fn a_model_and_a_seed_give_the_same_names_and_fewer_are_the_first_of_them() {
    let folder = Folder::with_model();
    let twenty = folder.succeeds("sample names.safetensors -n 20 --seed 1");
    assert_eq!(twenty.lines().count(), 20);
    assert_eq!(folder.succeeds("sample names.safetensors -n 20 --seed 1"), twenty);
    let five = folder.succeeds("sample names.safetensors -n 5 --seed 1");
    assert_eq!(five.lines().count(), 5);
    assert!(twenty.starts_with(&five));
    assert_ne!(folder.succeeds("sample names.safetensors -n 20 --seed 2"), twenty);
}

#[test]
fn without_a_seed_there_are_ten_names_that_differ_each_time() {
    let folder = Folder::with_model();
    let first = folder.succeeds("sample names.safetensors");
    assert_eq!(first.lines().count(), 10);
    assert_ne!(folder.succeeds("sample names.safetensors"), first);
    assert_eq!(folder.succeeds("sample names.safetensors -n 0"), "");
}

#[test]
fn a_file_that_is_not_a_model_is_refused_with_the_reason() {
    let folder = Folder::with_model();
    let model = folder.read("names.safetensors");
    folder.write("cut", &model[..model.len() - 7]);
    folder.write("cut_header", &model[..100]);
    folder.write("empty", "");
    folder.write("text", "anna\nbob\n");
    let header = b"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    let foreign = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    folder.write("foreign", &foreign);
    let version = b"\\\"version\\\":6";
    let at = model.windows(version.len()).position(|bytes| bytes == version).unwrap();
    let at = at + version.len() - 1;
    for (name, version) in [("newer", b"7"), ("older", b"1")] {
        folder.write(name, [&model[..at], version, &model[at + 1..]].concat());
    }

    let refusal = |model| folder.refuses(&format!("sample {model}"));
    assert_says(&refusal("nowhere"), &["cannot read nowhere: "]);
    assert_says(&refusal("."), &[".: ", "not a file"]);
    assert_says(&refusal("cut"), &["cut: ", "cut short"]);
    assert_says(&refusal("cut_header"), &["cut_header: ", "not a char-rnn model"]);
    assert_says(&refusal("empty"), &["empty: ", "not a char-rnn model"]);
    assert_says(&refusal("text"), &["text: ", "not a char-rnn model"]);
    assert_says(&refusal("foreign"), &["foreign: ", "safetensors file, but not a char-rnn model"]);
    assert_says(&refusal("newer"), &["newer: ", "version 7", "use a newer char-rnn"]);
    assert_says(&refusal("older"), &["older: ", "version 1", "train it again"]);
}

// Closed outputs.

/// Starts the program with its standard output or standard error closed by the reader.
fn without_reader(mut command: Command, stream: &str) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    match stream {
        "stdout" => drop(child.stdout.take()),
        _ => drop(child.stderr.take()),
    }
    child
}

#[test]
fn endless_sampling_ends_quietly_when_its_output_is_closed() {
    let folder = Folder::with_model();
    let mut command = folder.command(&format!("sample names.safetensors -n {}", u64::MAX));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.len() > 1);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn training_with_a_closed_output_still_saves_the_model() {
    for stream in ["stdout", "stderr"] {
        let folder = Folder::with_names();
        let command = folder.command("train names.txt --hidden 8 --iterations 300 --eval-every 10");
        let output = without_reader(command, stream).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{stream}: {output:?}");
        assert_eq!(folder.succeeds("sample names.safetensors -n 3").lines().count(), 3);
    }
}

#[test]
fn a_vocabulary_or_notebook_log_ends_quietly_when_its_output_is_closed() {
    let folder = Folder::with_names();
    for arguments in
        ["vocab", "train names.txt --notebook --quiet --iterations 999999999999 --eval-every 1"]
    {
        let child = without_reader(folder.command(arguments), "stdout");
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]), "{arguments}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_reported_and_the_model_is_saved() {
    let folder = Folder::with_model();
    let train = "train names.txt --hidden 8 --iterations 20 -o new.safetensors";
    for arguments in [train, "sample names.safetensors", "vocab", "train --notebook --iterations 1"]
    {
        let full = fs::File::create("/dev/full").unwrap();
        let output = folder.command(arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert_says(
            stderr.lines().last().unwrap(),
            &["char-rnn: cannot write to standard output: "],
        );
    }
    assert!(folder.files().contains_key("new.safetensors"));
}

// Bad lists.

#[test]
fn a_list_that_cannot_be_read_is_refused_by_name() {
    let folder = Folder::with_names();
    fs::create_dir(folder.path().join("lists")).unwrap();
    for command in ["train", "vocab"] {
        assert_says(
            &folder.refuses(&format!("{command} nowhere.txt")),
            &["cannot read nowhere.txt: "],
        );
        assert_says(&folder.refuses(&format!("{command} lists")), &["cannot read lists: "]);
        // Root may read everything, but nothing is below a file.
        let message = folder.refuses(&format!("{command} names.txt/list"));
        assert_says(&message, &["cannot read names.txt/list: "]);
    }
}

#[test]
fn an_invalid_list_is_refused_with_the_line() {
    let folder = Folder::new();
    let refusal = |list: &[u8]| {
        folder.write("list.txt", list);
        let trained = folder.refuses("train list.txt");
        assert_eq!(folder.refuses("vocab list.txt"), trained);
        assert_says(&trained, &["char-rnn: list.txt: "]);
        trained
    };
    assert_says(&refusal(b""), &["is empty", "one name a line"]);
    assert_says(&refusal(b"\n  \r\n\t\n"), &["only blank lines", "one name a line"]);
    assert_says(&refusal(b"ann\nb\xffb\n"), &["line 2", "byte 2", "0xff", "saved as UTF-8"]);
    assert_says(&refusal(b"\xff\xfea\0n\0"), &["UTF-16", "save it as UTF-8"]);
    assert_says(&refusal(b"ann\nbob\nc\0d\n"), &["line 3", "U+0000"]);
    assert_says(&refusal(b"ann\x1b[2J\nbob\n"), &["line 1", "U+001B", "one name a line"]);
    assert_says(&refusal(b"ann\tsmith\nbob\n"), &["line 1 (a tab)", "cut -f1"]);
    let long = "ab".repeat(501);
    assert_says(&refusal(format!("ann\n{long}\n").as_bytes()), &["line 2", "1002", "1000"]);
    let model = Folder::with_model().read("names.safetensors");
    assert_says(&refusal(&model), &["not a list", "safetensors", "a model"]);
    folder.write("one.txt", "aaa\na\n\na");
    assert_says(&folder.refuses("train one.txt"), &["one.txt: ", "one character 'a'"]);
    assert_says(&folder.succeeds("vocab one.txt"), &["['\\n', 'a']"]);
}

// Bad flags.

#[test]
fn a_value_out_of_range_is_refused_with_its_range() {
    let folder = Folder::with_names();
    for (flag, value, rule) in [
        ("--hidden", "0", "from 1 to 8192"),
        ("--hidden", "99999999999", "from 1 to 8192"),
        ("--learning-rate", "nan", "finite number above 0"),
        ("--learning-rate", "inf", "finite number above 0"),
        ("--learning-rate", "-1", "finite number above 0"),
        ("--learning-rate", "0", "finite number above 0"),
        ("--clip", "nan", "above 0"),
        ("--clip", "-1", "above 0"),
        ("--clip", "0", "above 0"),
        ("--iterations", "0", "at least 1"),
        ("--eval-every", "0", "at least 1"),
        ("--samples", "99999999999", "at most 1000000"),
        ("--batch-size", "0", "from 1 to 65536"),
    ] {
        let message = folder.refuses(&format!("train names.txt {flag} {value}"));
        assert_says(&message.to_lowercase(), &[&format!("{flag} cannot be {value}: "), rule]);
    }
    let message = folder.refuses("train names.txt --learning-rate -1e-5");
    assert_says(&message, &["--learning-rate cannot be -0.00001: ", "above 0"]);
}

#[test]
fn an_invalid_flag_is_refused_by_name() {
    let folder = Folder::with_model();
    for (arguments, parts) in [
        ("train names.txt --learning-rate abc", ["'abc'", "a number is needed"]),
        ("train names.txt --hidden many", ["'many'", "a whole number is needed"]),
        ("train names.txt --iterations 1e5", ["'1e5'", "in digits only"]),
        ("train names.txt --iterations -5", ["'-5'", "a whole number is needed"]),
        ("train names.txt --seed -1", ["'-1'", "a whole number is needed"]),
        ("train names.txt --iterations 99999999999999999999", ["--iterations", "too large"]),
        ("train names.txt --seed 1 --notebook", ["--seed", "--notebook"]),
        ("train names.txt --dtype f16", ["'f16'", "--dtype"]),
        ("train names.txt --backprop magic", ["'magic'", "--backprop"]),
        ("train names.txt names.txt", ["unexpected argument", "'names.txt'"]),
        ("train --no-such-flag", ["unexpected argument", "'--no-such-flag'"]),
        ("sample names.safetensors -n -1", ["'-1'", "a whole number is needed"]),
        ("sample names.safetensors --seed x", ["'x'", "a whole number is needed"]),
        ("evolve", ["unrecognized subcommand", "'evolve'"]),
    ] {
        assert_says(&folder.misused(arguments), &parts);
    }
    assert_says(&folder.run("sample").stderr, &["<MODEL>"]);
    assert_says(&folder.run("train names.txt --verbose").stderr, &["--notebook"]);
}

#[test]
fn a_device_is_cpu_or_cuda_and_a_build_without_it_explains_how_to_make_one() {
    for device in ["foo", "cuda:x", "cuda1", "cpu:0"] {
        let message = Folder::with_names().refuses(&format!("train names.txt --device {device}"));
        assert_says(&message, &["--device", &format!("{device:?}"), "cpu, cuda or cuda:N"]);
    }
    if candle_core::utils::cuda_is_available() {
        return;
    }
    let folder = Folder::with_model();
    for arguments in ["train names.txt --device cuda", "sample names.safetensors --device cuda:0"] {
        assert_says(
            &folder.refuses(arguments),
            &["no CUDA", "cargo build --release --features cuda"],
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn candle_starts_no_threads() {
    let folder = Folder::with_names();
    let mut command = folder.command(
        "train names.txt --hidden 300 --batch-size 8 --iterations 1000000 --eval-every 1 \
         --samples 1",
    );
    // Cargo sets it for what it runs.
    command
        .env_remove("RAYON_NUM_THREADS")
        .env("CANDLE_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // By the third name gradients were computed and added.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let printed = (0..3).all(|_| lines.next().is_some_and(|line| line.is_ok()));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(printed && tasks == 1, "{tasks} threads");
}

#[test]
fn the_number_of_threads_does_not_change_the_results() {
    let folder = Folder::with_names();
    for flags in [
        // Steps so large that they are divided: by `autograd` they must be larger than by `hand`.
        "--hidden 300 --batch-size 60 --backprop hand",
        "--hidden 300 --batch-size 60 --backprop hand --factored-input --optimizer adamw",
        "--hidden 300 --batch-size 60 --backprop hand --dtype f64 --dropout 0.4 --smoothing 0.3",
        "--hidden 700 --batch-size 90 --backprop autograd",
    ] {
        let trained = ["1", "2", "3"].map(|threads| {
            let line = format!("train names.txt --iterations 4 {flags}");
            let mut command = folder.command(&format!("{line} --quiet --force -o model"));
            let output = command.env("CANDLE_NUM_THREADS", threads).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            std::fs::read(folder.path().join("model")).unwrap()
        });
        assert!(trained[0] == trained[1] && trained[0] == trained[2], "{flags}");
    }
}

// Paths where a model cannot be saved.

#[test]
fn a_path_where_no_model_can_be_saved_is_refused_before_training() {
    let folder = Folder::with_names();
    fs::create_dir(folder.path().join("models")).unwrap();
    folder.write("letter", "dear reader");
    let refusal = |output| folder.refuses(&format!("train names.txt --iterations 1 -o {output}"));
    assert_says(&refusal("nowhere/m"), &["cannot write nowhere/m: ", "no folder nowhere"]);
    // Root may write everywhere, but nothing can be below a file.
    assert_says(&refusal("letter/m"), &["cannot write letter/m: "]);
    assert_says(&refusal("models"), &["models: ", "not a file"]);
    assert_says(&refusal("models/"), &["models/: ", "the name of a file"]);
    assert_says(&refusal("new/"), &["new/: ", "the name of a file"]);
    assert_says(&refusal("letter"), &["letter: ", "not a char-rnn model", "-o"]);
    assert_says(&refusal("names.txt"), &["names.txt: ", "will not be written over"]);
    let long = "x".repeat(300);
    assert_says(&refusal(&long), &["cannot write xxx"]);
    assert_eq!(fs::read_dir(folder.path().join("models")).unwrap().count(), 0);

    // The default path.
    folder.write("names.safetensors", "anna\nbob\n");
    assert_says(&folder.refuses("train names.txt --iterations 1"), &["names.safetensors: ", "-o"]);
    let message = folder.refuses("train names.safetensors --iterations 1");
    assert_says(&message, &["names.safetensors: ", "-o"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_cannot_be_saved_to_a_device_or_to_proc() {
    let folder = Folder::with_names();
    let refusal = |output| folder.refuses(&format!("train names.txt --iterations 1 -o {output}"));
    assert_says(&refusal("/dev/null"), &["/dev/null: ", "not a file"]);
    // Not even root can make files in /proc.
    assert_says(&refusal("/proc/model"), &["cannot write /proc/model: "]);
    assert!(!refusal("/proc/model").contains(".char-rnn-"), "the message names the temporary file");
}

#[test]
fn divergence_is_reported_with_its_iteration_and_keeps_the_older_model() {
    let folder = Folder::with_model();
    let before = folder.files();
    for (flags, place) in [
        ("--learning-rate 1e300", "at iteration 1:"),
        ("--learning-rate 1e308 --clip inf --dtype f64", "at iteration 1:"),
        ("--learning-rate 1e300 --iterations 1", "at iteration 0:"),
        ("--learning-rate 1e308 --clip inf --notebook -o names.safetensors", "at iteration 1:"),
    ] {
        let run = folder.run(&format!("train names.txt {flags}"));
        assert_eq!(run.status, Some(2), "{flags}: {run:?}");
        let last = run.stderr.lines().last().unwrap();
        assert_says(last, &["char-rnn: the ", " became ", place, "--learning-rate"]);
        assert!(folder.files() == before, "{flags}");
    }
}

// Help.

#[test]
fn help_goes_to_standard_output_and_lists_every_command() {
    let folder = Folder::new();
    let help = folder.succeeds("--help");
    for command in ["train", "sample", "info", "export", "eval", "explain", "vocab"] {
        assert_says(&help, &[&format!("\n  {command} ")]);
        assert_says(
            &folder.succeeds(&format!("{command} --help")),
            &["Usage: char-rnn", "Options:"],
        );
    }
    let nothing = folder.run("");
    assert_eq!((nothing.status, nothing.stdout.as_str()), (Some(2), ""));
    assert_says(&nothing.stderr, &["Usage: char-rnn <COMMAND>"]);
    assert_eq!(folder.succeeds("--version"), format!("char-rnn {}\n", env!("CARGO_PKG_VERSION")));
}

/// The lines of the help by their heading.
fn sections(help: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut sections = BTreeMap::from([("", vec![])]);
    let mut heading = "";
    for line in help.lines().filter(|line| !line.is_empty()) {
        match line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            Some(found) => heading = found,
            None => sections.entry(heading).or_default().push(line.trim_start()),
        }
    }
    sections
}

#[test]
fn the_flags_of_train_are_grouped_and_take_one_line_each() {
    let folder = Folder::new();
    let output = folder.command("train -h").env("COLUMNS", "100").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let sections = sections(&help);
    let groups = ["Data", "Model", "Optimization", "Validation", "Output", "Runtime"];
    let found = sections
        .keys()
        .filter(|&&heading| !["", "Notes", "Examples", "Options"].contains(&heading));
    assert!(found.copied().collect::<BTreeSet<_>>() == groups.into(), "{help}");
    assert!(matches!(sections["Options"][..], [only] if only.starts_with("-h, --help")), "{help}");
    let flags: Vec<&str> = groups.iter().flat_map(|group| &sections[group]).copied().collect();
    for line in &flags {
        let (flag, text) = line.split_once("  ").unwrap_or((line, ""));
        assert!(flag.starts_with('-') || flag == "[NAMES]", "more than a line: {line}\n{help}");
        assert!(!text.trim().is_empty(), "{line}");
    }
    for (field, default) in TrainConfig::default().fields() {
        let flag = format!("--{}", field.replace('_', "-"));
        let mut lines = flags.iter().filter(|line| line.split(' ').next() == Some(&flag));
        let line = lines.next().unwrap_or_else(|| panic!("there is no {flag}: {help}"));
        assert!(default.is_boolean() || line.contains("[default: "), "{line}");
    }
}

/// As bash calls the function of the script when Tab is pressed.
#[cfg(unix)]
#[test]
fn bash_completes_the_flags_and_values_of_a_command() {
    let folder = Folder::new();
    folder.write("script", folder.succeeds("completions bash"));
    let complete = |words: &str, word: &str, before: &str| {
        let count = words.split(' ').count() - 1;
        let program = format!(
            "source ./script; COMP_WORDS=({words}); COMP_CWORD={count}; \
             _char__rnn char-rnn '{word}' {before}; echo \"${{COMPREPLY[*]}}\""
        );
        let output =
            Command::new("bash").args(["-c", &program]).current_dir(folder.path()).output();
        // Where there is no bash, there is nothing to complete.
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap().trim().to_string())
    };
    for (words, word, before, expected) in [
        ("char-rnn sam", "sam", "char-rnn", "sample"),
        ("char-rnn train --op", "--op", "train", "--optimizer"),
        ("char-rnn export --format p", "p", "--format", "pytorch"),
        ("char-rnn train --optimizer a", "a", "--optimizer", "adamw"),
    ] {
        if let Some(found) = complete(words, word, before) {
            assert_eq!(found, expected, "{words}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_that_cannot_be_written_is_an_error() {
    let folder = Folder::new();
    for arguments in ["--help", "train --help", "--version", "sample -h"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_says(&stderr, &["char-rnn: cannot write to standard output: "]);
        assert!(!folder.succeeds(arguments).is_empty());
    }
}

#[test]
fn the_manual_page_of_an_unknown_command_is_refused() {
    let folder = Folder::new();
    assert!(folder.succeeds("man train").contains("batch"));
    assert_says(&folder.refuses("man evolve"), &["\"evolve\"", "there is no such command"]);
}
