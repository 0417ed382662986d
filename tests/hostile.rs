//! Hostile and unlucky surroundings: text for a terminal in files and paths, pipes in the place of
//! files, and too little memory.
#![cfg(target_os = "linux")]

mod common;

use common::{Folder, assert_says, with_header};
use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output, Stdio};

/// A name that moves the cursor, changes colours, turns text around and ends lines.
const HOSTILE: &str = "a\u{1b}[31m\r\n\u{9b}7m\u{7}\u{202e}\u{2028}b";

/// The program with these arguments, killed after a minute.
fn run<'a>(folder: &Folder, arguments: impl IntoIterator<Item = &'a str>) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_char-rnn")]).args(arguments);
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn assert_harmless(output: &Output, what: &str) {
    for stream in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(stream).unwrap();
        let is_harmful = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2028}".contains(c));
        assert!(!text.contains(is_harmful), "{what}: {text:?}");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked") && stderr.len() < 2000, "{what}: {stderr}");
}

#[test]
fn no_file_and_no_path_brings_a_control_character_to_the_terminal() {
    let folder = Folder::with_model();
    let good = folder.read("names.safetensors");
    let json = |text: &str| {
        let inner = serde_json::to_string(text).unwrap();
        let outer = serde_json::to_string(inner.trim_matches('"')).unwrap();
        (inner.trim_matches('"').to_string(), outer.trim_matches('"').to_string())
    };
    let ((plain, nested), (_, long)) = (json(HOSTILE), json(&format!("{HOSTILE}{:9999}", "x")));
    let files = [
        (r#"\"program\":\""#, format!(r#"\"program\":\"{nested}"#)),
        (r#"\"sha256\":\""#, format!(r#"\"sha256\":\"{long}"#)),
        (r#"\"values\":[[0,[\""#, format!(r#"\"values\":[[0,[\"{nested}"#)),
        (r#"\"batch_size\""#, format!(r#"\"{long}\""#)),
        (r#"\"backprop\":\"autograd"#, format!(r#"\"backprop\":\"{long}"#)),
        (r#"\"dtype\":\"f32"#, format!(r#"\"dtype\":\"{nested}"#)),
        (r#"\"seed\":\"1"#, format!(r#"\"seed\":\"{nested}"#)),
        (r#"\"version\":6"#, format!(r#"\"version\":\"{nested}\""#)),
        (r#""vocabulary":"\na"#, format!(r#""vocabulary":"\n{plain}"#)),
        (r#""state.a""#, format!(r#""state.{plain}""#)),
        (r#""wax""#, format!(r#""{plain}""#)),
        (r#""dtype":"U32""#, format!(r#""dtype":"{plain}""#)),
    ];
    let model = format!("{HOSTILE}.safetensors");
    for (from, to) in files {
        folder.write(
            &model,
            with_header(&good, |header| {
                assert!(header.contains(from), "{from}: {header}");
                header.replacen(from, &to, 1)
            }),
        );
        for arguments in [
            &["info", &model][..],
            &["info", &model, "--json"],
            &["sample", &model, "-n", "1"],
            &["eval", &model, "names.txt"],
            &["explain", &model, "anna"],
            &["export", &model, "--format", "npz"],
            &["gradcheck", "--model", &model, "names.txt"],
            &["gradcheck", "--model", &model, "names.txt", "--json"],
            &["train", "--resume", &model, "names.txt", "--iterations", "301", "-o", "new"],
            &["train", "names.txt", "--log", &model, "-o", "new", "--force"],
        ] {
            let output = run(&folder, arguments.iter().copied());
            assert_harmless(&output, &format!("{from}: {arguments:?}"));
            if output.status.code() == Some(2) {
                assert_eq!(output.stderr.iter().filter(|&&byte| byte == b'\n').count(), 1);
            }
        }
    }
    folder.write(HOSTILE, "anna\nb\u{1b}ob\n");
    let list = format!("{HOSTILE}.txt");
    folder.write(&list, "anna\nbob\n");
    folder.write("log", format!("{{\"settings\":{{}}}}\n{{\"iteration\":\"{plain}\"}}\n"));
    for arguments in [
        &["train", HOSTILE][..],
        &["vocab", HOSTILE],
        &["train", &list, "--iterations", "1"],
        &["train", "--resume", &model, "--iterations", "9"],
        &["train", "names.txt", "-o", &format!("{HOSTILE}/none")],
        &["train", "names.txt", "--log", HOSTILE],
        &["train", "--resume", "names.safetensors", "names.txt", "--log", "log"],
        &["eval", "names.safetensors", &list],
        &["eval", "names.safetensors", HOSTILE],
        &["explain", "names.safetensors", HOSTILE],
        &["sample", "names.safetensors", "--prefix", HOSTILE],
        &["sample", &format!("{HOSTILE}none")],
        &["train", &list, HOSTILE],
        &["train", "--seed", HOSTILE],
        &["man", HOSTILE],
        &["completions", HOSTILE],
        &[HOSTILE],
    ] {
        assert_harmless(&run(&folder, arguments.iter().copied()), &format!("{arguments:?}"));
    }
}

#[test]
fn a_pipe_is_a_log_and_in_the_place_of_any_other_file_refused() {
    let folder = Folder::with_model();
    for pipe in ["pipe", ".locked.lock"] {
        assert!(Command::new("mkfifo").arg(folder.path().join(pipe)).status().unwrap().success());
    }
    for arguments in [
        "train names.txt -o pipe",
        "train names.txt -o locked",
        "train names.txt --resume pipe",
        "export names.safetensors --format npz -o pipe",
        "sample pipe",
    ] {
        let output = run(&folder, arguments.split(' '));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert_says(&stderr, &["not a file"]);
    }
    let mut reader = Command::new("timeout");
    reader.arg("60").arg("cat").arg(folder.path().join("pipe")).stdout(Stdio::piped());
    let reader = reader.spawn().unwrap();
    let arguments = "train names.txt --iterations 3 --log pipe -o new";
    assert!(run(&folder, arguments.split(' ')).status.success());
    let log = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    assert_says(&log, &["{\"settings\":", "{\"end\":\"done\",\"iterations\":3}\n"]);
}

#[test]
fn memory_that_is_not_there_is_reported_and_no_more_threads_than_cores_start() {
    let folder = Folder::with_model();
    folder.write("long.txt", format!("{}b", "a".repeat(999)));
    let huge = "--hidden 8192 --batch-size 65536 --backprop unrolled --dtype f64";
    let message = folder.refuses(&format!("train long.txt {huge}"));
    assert_says(&message, &["GiB of memory", "--batch-size", "--hidden"]);

    let mut command = Command::new("sh");
    let limited = r#"ulimit -v 1500000; RUST_BACKTRACE=1 exec "$0" "$@""#;
    command.args(["-c", limited, env!("CARGO_BIN_EXE_char-rnn")].map(OsStr::new));
    command.args("train names.txt -o new".split(' ')).env("CANDLE_NUM_THREADS", "1024");
    let output = command.current_dir(folder.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    // The stacks of so many threads would not fit.
    assert!(output.status.success(), "{stderr}");
    assert!(fs::metadata(folder.path().join("new")).is_ok());
}
