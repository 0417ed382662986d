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

/// The sessions of docs/gradients.md, without the digits of rounding errors.
#[test]
fn the_sessions_of_gradients_md_are_those_of_the_program() {
    let text = include_str!("../docs/gradients.md");
    let sessions = text.split("```text\n$ char-rnn ").skip(1);
    let sessions: Vec<&str> = sessions.map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(sessions.len(), 4);
    // The first and the last word of a row of a table.
    let shown = |line: &str| match line.strip_prefix("  ") {
        Some(row) if row.ends_with("ok") || row.ends_with("WRONG") => {
            let mut words = row.split_whitespace();
            format!("{:?} {:?}", words.next(), words.next_back())
        }
        _ => line.to_string(),
    };
    for session in sessions {
        let (command, expected) = session.split_once('\n').unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_char-rnn"));
        program.current_dir(env!("CARGO_MANIFEST_DIR")).args(command.split(' '));
        let output = program.output().unwrap();
        let found = [output.stdout, output.stderr].concat();
        let found = String::from_utf8(found).unwrap();
        let lines = |text: &str| text.lines().map(shown).collect::<Vec<_>>();
        assert_eq!(lines(&found), lines(expected), "{command}");
    }
}
