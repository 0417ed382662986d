//! `--device cuda` from end to end, on a GPU that is none: `fake_gpu/` has a driver, a cuBLAS and a
//! cuRAND that do on the processor what they are asked, and run our kernels as compiled C. What the
//! program asks of a GPU is tested so, launches, arguments and memory; a GPU itself is not, nor its
//! compiler, nor speed: for that there is `scripts/check_cuda.py`.
//!
//! It takes a build with the feature `cuda`: `cargo test --features cuda --test cuda`.
#![cfg(all(feature = "cuda", target_os = "linux"))]

mod common;

use common::{Folder, Run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;

/// The folder in which the fake libraries stand.
static LIBRARIES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let source =
        |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_gpu").join(name);
    let compile = |output: &str, sources: &[&str], flags: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(folder.path().join(output));
        cc.args(flags).args(sources.iter().map(|name| source(name))).args(["-ldl", "-lm"]);
        let output = cc.output().expect("the C compiler that rustc links with is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    compile("libcuda.so.1", &["driver.c", "candle.c"], &[]);
    let ours = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/src/ops/cuda");
    for (float, name) in [("-DF=float", "kernels_f32.so"), ("-DF=double", "kernels_f64.so")] {
        compile(name, &["kernels.c"], &[float, ours]);
    }
    for name in ["libcublas.so.13", "libcurand.so.10"] {
        // The program asks for functions of this version.
        let version = folder.path().join("version");
        std::fs::write(&version, format!("{name} {{ *; }};")).unwrap();
        let script = format!("-Wl,--version-script={}", version.display());
        compile(name, &["libraries.c"], &[&script, &format!("-Wl,-soname,{name}")]);
    }
    folder
});

/// The program on the fake GPU, with these variables in its environment.
fn command(folder: &Folder, arguments: &str, environment: &[(&str, &str)]) -> Command {
    let mut paths = vec![LIBRARIES.path().to_path_buf()];
    let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    paths.extend(std::env::split_paths(&others).collect::<Vec<PathBuf>>());
    let mut command = folder.command(arguments);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(paths).unwrap());
    command.env("RUST_BACKTRACE", "0").envs(environment.iter().copied());
    command
}

fn run(folder: &Folder, arguments: &str, environment: &[(&str, &str)]) -> Run {
    let output = command(folder, arguments, environment).output().unwrap();
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn succeeds(folder: &Folder, arguments: &str) -> String {
    let run = run(folder, arguments, &[]);
    assert_eq!(run.status, Some(0), "{arguments}: {run:?}");
    run.stdout
}

#[test]
fn all_ways_back_agree_on_a_gpu() {
    let folder = Folder::new();
    for shape in [
        "--hidden 1 --vocabulary 2 --steps 1 --batch 1",
        "--hidden 50 --vocabulary 27 --steps 8 --batch 1",
        "--hidden 50 --vocabulary 27 --steps 8 --batch 4",
        "--hidden 7 --vocabulary 1000 --steps 3 --batch 2",
        "--hidden 20 --vocabulary 200 --steps 4 --batch 1",
        // Too large for one launch.
        "--hidden 257 --vocabulary 5 --steps 3 --batch 2",
        "--hidden 257 --vocabulary 5 --steps 1 --batch 1",
    ] {
        for dtype in ["f64", "f32"] {
            let flags = format!("gradcheck --device cuda {shape} --dtype {dtype} --entries 12");
            assert!(succeeds(&folder, &flags).contains("All 36 comparisons"), "{flags}");
        }
    }
    let all = succeeds(&folder, "gradcheck --all --hidden 6 --entries 12");
    assert!(all.contains("f64 on cuda:0") && all.contains("f32 on cuda:0"), "{all}");
}

#[test]
fn a_gpu_learns_what_the_cpu_learns_and_makes_the_same_names() {
    let folder = Folder::new();
    folder.write("names.txt", "anna\nbob\ncleo\ndora\nemil\nfritz\ngreta\n");
    let train = "train names.txt --hidden 9 --dtype f64 --iterations 150 --sample-every 70 --force";
    for flags in [
        "",
        "--batch-size 3",
        "--optimizer adamw",
        "--zero-state --decay cosine",
        "--validation 0.3",
    ] {
        for way in ["unrolled", "autograd", "hand"] {
            let train = format!("{train} {flags} --backprop {way}");
            let there = succeeds(&folder, &format!("{train} --device cuda -o there.safetensors"));
            let here = succeeds(&folder, &format!("{train} -o here.safetensors"));
            assert_eq!(there, here, "{train}");
        }
    }
    for flags in ["--prefix a", "--temperature 0.5 --top-k 3", "--unique", ""] {
        let sample = format!("sample there.safetensors -n 40 --seed 1 {flags}");
        let there = succeeds(&folder, &format!("{sample} --device cuda"));
        assert_eq!(there, succeeds(&folder, &sample), "{flags}");
    }
}

#[test]
fn training_in_parts_on_a_gpu_is_training_in_one() {
    let folder = Folder::with_names();
    for way in ["unrolled", "autograd", "hand"] {
        let flags = format!("--device cuda --hidden 5 --quiet --force --backprop {way}");
        succeeds(
            &folder,
            &format!("train names.txt {flags} --iterations 500 -o whole.safetensors"),
        );
        succeeds(&folder, &format!("train names.txt {flags} --iterations 230 -o part.safetensors"));
        let resume = "train names.txt --device cuda --quiet --resume part.safetensors";
        succeeds(&folder, &format!("{resume} --iterations 500"));
        assert!(folder.read("whole.safetensors") == folder.read("part.safetensors"), "{way}");
    }
}

#[test]
fn training_waits_for_the_gpu_only_to_look() {
    let folder = Folder::with_names();
    let log = folder.path().join("log");
    let counts = |iterations: u64| -> Vec<i64> {
        let flags =
            "--device cuda --backprop hand --hidden 5 --sample-every 100000 --samples 0 --quiet";
        let train =
            format!("train names.txt {flags} --iterations {iterations} --force -o m.safetensors");
        let run = run(&folder, &train, &[("FAKE_LOG", log.to_str().unwrap())]);
        assert_eq!(run.status, Some(0), "{run:?}");
        let log = String::from_utf8(folder.read("log")).unwrap();
        log.split_whitespace().map(|count| count.parse().unwrap()).collect()
    };
    let (few, many) = (counts(400), counts(800));
    // Per iteration one launch for the gradients, one for each of five updates, and one to put the
    // loss beside the others.
    assert_eq!(many[0] - few[0], 7 * 400, "launches");
    // Of these 400 iterations every fourth one is measured for the history. Then the gradients of
    // five tensors are looked at, and the losses since the last time are read together.
    assert_eq!(many[2] - few[2], 100 * (5 + 1), "copies back");
}

#[test]
fn what_is_missing_is_told_in_one_sentence() {
    let folder = Folder::with_names();
    let train = "train names.txt --device cuda --hidden 300 --iterations 3 -o m.safetensors";
    for (arguments, environment, parts) in [
        (
            "gradcheck --device cuda:1",
            ("FAKE_GPUS", "1"),
            ["no GPU cuda:1", "there is one, cuda:0"],
        ),
        ("gradcheck --device cuda:9", ("FAKE_GPUS", "3"), ["no GPU cuda:9", "cuda:0 to cuda:2"]),
        ("gradcheck --device cuda", ("FAKE_GPUS", "0"), ["no GPU", "--device cpu"]),
        (train, ("FAKE_MEMORY", "500000"), ["too little free memory", "--hidden"]),
    ] {
        let run = run(&folder, arguments, &[environment]);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(parts.iter().all(|part| run.stderr.contains(part)), "{run:?}");
        let told = run.stderr.lines().filter(|line| line.starts_with("char-rnn: ")).count();
        assert!(told == 1 && run.stderr.ends_with('\n'), "{run:?}");
    }
    // Without the fake libraries, on a machine that has no driver either.
    if !["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu"]
        .iter()
        .any(|folder| Path::new(folder).join("libcuda.so.1").exists())
    {
        let run = folder.run("gradcheck --device cuda");
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(
            run.stderr.contains("no NVIDIA driver") && run.stderr.lines().count() == 1,
            "{run:?}"
        );
    }
}
