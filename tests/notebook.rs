//! `train --notebook` writes the notebook's log, letter for letter.
//!
//! The fixtures are NumPy's, from `scripts/notebook.py`. Training is chaotic: after iteration
//! 12,000 two runs of NumPy with different kernels differ as well (`tests/fixtures/README.md`).

mod common;

use common::Folder;

/// The lines up to the names of iteration 12,000.
const LINES: usize = 77;

fn assert_log_is_the_notebooks(backprop: &str) {
    let arguments = format!("train --notebook --iterations 12001 --backprop {backprop}");
    let expected = include_str!("fixtures/notebook_dinos.log");
    let expected: String = expected.split_inclusive('\n').take(LINES).collect();
    assert!(expected.contains("Iteration: 12000, "));
    assert_eq!(Folder::new().succeeds(&arguments), expected);
}

#[test]
fn the_log_by_unrolled_is_the_notebooks() {
    assert_log_is_the_notebooks("unrolled");
}

#[test]
fn the_log_by_autograd_is_the_notebooks() {
    assert_log_is_the_notebooks("autograd");
}

#[test]
fn the_log_by_hand_is_the_notebooks() {
    assert_log_is_the_notebooks("hand");
}

#[test]
fn the_verbose_log_is_the_notebooks() {
    let log = Folder::new().succeeds("train --notebook --verbose --iterations 1400");
    assert_eq!(log, include_str!("fixtures/notebook_dinos_verbose.log"));
}
