//! `--device cuda` from end to end, on a GPU that is none: `fake_gpu/` has a driver, a cuBLAS and a
//! cuRAND that do on the processor what they are asked, and run our kernels as compiled C. What the
//! program asks of a GPU is tested so, launches, arguments and memory; a GPU itself is not, nor its
//! compiler, nor speed: for that there is `scripts/check_cuda.py`.
//!
//! It takes a build with the feature `cuda`: `cargo test --features cuda --test cuda`.
#![cfg(all(feature = "cuda", target_os = "linux"))]

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::{RNN, VarBuilder};
use char_rnn::batch::Batch;
use char_rnn::model::{CharRnnState, Config, char_rnn};
use char_rnn::{bptt_tensors, device, ops};
use common::{Folder, Run};
use libloading::Library;
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

/// Lets this command find the fake libraries before others.
fn with_libraries(command: &mut Command) {
    let mut paths = vec![LIBRARIES.path().to_path_buf()];
    let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    paths.extend(std::env::split_paths(&others).collect::<Vec<PathBuf>>());
    command.env("LD_LIBRARY_PATH", std::env::join_paths(paths).unwrap());
}

/// The program on the fake GPU, with these variables in its environment.
fn command(folder: &Folder, arguments: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = folder.command(arguments);
    with_libraries(&mut command);
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
    let counts = |way: &str, iterations: u64| -> Vec<i64> {
        let flags = format!(
            "--device cuda --backprop {way} --hidden 5 --sample-every 100000 --samples 0 --quiet"
        );
        let train =
            format!("train names.txt {flags} --iterations {iterations} --force -o m.safetensors");
        let run = run(&folder, &train, &[("FAKE_LOG", log.to_str().unwrap())]);
        assert_eq!(run.status, Some(0), "{run:?}");
        let log = String::from_utf8(folder.read("log")).unwrap();
        log.split_whitespace().map(|count| count.parse().unwrap()).collect()
    };
    let (few, many) = (counts("hand", 400), counts("hand", 800));
    // Per iteration one launch for the gradients, one for each of five updates, and one to put the
    // loss beside the others.
    assert_eq!(many[0] - few[0], 7 * 400, "launches");
    // Of these 400 iterations every fourth one is measured for the history. Then the gradients of
    // five tensors are looked at, and the losses since the last time are read together.
    assert_eq!(many[2] - few[2], 100 * (5 + 1), "copies back");
    let (few, many) = (counts("autograd", 400), counts("autograd", 800));
    assert_eq!(many[0] - few[0], 29 * 400, "launches by autograd");
}

#[test]
fn what_is_missing_is_told_in_one_sentence() {
    let folder = Folder::with_names();
    folder.write("long.txt", format!("{}\nbob\n", "a".repeat(1000)));
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
        (train, ("FAKE_VERSION", "11080"), ["CUDA 11.8", "install a newer driver"]),
        (
            "train long.txt --device cuda --hidden 1000 --batch-size 5000 -o m.safetensors",
            ("FAKE_GPUS", "1"),
            ["5005000000 entries", "--batch-size"],
        ),
    ] {
        let run = run(&folder, arguments, &[environment]);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(parts.iter().all(|part| run.stderr.contains(part)), "{run:?}");
        let told = run.stderr.lines().filter(|line| line.starts_with("char-rnn: ")).count();
        assert!(told == 1 && run.stderr.ends_with('\n'), "{run:?}");
    }
    // Without the fake libraries, on a machine that has no driver either.
    // SAFETY: a driver does nothing when it is loaded.
    if unsafe { Library::new("libcuda.so.1") }.is_err() {
        let run = folder.run("gradcheck --device cuda");
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(
            run.stderr.contains("no NVIDIA driver") && run.stderr.lines().count() == 1,
            "{run:?}"
        );
    }
}

#[test]
#[ignore = "for the fake GPU, where the next test starts it"]
fn on_the_fake_gpu() {
    let gpu = &device::cuda(0).unwrap();
    // A part of a tensor, where the recurrence is one launch and where it is a product a step.
    for n in [5, 257] {
        let noise = |rows: usize| {
            let values = (0..rows * n).map(|k| (k as f64 * 0.7).sin() / n as f64);
            Tensor::from_iter(values, &Device::Cpu).unwrap().reshape((rows, n)).unwrap()
        };
        let there = |tensor: &Tensor| tensor.to_device(gpu).unwrap();
        let (px, waa, a0) = (noise(9), noise(n), noise(2));
        let part = |px: &Tensor| px.narrow(0, 3, 6).unwrap();
        let expected = ops::recurrence(&part(&px), &waa, &a0).unwrap();
        let found = ops::recurrence(&part(&there(&px)), &there(&waa), &there(&a0)).unwrap();
        let apart = (found.to_device(&Device::Cpu).unwrap() - expected).unwrap().abs().unwrap();
        let most: f64 = apart.flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        assert!(most < 1e-14, "{n}: {most}");
    }

    // What a kernel would read behind its end.
    let config = Config { vocabulary: 4, hidden: 3 };
    let values = ["wax", "waa", "wya", "b", "by"].map(|name| {
        let tensor = Tensor::zeros(config.shape(name), DType::F32, gpu).unwrap();
        (name.to_string(), tensor)
    });
    let vb = VarBuilder::from_tensors(values.into_iter().collect(), DType::F32, gpu);
    let model = char_rnn(config, vb).unwrap();
    let two = Batch::new([&[1, 2][..], &[3]]);
    let one = model.zero_state(1).unwrap();
    assert!(bptt_tensors::loss_and_gradients(&model, &two, &one).is_err());
    let here = CharRnnState::new(Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap());
    let sequence = Batch::sequence(&[1, 2], &[2, 0]);
    assert!(bptt_tensors::loss_and_gradients(&model, &sequence, &here).is_err());
    let wide = CharRnnState::new(Tensor::zeros((1, 4), DType::F32, gpu).unwrap());
    assert!(bptt_tensors::loss_and_gradients(&model, &sequence, &wide).is_err());
    assert!(bptt_tensors::loss_and_gradients(&model, &sequence, &one).is_ok());

    // An op whose indices are somewhere else.
    let (wax, b) = (Tensor::zeros((3, 4), DType::F32, gpu), Tensor::zeros(3, DType::F32, gpu));
    let x = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
    assert!(ops::project_input(&x, &wax.unwrap(), &b.unwrap()).is_err());
    let z = Tensor::zeros((2, 4), DType::F32, gpu).unwrap();
    assert!(ops::cross_entropy(&z, &x).is_err());
}

#[test]
fn the_ops_take_parts_of_tensors_and_refuse_what_does_not_fit() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    with_libraries(command.args(["--exact", "on_the_fake_gpu", "--ignored"]));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}
