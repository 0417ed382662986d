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
    for command in ["train", "sample", "eval", "explain", "info", "plot", "export", "gradcheck"] {
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
