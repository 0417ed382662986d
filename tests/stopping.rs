//! Signals, kills, full disks and second runs: the file is whole at any moment, and what goes on
//! from it ends where a run that was never stopped ends.
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
const QUICK: &str = "names.txt --hidden 6 --backprop hand --sample-every 999999999";

/// Kills a process that has not ended when a test should long be over: then what the test waits for
/// comes, and shows that it failed.
struct Limit {
    _over: mpsc::Sender<()>,
}

impl Limit {
    fn on(child: &Child) -> Self {
        let (over, is_over) = mpsc::channel();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            // Nothing is ever sent: it is over when the sender is gone.
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

    /// A run that has begun to train, so that it heeds signals.
    fn training(folder: &Folder, arguments: &str) -> Self {
        let mut run = Self::start(folder.command(arguments));
        let line = run.line();
        assert!(line.starts_with("Learning") || line.starts_with("Going on"), "{line}");
        run
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// How it ended, and the rest of what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A run without end must not outlive a test that fails.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many iterations the model in `path` has been trained; that it can be read proves it whole.
fn iterations(path: &Path) -> u64 {
    let saved = checkpoint::load(path, &Device::Cpu).unwrap();
    saved.resume.unwrap();
    saved.record.iterations
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(folder: &Folder) -> Vec<String> {
    folder.files().into_keys().collect()
}

// Signals.

#[test]
fn a_signal_ends_the_run_with_all_saved_and_the_rest_of_it_gives_what_one_run_gives() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for flags in ["", "--quiet", "--notebook -o names.safetensors"] {
            let folder = Folder::with_names();
            let arguments = format!("train {QUICK} {ENDLESS} {flags}");
            let run = match flags {
                "" => Running::training(&folder, &arguments),
                _ => {
                    let run = Running::start(folder.command(&arguments));
                    // The side file shows that it has begun; signals are heeded soon after.
                    wait_until("it begins", || names(&folder).len() > 1);
                    std::thread::sleep(Duration::from_millis(100));
                    run
                }
            };
            run.signal(signal);
            let (status_seen, said) = run.end();
            assert_eq!(status_seen.code(), Some(status), "{signal} {flags}: {said}");
            assert_eq!(names(&folder), ["names.safetensors", "names.txt"]);
            let done = iterations(&folder.path().join("names.safetensors"));
            assert_says(
                said.lines().last().unwrap(),
                &[
                    &format!("char-rnn: stopped by SIG{signal} after {done} of 999999999999 "),
                    "char-rnn train --resume names.safetensors names.txt",
                ],
            );
            if flags == "--quiet" {
                assert_eq!(said.lines().count(), 1, "{said}");
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
fn a_run_that_is_stopped_is_told_to_its_log_and_drawn() {
    let folder = Folder::with_names();
    let watched = "--log log.jsonl --plot run.svg --tensorboard run";
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS} {watched}"));
    std::thread::sleep(Duration::from_millis(100));
    run.signal("INT");
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(130), "{said}");
    let done = iterations(&folder.path().join("names.safetensors"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    let end = format!("{{\"end\":\"stopped\",\"iterations\":{done},\"because\":\"SIGINT\"}}");
    assert_eq!(log.lines().last().unwrap(), end);
    let last = format!("{{\"iteration\":{},", done - 1);
    assert!(log.lines().rev().nth(1).unwrap().starts_with(&last));
    let picture = String::from_utf8(folder.read("run.svg")).unwrap();
    assert_says(&picture, &[&format!("{done} of 999999999999 iterations")]);
}

#[test]
fn a_run_that_is_killed_leaves_whole_lines_up_to_its_last_checkpoint_at_least() {
    let folder = Folder::with_names();
    let watched = "--log log.jsonl --checkpoint-every 1000";
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS} {watched}"));
    wait_until("it is saved", || names(&folder).contains(&"names.safetensors".to_string()));
    run.kill();
    let done = iterations(&folder.path().join("names.safetensors"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    let told = |line: &str| -> Option<u64> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line.get("iteration")?.as_u64()
    };
    let iterations: Vec<u64> = log.lines().filter_map(told).collect();
    assert!(iterations.len() as u64 >= done, "{} of {done}", iterations.len());
    assert!(iterations.iter().copied().eq(0..iterations.len() as u64));
    let resume = "train --resume names.safetensors names.txt --log log.jsonl";
    let more = done + 500;
    folder.succeeds(&format!("{resume} --iterations {more}"));
    let log = String::from_utf8(folder.read("log.jsonl")).unwrap();
    assert!(log.lines().filter_map(told).eq(0..more));
}

#[test]
fn a_notebook_that_is_saved_nowhere_says_so_when_it_is_stopped() {
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
fn a_second_signal_ends_the_run_at_once_and_leaves_the_older_model_whole() {
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

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_the_caller_ignores_is_ignored() {
    let folder = Folder::with_names();
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).stdin(Stdio::null());
    command.args(["-c", r#"trap "" HUP; exec "$0" "$@""#, env!("CARGO_BIN_EXE_char-rnn"), "train"]);
    command.args(QUICK.split(' ')).args(ENDLESS.split(' '));
    let mut run = Running::start(command);
    assert_says(&run.line(), &["Learning"]);
    run.signal("HUP");
    std::thread::sleep(Duration::from_millis(100));
    run.signal("TERM");
    let (status, said) = run.end();
    assert_eq!(status.code(), Some(143), "{said}");
}

// An older model in the place.

#[test]
fn a_stopped_run_keeps_the_older_model_and_a_finished_one_replaces_it() {
    let folder = Folder::with_model();
    let older = folder.read("names.safetensors");
    let run = Running::training(&folder, &format!("train {QUICK} {ENDLESS}"));
    run.signal("INT");
    let (_, said) = run.end();
    assert_says(
        said.lines().last().unwrap(),
        &["the older model is kept as names.old.safetensors"],
    );
    assert!(folder.read("names.old.safetensors") == older);

    // What was stopped is not lost to a run that begins anew by mistake.
    let stopped = folder.read("names.safetensors");
    let message = folder.refuses(&format!("train {QUICK} --iterations 50"));
    assert_says(&message, &["was stopped after ", "--resume names.safetensors", "--force"]);
    // A run that saves on its way keeps the older model as long as it is not finished.
    let run = Running::training(
        &folder,
        &format!("train {QUICK} {ENDLESS} --checkpoint-every 10 --force"),
    );
    wait_until("it is saved", || folder.read("names.safetensors") != stopped);
    assert!(folder.read("names.old-2.safetensors") == stopped);
    run.kill();
    folder.succeeds(&format!("train {QUICK} --iterations 500 --checkpoint-every 100 --force"));
    assert_eq!(
        names(&folder),
        ["names.old-2.safetensors", "names.old.safetensors", "names.safetensors", "names.txt"]
    );
}

// Two runs.

#[test]
fn a_second_run_on_a_file_is_refused_until_the_first_ends_however_it_ends() {
    let folder = Folder::with_names();
    let run =
        Running::training(&folder, &format!("train {QUICK} {ENDLESS} --checkpoint-every 500"));
    wait_until("it is saved", || names(&folder).contains(&"names.safetensors".to_string()));
    for second in ["train names.txt --iterations 1", "train --resume names.safetensors names.txt"] {
        let second = folder.run(second);
        assert_eq!(second.status, Some(2), "{second:?}");
        assert_says(&second.stderr, &["another char-rnn is training names.safetensors", "-o"]);
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

/// The program where no file can grow beyond a block.
fn on_a_full_disk(folder: &Folder, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).stdin(Stdio::null());
    let limited = r#"ulimit -f 1; trap "" XFSZ; exec "$0" "$@""#;
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
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_says(&said, &["char-rnn: cannot write names.safetensors: "]);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains(".char-rnn-"), "the temporary file is of no interest: {said}");
        assert!(folder.files() == before, "{arguments}");
    }
}

#[test]
fn a_checkpoint_that_fails_is_told_once_and_does_not_end_the_run() {
    let folder = Folder::with_names();
    let train = format!("train {QUICK} --iterations 50 --checkpoint-every 10");
    for quiet in ["", "--quiet"] {
        let output = on_a_full_disk(&folder, &format!("{train} {quiet}")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("training goes on").count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(2), "at the end it is an error: {said}");
        assert_says(said.lines().last().unwrap(), &["char-rnn: cannot write names.safetensors: "]);
        assert_eq!(names(&folder), ["names.txt"]);
    }
}

#[test]
fn a_checkpoint_that_fails_is_tried_again_at_the_next() {
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
    let mut told = run.line();
    while !told.starts_with("char-rnn: ") {
        assert!(!told.is_empty(), "the run ended");
        told = run.line();
    }
    assert_says(&told, &["cannot write models/m: ", "training goes on"]);
    let before = iterations(&away.join("m"));
    fs::rename(&away, &models).unwrap();
    wait_until("it is saved again", || iterations(&path) > before);
    run.signal("INT");
    assert_eq!(run.end().0.code(), Some(130));
}

// Kills.

/// Kills a run `times` at random moments, most of them while it is being saved, and each time goes
/// on with what is there; then lets it end, and holds it against a run that was never stopped.
fn assert_kills_lose_nothing(begin: &str, every: u64, times: u32) {
    let folder = Folder::with_names();
    let path = folder.path().join("run");
    let mut random = rand::rng();
    let mut done = 0;
    let mut longest = 40_000;
    let mut kills = 0;
    while kills < times || done == 0 {
        let arguments = match path.exists() {
            true => "train --resume run names.txt".to_string(),
            false => format!("train {begin} {ENDLESS} -o run"),
        };
        let run =
            Running::start(folder.command(&format!("{arguments} --checkpoint-every {every}")));
        std::thread::sleep(Duration::from_micros(random.random_range(500..longest)));
        run.kill();
        kills += 1;
        if !path.exists() {
            // A busy machine: the program had no time to begin.
            longest *= 2;
            assert!(longest < 30_000_000, "no run lived to be saved");
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
    folder.succeeds(&format!("train {begin} {all} -o whole"));
    assert!(folder.read("run") == folder.read("whole"), "{begin} after {done} iterations");
    println!("{kills} kills in {done} iterations of {begin}");
}

const KILLED: [&str; 4] = [
    "names.txt --hidden 30 --samples 1 --backprop hand",
    "names.txt --hidden 30 --samples 1 --backprop autograd --batch-size 3 --dtype f64",
    "names.txt --hidden 30 --samples 1 --backprop unrolled --batch-size 5",
    "names.txt --hidden 30 --samples 1 --backprop hand --notebook",
];

#[test]
fn a_run_that_is_killed_a_few_times_loses_nothing() {
    for begin in KILLED {
        assert_kills_lose_nothing(begin, 3, 3);
    }
}

/// `cargo test --release --test stopping -- --ignored`
#[test]
#[ignore = "takes a while; the short one above is the same with fewer kills"]
fn a_run_that_is_killed_two_hundred_times_loses_nothing() {
    for begin in KILLED {
        assert_kills_lose_nothing(begin, 3, 50);
    }
}
