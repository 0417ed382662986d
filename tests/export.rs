//! `export`, `completions` and `man`. `scripts/check_export.py` compares the logits of exported
//! models in PyTorch and NumPy.

mod common;

use candle_core::npy::NpzTensors;
use candle_core::{DType, Device, Tensor};
use common::{Folder, assert_says, without_run};

fn assert_same(a: &Tensor, b: &Tensor) {
    assert_eq!((a.dtype(), a.dims()), (b.dtype(), b.dims()));
    let difference = (a - b).unwrap().to_dtype(DType::F64).unwrap().abs().unwrap();
    assert_eq!(difference.sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.);
}

#[test]
fn an_npz_archive_has_the_parameters_and_the_code_points() {
    for dtype in ["f32", "f64"] {
        let folder = Folder::new();
        folder.write("names.txt", "\u{ae40}\u{bbfc}\u{c900}\nanna\n");
        folder.succeeds(&format!(
            "train names.txt --hidden 4 --iterations 50 --dtype {dtype} --quiet"
        ));
        folder.succeeds("export names.safetensors --format npz");
        let archive = NpzTensors::new(folder.path().join("names.npz")).unwrap();
        let model =
            candle_core::safetensors::load(folder.path().join("names.safetensors"), &Device::Cpu)
                .unwrap();
        for name in ["wax", "waa", "wya", "b", "by"] {
            assert_same(&archive.get(name).unwrap().unwrap(), &model[name]);
        }
        let vocabulary = archive.get("vocabulary").unwrap().unwrap();
        let expected = ['\n', 'a', 'n', '\u{ae40}', '\u{bbfc}', '\u{c900}'].map(u32::from);
        assert_eq!(vocabulary.to_vec1::<u32>().unwrap(), expected);
    }
}

#[test]
fn a_pytorch_file_has_its_names_and_a_zero_second_bias() {
    let folder = Folder::with_model();
    folder.succeeds("export names.safetensors --format pytorch -o for_torch.safetensors");
    let load = |name: &str| {
        candle_core::safetensors::load(folder.path().join(name), &Device::Cpu).unwrap()
    };
    let (theirs, ours) = (load("for_torch.safetensors"), load("names.safetensors"));
    assert_eq!(theirs.len(), 6);
    for (their_name, our_name) in [
        ("rnn.weight_ih_l0", "wax"),
        ("rnn.weight_hh_l0", "waa"),
        ("rnn.bias_ih_l0", "b"),
        ("linear.weight", "wya"),
        ("linear.bias", "by"),
    ] {
        assert_same(&theirs[their_name], &ours[our_name]);
    }
    assert_same(&theirs["rnn.bias_hh_l0"], &ours["b"].zeros_like().unwrap());
}

/// As docs/model-format.md shows it for PyTorch.
#[test]
fn five_tensors_a_format_and_a_vocabulary_are_a_model() {
    let folder = Folder::with_model();
    folder.write("bare", without_run(&folder.read("names.safetensors")));
    for command in ["sample MODEL -n 20 --seed 1", "eval MODEL names.txt", "explain MODEL anna"] {
        let of = |model| folder.succeeds(&command.replace("MODEL", model));
        assert_eq!(of("bare"), of("names.safetensors"), "{command}");
    }
    folder.succeeds("gradcheck --model bare names.txt");
    folder.succeeds("export bare --format npz");
    assert_says(&folder.succeeds("info bare"), &["8 hidden units", "no run"]);
    assert_says(&folder.succeeds("info bare --json"), &["\"parameters\": 208"]);
    assert_says(&folder.refuses("sample bare --new"), &["--new", "no names that are known"]);
    assert_says(&folder.refuses("train --resume bare names.txt"), &["no run to resume", "\"run\""]);
}

#[test]
fn existing_files_are_not_overwritten() {
    let folder = Folder::with_model();
    for format in ["npz", "pytorch"] {
        let export = format!("export names.safetensors --format {format}");
        folder.succeeds(&export);
        assert_says(&folder.refuses(&export), &["cannot write names.", "exists", "with -o"]);
    }
    assert_says(
        &folder.refuses("export names.safetensors --format npz -o names.safetensors"),
        &["names.safetensors", "exists"],
    );
    assert_says(&folder.refuses("export names.txt --format npz"), &["not a char-rnn model"]);
    assert_says(&folder.misused("export names.safetensors"), &["required arguments"]);
}

#[test]
fn completions_and_manual_contain_every_command() {
    let folder = Folder::new();
    let help = folder.succeeds("help");
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"train"), "{commands:?}");
    let page = folder.succeeds("man");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = folder.succeeds(&format!("completions {shell}"));
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
            assert!(page.contains(command), "manual: {command}");
        }
    }
    assert_says(&folder.succeeds("man train"), &[".TH char-rnn-train", "learning\\-rate"]);
    assert_says(&folder.refuses("man nonsense"), &["no such command"]);
    assert_says(&folder.misused("completions nonsense"), &["'nonsense'", "SHELL"]);
}
