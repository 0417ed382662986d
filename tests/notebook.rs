//! `train --notebook` writes the notebook's log, letter for letter.
//!
//! The fixtures are NumPy's, from `scripts/notebook.py`. Training is chaotic: after iteration
//! 12,000 two runs of NumPy with different kernels part as well (`tests/fixtures/README.md`).

use std::process::Command;

/// Up to the names of iteration 12,000.
const LINES: usize = 77;

fn notebook(flags: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_char-rnn"))
        .args(["train", "--notebook"])
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn assert_is_the_notebooks(backprop: &str) {
    let log = notebook(&["--iterations", "12001", "--backprop", backprop]);
    let expected = include_str!("fixtures/notebook_dinos.log");
    let expected: String = expected.split_inclusive('\n').take(LINES).collect();
    assert!(expected.contains("Iteration: 12000, "));
    assert_eq!(log, expected);
}

#[test]
fn the_log_is_the_notebooks_by_unrolled() {
    assert_is_the_notebooks("unrolled");
}

#[test]
fn the_log_is_the_notebooks_by_autograd() {
    assert_is_the_notebooks("autograd");
}

#[test]
fn the_log_is_the_notebooks_by_hand() {
    assert_is_the_notebooks("hand");
}

#[test]
fn the_debug_lines_are_the_notebooks() {
    let log = notebook(&["--verbose", "--iterations", "1400"]);
    assert_eq!(log, include_str!("fixtures/notebook_dinos_verbose.log"));
}
