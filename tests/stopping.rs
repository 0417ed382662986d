//! Signals, kills, full disks and a second run on the same file: the model file is complete at any
//! moment, and a run resumed from it ends with the same file as a run that never stopped.
#![cfg(unix)]

mod common;

use candle_core::Device;
use char_rnn::checkpoint;
use common::{Folder, assert_says};
use rand::Rng;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

const ENDLESS: &str = "--iterations 999999999999";
const QUICK: &str = "names.txt --hidden 6 --decay none --backprop hand --eval-every 999999999";

/// Kills a process that has not ended after two minutes, so that a test that waits for it fails
/// instead of waiting for ever.
struct Limit {
    _over: mpsc::Sender<()>,
}

impl Limit {
    fn on(child: &Child) -> Self {
        let (over, is_over) = mpsc::channel();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            // Nothing is sent: the test is over when the sender is dropped.
            if is_over.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-s", "KILL", &id]).status();
            }
        });
        Self { _over: over }
    }
}

/// A run in the background.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    _limit: Limit,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let _limit = Limit::on(&child);
        Self { child, stderr, _limit }
    }

    /// A run that has started to train, so that it handles signals.
    fn training(folder: &Folder, arguments: &str) -> Self {
        let mut run = Self::start(folder.command(arguments));
        let line = run.line();
        assert!(line.starts_with("Training on") || line.starts_with("Continuing"), "{line}");
        run
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stderr.read_line(&mut line).unwrap() > 0, "standard error has ended");
        line
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end. Returns its exit status and the rest of its standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap(), stderr)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An endless run must not outlive a test that fails.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of iterations of the run in the file at `path`, which must be complete to be loaded.
fn iterations(path: &Path) -> u64 {
    checkpoint::load(path, &Device::Cpu).unwrap().run.unwrap().iterations()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "after 30 s it is not true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(folder: &Folder) -> Vec<String> {
    folder.files().into_keys().collect()
}

// Signals.

#[test]
fn a_run_stopped_by_a_signal_is_saved_and_resumes_to_the_file_of_one_that_never_stopped() {
    let signals = [("INT", 130), ("TERM", 143), ("HUP", 129)];
    // Under nohup these tests and the programs that they start ignore SIGHUP, signal 1.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    let ignores_hup = ignored.ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f']);
    for (signal, status) in signals.into_iter().filter(|(name, _)| *name != "HUP" || !ignores_hup) {
        for flags in ["", "--quiet", "--notebook -o names.safetensors"] {
            let folder = Folder::with_names();
            let arguments = format!("train {QUICK} {ENDLESS} {flags}");
            let run = match flags {
                "" => Running::training(&folder, &arguments),
                _ => {
                    let run = Running::start(folder.command(&arguments));
                    // The lock file shows that it has started; signals are handled soon after.
                    wait_until("it has started", || names(&folder).len() > 1);
                    std::thread::sleep(Duration::from_millis(100));
                    run
                }
            };
            run.signal(signal);
            let (found, stderr) = run.end();
            assert_eq!(found.code(), Some(status), "{signal} {flags}: {stderr}");
            assert_eq!(names(&folder), ["names.safetensors", "names.txt"]);
            let done = iterations(&folder.path().join("names.safetensors"));
            assert_says(
                stderr.lines().last().unwrap(),
                &[
                    &format!("char-rnn: stopped by SIG{signal} after {done} of 999999999999 "),
                    "saved as names.safetensors; to continue: ",
                    "char-rnn train --resume names.safetensors names.txt",
                ],
            );
            if flags == "--quiet" {
                assert_eq!(stderr.lines().count(), 1, "{stderr}");
            }

            let all = format!("--iterations {}", done + 500);
            folder.succeeds(&format!("train --resume names.safetensors names.txt {all}"));
            let notebook = if flags.contains("notebook") { "--notebook" } else { "" };
            folder.succeeds(&format!("train {QUICK} {all} {notebook} -o whole"));
            assert!(folder.read("names.safetensors") == folder.read("whole"), "{signal} {flags}");
        }
    }
}

#[test]
fn the_log_of_a_stopped_run_is_complete() {
    let folder = Folder::with_names();
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS} --log log.jsonl"));
    std::thread::sleep(Duration::from_millis(100));
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status.code(), Some(130), "{stderr}");
    let done = iterations(&folder.path().join("names.safetensors"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    let end = format!("{{\"end\":\"stopped\",\"iterations\":{done},\"because\":\"SIGINT\"}}");
    assert_eq!(log.lines().last().unwrap(), end);
    let last = format!("{{\"iteration\":{},", done - 1);
    assert!(log.lines().rev().nth(1).unwrap().starts_with(&last));
}

#[test]
fn the_log_of_a_killed_run_reaches_its_last_checkpoint_and_continues_on_resume() {
    let folder = Folder::with_names();
    let watched = "--log log.jsonl --checkpoint-every 1000";
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS} {watched}"));
    wait_until("it is saved", || names(&folder).contains(&"names.safetensors".to_string()));
    run.kill();
    let done = iterations(&folder.path().join("names.safetensors"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    let iteration = |line: &str| -> Option<u64> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line.get("iteration")?.as_u64()
    };
    let iterations: Vec<u64> = log.lines().filter_map(iteration).collect();
    assert!(iterations.len() as u64 >= done, "{} of {done}", iterations.len());
    assert!(iterations.iter().copied().eq(0..iterations.len() as u64));
    let resume = "train --resume names.safetensors names.txt --log log.jsonl";
    let more = done + 500;
    folder.succeeds(&format!("{resume} --iterations {more}"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    assert!(log.lines().filter_map(iteration).eq(0..more));
}

#[test]
fn a_stopped_notebook_run_without_a_file_says_that_nothing_is_saved() {
    let folder = Folder::with_names();
    let mut command = folder.command(&format!("train {QUICK} {ENDLESS} --notebook"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _limit = Limit::on(&child);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_says(&line, &["Iteration: 0, "]);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["SIGINT", "nothing is saved", "-o"]);
    assert_eq!(names(&folder), ["names.txt"]);
}

#[test]
fn a_second_signal_ends_the_run_at_once_and_keeps_the_older_model() {
    let folder = Folder::with_model();
    let older = folder.read("names.safetensors");
    // The first iteration samples names for a minute.
    let run =
        Running::training(&folder, "train names.txt --hidden 500 --samples 1000000 --iterations 3");
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    run.signal("INT");
    let (status, _) = run.end();
    assert_eq!(status.signal(), Some(2), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(folder.read("names.safetensors") == older);
}

/// Names of several words out of a few have many contexts: to count them takes seconds.
#[test]
fn a_signal_while_n_grams_are_counted_ends_the_program_at_once_and_leaves_no_file() {
    let folder = Folder::with_model();
    let mut random = rand::rng();
    let mut letters = |n| (0..n).map(|_| random.random_range('a'..='z')).collect::<String>();
    let words: Vec<String> = (0..300).map(|_| letters(12)).collect();
    let word = || words[rand::rng().random_range(0..words.len())].as_str();
    let names: Vec<String> = (0..60_000).map(|_| (0..6).map(|_| word()).collect()).collect();
    folder.write("long.txt", names.join("\n"));
    folder.write("letters.txt", ('a'..='z').collect::<String>() + "\nabc\n");
    folder.succeeds("train letters.txt --hidden 2 --iterations 1 -q -o model");
    let before = folder.files();
    for (arguments, message) in [
        ("train long.txt --smoothing 0.5 -o new", "char-rnn: stopped by SIGINT; nothing is saved"),
        ("train long.txt --best -o new", "char-rnn: stopped by SIGINT; nothing is saved"),
        ("eval model --baseline long.txt letters.txt", "char-rnn: stopped by SIGINT"),
    ] {
        let run = Running::start(folder.command(arguments));
        std::thread::sleep(Duration::from_millis(400));
        let start = Instant::now();
        run.signal("INT");
        let (status, stderr) = run.end();
        assert_eq!((status.code(), stderr.lines().last()), (Some(130), Some(message)));
        assert!(start.elapsed() < Duration::from_secs(1), "{arguments}: {:?}", start.elapsed());
        assert!(folder.files() == before, "{arguments}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_the_parent_ignores_is_ignored() {
    let folder = Folder::with_names();
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.args(["-c", r#"trap "" HUP; exec "$0" "$@""#, env!("CARGO_BIN_EXE_char-rnn"), "train"]);
    command.args(QUICK.split(' ')).args(ENDLESS.split(' '));
    let mut run = Running::start(command);
    assert_says(&run.line(), &["Training on"]);
    run.signal("HUP");
    std::thread::sleep(Duration::from_millis(100));
    run.signal("TERM");
    let (status, stderr) = run.end();
    assert_eq!(status.code(), Some(143), "{stderr}");
}

// An older model in the same file.

#[test]
fn a_stopped_run_keeps_the_older_model_and_a_finished_run_replaces_it() {
    let folder = Folder::with_model();
    let older = folder.read("names.safetensors");
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS}"));
    run.signal("INT");
    let (_, stderr) = run.end();
    assert_says(
        stderr.lines().last().unwrap(),
        &["the older model is kept as .names.safetensors.old"],
    );
    let kept = ".names.safetensors.old";
    assert!(folder.read(kept) == older);

    // A new run does not replace a stopped one by mistake.
    let stopped = folder.read("names.safetensors");
    let message = folder.refuses(&format!("train {QUICK} --iterations 50"));
    assert_says(&message, &["was stopped after ", "--resume names.safetensors", "--force"]);
    // Checkpoints do not replace the older model until the run is finished.
    let run = Running::training(
        &folder,
        &format!("train {QUICK} {ENDLESS} --checkpoint-every 10 --force"),
    );
    wait_until("it is saved", || folder.read("names.safetensors") != stopped);
    run.kill();
    assert!(folder.read(kept) == older);
    // A run that is finished on resume replaces it too.
    let more = iterations(&folder.path().join("names.safetensors")) + 10;
    folder.succeeds(&format!("train --resume names.safetensors names.txt --iterations {more}"));
    assert_eq!(names(&folder), ["names.safetensors", "names.txt"]);
}

#[test]
fn a_file_of_another_kind_that_appears_during_a_run_is_not_overwritten() {
    let folder = Folder::with_names();
    // Rarely enough that the next save is not under way yet when the file appears.
    let mut run =
        Running::training(&folder, &format!("train {QUICK} {ENDLESS} --checkpoint-every 100000"));
    wait_until("it is saved", || names(&folder).contains(&"names.safetensors".to_string()));
    folder.write("letter", "dear");
    fs::rename(folder.path().join("letter"), folder.path().join("names.safetensors")).unwrap();
    let mut line = run.line();
    while !line.starts_with("char-rnn: ") {
        line = run.line();
    }
    assert_says(&line, &["will not be written over", "training continues"]);
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(folder.read("names.safetensors"), b"dear");
}

// Two runs.

#[test]
fn a_second_run_on_the_same_file_is_refused_until_the_first_has_ended_or_was_killed() {
    let folder = Folder::with_names();
    let run =
        Running::training(&folder, &format!("train {QUICK} {ENDLESS} --checkpoint-every 500"));
    wait_until("it is saved", || names(&folder).contains(&"names.safetensors".to_string()));
    for second in ["train names.txt --iterations 1", "train --resume names.safetensors names.txt"] {
        let second = folder.run(second);
        assert_eq!(second.status, Some(2), "{second:?}");
        assert_says(
            &second.stderr,
            &["cannot write names.safetensors: another char-rnn is training it", "-o"],
        );
    }
    folder.succeeds("train names.txt --iterations 1 --hidden 4 -o other");
    assert_eq!(folder.succeeds("sample names.safetensors -n 3").lines().count(), 3);
    folder.succeeds("info names.safetensors");
    run.kill();
    let more = iterations(&folder.path().join("names.safetensors")) + 10;
    folder.succeeds(&format!("train --resume names.safetensors names.txt --iterations {more}"));
    assert_eq!(names(&folder), ["names.safetensors", "names.txt", "other"]);
}

// Full disks.

/// The program with files limited to one block, as on a full disk.
fn on_a_full_disk(folder: &Folder, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).stdin(Stdio::null());
    let limited = r#"ulimit -f 1; exec "$0" "$@""#;
    command.args(["-c", limited, env!("CARGO_BIN_EXE_char-rnn")]);
    command.args(arguments.split_whitespace());
    command
}

#[test]
fn on_a_full_disk_the_older_model_stays_and_the_run_ends_with_an_error() {
    let folder = Folder::with_model();
    let before = folder.files();
    let train = format!("train {QUICK} --iterations 50");
    for arguments in [
        format!("{train} --quiet"),
        format!("{train} --quiet --notebook -o names.safetensors"),
        "train --resume names.safetensors names.txt --iterations 400 --quiet".to_string(),
    ] {
        let output = on_a_full_disk(&folder, &arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_says(&stderr, &["char-rnn: cannot write names.safetensors: "]);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains(".char-rnn-"), "the message names the temporary file: {stderr}");
        assert!(folder.files() == before, "{arguments}");
    }
}

#[test]
fn a_failed_checkpoint_is_reported_once_and_does_not_end_the_run() {
    let folder = Folder::with_names();
    let train = format!("train {QUICK} --iterations 50 --checkpoint-every 10");
    for quiet in ["", "--quiet"] {
        let output = on_a_full_disk(&folder, &format!("{train} {quiet}")).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.matches("training continues").count(), 1, "{stderr}");
        assert_eq!(output.status.code(), Some(2), "at the end it is an error: {stderr}");
        assert_says(
            stderr.lines().last().unwrap(),
            &["char-rnn: cannot write names.safetensors: "],
        );
        assert_eq!(names(&folder), ["names.txt"]);
    }
}

#[test]
fn a_failed_checkpoint_is_tried_again() {
    let folder = Folder::with_names();
    let (models, away) = (folder.path().join("models"), folder.path().join("away"));
    fs::create_dir(&models).unwrap();
    let mut run = Running::training(
        &folder,
        &format!("train {QUICK} {ENDLESS} --checkpoint-every 100 -o models/m"),
    );
    let path = models.join("m");
    wait_until("it is saved", || path.exists());
    fs::rename(&models, &away).unwrap();
    let mut line = run.line();
    while !line.starts_with("char-rnn: ") {
        assert!(!line.is_empty(), "the run ended");
        line = run.line();
    }
    assert_says(&line, &["cannot write models/m: ", "training continues"]);
    let before = iterations(&away.join("m"));
    fs::rename(&away, &models).unwrap();
    wait_until("it is saved again", || iterations(&path) > before);
    run.signal("INT");
    assert_eq!(run.end().0.code(), Some(130));
}

#[test]
fn ctrl_c_keeps_the_names_that_were_found() {
    let folder = Folder::with_model();
    let mut command = folder.command("sample names.safetensors -n 999999999 --matching ^a");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _limit = Limit::on(&child);
    let mut names = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    names.read_line(&mut first).unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    let mut others = String::new();
    names.read_to_string(&mut others).unwrap();
    let ended = child.wait_with_output().unwrap();
    let found = others.lines().count() + 1;
    assert!(others.is_empty() || others.ends_with('\n'));
    assert_eq!(ended.status.code(), Some(130));
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_says(&stderr, &["stopped by SIGINT", &format!("only {found} of 999999999 names")]);
}

// Kills.

/// Kills a run `times` at random moments, most of them while it is being saved, and each time
/// resumes it from its file; then lets it end, and compares its file with that of a run that never
/// stopped.
fn assert_kills_lose_nothing(start: &str, every: u64, times: u32) {
    let folder = Folder::with_names();
    let path = folder.path().join("run");
    let mut random = rand::rng();
    let mut done = 0;
    let mut longest = 40_000;
    let mut kills = 0;
    while kills < times || done == 0 {
        let arguments = match path.exists() {
            true => "train --resume run names.txt".to_string(),
            false => format!("train {start} {ENDLESS} --eval-every 2000 -o run"),
        };
        let run =
            Running::start(folder.command(&format!("{arguments} --checkpoint-every {every}")));
        std::thread::sleep(Duration::from_micros(random.random_range(500..longest)));
        run.kill();
        kills += 1;
        if !path.exists() {
            // A busy machine: the program had no time to start.
            longest *= 2;
            assert!(longest < 30_000_000, "no run was ever saved");
        }
        if path.exists() {
            let now = iterations(&path);
            assert!(now >= done, "{done} iterations had become {now}");
            done = now;
        }
        let leftovers: Vec<String> =
            names(&folder).into_iter().filter(|name| name.starts_with(".run.char-rnn-")).collect();
        assert!(leftovers.len() <= 1, "{leftovers:?}");
    }
    let all = format!("--iterations {}", done + 50);
    folder.succeeds(&format!("train --resume run names.txt {all}"));
    assert_eq!(names(&folder), ["names.txt", "run"]);
    folder.succeeds(&format!("train {start} {all} --eval-every 2000 -o whole"));
    assert!(folder.read("run") == folder.read("whole"), "{start} after {done} iterations");
    println!("{kills} kills in {done} iterations of {start}");
}

const KILLED: [&str; 4] = [
    "names.txt --hidden 30 --samples 1 --decay none --backprop hand",
    "names.txt --hidden 30 --samples 1 --decay none --backprop autograd --batch-size 3 --dtype f64",
    "names.txt --hidden 30 --samples 1 --decay none --backprop unrolled --batch-size 5",
    "names.txt --hidden 30 --samples 1 --decay none --backprop hand --notebook",
];

#[test]
fn a_run_killed_a_few_times_loses_nothing() {
    for start in KILLED {
        assert_kills_lose_nothing(start, 3, 3);
    }
}

/// `cargo test --release --test stopping -- --ignored`
#[test]
#[ignore = "takes minutes; the test above is the same with fewer kills"]
fn a_run_killed_two_hundred_times_loses_nothing() {
    for start in KILLED {
        assert_kills_lose_nothing(start, 3, 50);
    }
}
