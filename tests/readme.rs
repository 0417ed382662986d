//! The README and `docs/`. The README's Rust examples are documentation tests.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn the_readme_is_short() {
    let readme = include_str!("../README.md");
    assert!(readme.lines().count() <= 200);
    let long = readme.lines().find(|line| line.chars().count() > 100 && !line.starts_with('|'));
    assert_eq!(long, None);
}

/// The flags in a text: `--` and lower-case letters, digits and dashes.
fn flags(text: &str) -> BTreeSet<&str> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c| !is_flag(c));
    words
        .filter(|word| word.starts_with("--") && !word.trim_start_matches('-').is_empty())
        .collect()
}

#[test]
fn cli_md_documents_the_flags_of_every_command() {
    let mut help = String::new();
    for command in ["train", "sample", "eval", "explain", "info", "export", "gradcheck"] {
        let program = env!("CARGO_BIN_EXE_char-rnn");
        let output = Command::new(program).args([command, "--help"]).output().unwrap();
        assert!(output.status.success());
        help += &String::from_utf8(output.stdout).unwrap();
    }
    let (help, documented) = (flags(&help), flags(include_str!("../docs/cli.md")));
    let missing: Vec<_> = help.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/cli.md lacks {missing:?}");
    let unknown: Vec<_> = documented.difference(&help).collect();
    assert!(unknown.is_empty(), "docs/cli.md has {unknown:?}, which no command has");
}

/// Whether two words are the same, where numbers may differ as training does between processors, and
/// rounding errors by any factor.
fn are_alike(expected: &str, found: &str) -> bool {
    let number = |word: &str| word.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>();
    match (number(expected), number(found)) {
        (Ok(expected), Ok(found)) if expected < 1e-9 => found < 1e-9,
        (Ok(expected), Ok(found)) => (expected - found).abs() <= 0.1 * expected.max(0.02),
        _ => expected == found,
    }
}

/// Whether two lines are the same, with any name for a name, and any iteration for the best one.
fn are_alike_lines(expected: &str, found: &str) -> bool {
    let [expected, found] =
        [expected, found].map(|line| line.split_whitespace().collect::<Vec<_>>());
    if let ([name], [_]) = (&expected[..], &found[..])
        && name.chars().all(char::is_alphabetic)
    {
        return true;
    }
    let mut before = "";
    expected.len() == found.len()
        && expected.iter().zip(&found).all(|(word, other)| {
            std::mem::replace(&mut before, word) == "iteration" || are_alike(word, other)
        })
}

/// Each session in the README and in `docs/`: commands after `$`, and what they print. A line of
/// `[...]` stands for any lines.
#[cfg(unix)]
#[test]
fn the_sessions_of_the_documentation_are_those_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::os::unix::fs::symlink(root.join("tests"), folder.path().join("tests")).unwrap();
    let run = |command: &str| {
        let command = command.replace("cargo run --release -- ", "char-rnn ");
        let arguments = command.strip_prefix("char-rnn ").expect("the program").split(' ');
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$0\" \"$@\" 2>&1", env!("CARGO_BIN_EXE_char-rnn")]).args(arguments);
        let output = shell.current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut commands = 0;
    for document in ["README.md", "docs/training.md", "docs/cli.md", "docs/gradients.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for session in text.split("```text\n$ ").skip(1) {
            let session = session.split("\n```").next().unwrap();
            for part in session.split("\n$ ") {
                let (command, expected) = part.split_once('\n').unwrap_or((part, ""));
                let output = run(command);
                let mut found = output.lines().filter(|line| !line.is_empty());
                let mut skips = false;
                for line in expected.lines().filter(|line| !line.is_empty()) {
                    let is_there = match line {
                        "[...]" => true,
                        _ if skips => found.any(|found| are_alike_lines(line, found)),
                        _ => found.next().is_some_and(|found| are_alike_lines(line, found)),
                    };
                    assert!(is_there, "{document}: {command}: {line}\n{output}");
                    skips = line == "[...]";
                }
                assert!(
                    skips || found.next().is_none(),
                    "{document}: {command} prints more\n{output}"
                );
                commands += 1;
            }
        }
    }
    assert!(commands >= 6, "{commands}");
}
