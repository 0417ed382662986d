//! The notebook's own test cells, on inputs drawn as the notebook draws them, against what NumPy
//! computes from them (`tests/fixtures/README.md`) and the values that the course publishes.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use char_rnn::batch::Batch;
use char_rnn::bptt::{Bptt, Parameters};
use char_rnn::model::{CharRnn, CharRnnState, Config, PARAMETERS, char_rnn};
use char_rnn::numpy_random::NumpyRandom;
use char_rnn::optim::clip;
use char_rnn::random::Randomness;
use char_rnn::sample::{MAX_LENGTH, Names};

const CELLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/seed_cells.safetensors");

/// A tensor of the fixture, flat.
fn cell(name: &str) -> Vec<f64> {
    let bytes = std::fs::read(CELLS).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    match tensor.dtype() {
        safetensors::Dtype::F64 => tensor
            .data()
            .chunks_exact(8)
            .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
            .collect(),
        _ => tensor
            .data()
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()).into())
            .collect(),
    }
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn draw(random: &mut NumpyRandom, shape: &[usize]) -> Var {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.randn()).collect();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The parameters of the cells: standard normal, 27 characters, 100 hidden units.
fn network(random: &mut NumpyRandom) -> (CharRnn, VarMap) {
    let config = Config { vocabulary: 27, hidden: 100 };
    let vars = VarMap::new();
    for name in PARAMETERS {
        let var = draw(random, &config.shape(name));
        vars.data().lock().unwrap().insert(name.to_string(), var);
    }
    let vb = VarBuilder::from_varmap(&vars, DType::F64, &Device::Cpu);
    (char_rnn(config, vb).unwrap(), vars)
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-10 * b.abs().max(1.), "{what}[{i}]: {a} is not {b}");
    }
}

#[test]
fn clip_cell() {
    let shapes: [(&str, &[usize]); 5] =
        [("dwax", &[5, 3]), ("dwaa", &[5, 5]), ("dwya", &[2, 5]), ("db", &[5]), ("dby", &[2])];
    for max in [10, 5] {
        let mut random = NumpyRandom::new(3);
        let mut gradients = GradStore::default();
        let mut vars = Vec::new();
        for (_, shape) in shapes {
            let var = draw(&mut random, shape);
            gradients.insert(&var, (var.as_tensor() * 10.).unwrap());
            vars.push(var);
        }
        clip(&mut gradients, &vars, max.into()).unwrap();
        let clipped: Vec<Vec<f64>> =
            vars.iter().map(|var| flat(gradients.get(var).unwrap())).collect();
        for ((name, _), values) in shapes.iter().zip(&clipped) {
            assert_eq!(values, &cell(&format!("clip_{max}.{name}")), "{name}");
        }
        let published =
            [clipped[1][7], clipped[0][10], clipped[2][7], clipped[3][4], clipped[4][1]];
        assert_close(
            &published,
            &match max {
                10 => [10., -10., 0.2971381536101662, 10., 8.45833407],
                _ => [5., -5., 0.2971381536101662, 5., 5.],
            },
            "the published values",
        );
    }
}

/// What the `optimize` cell prints of, by one of the ways back: the loss, the last state, and the
/// clipped gradients in the order of `PARAMETERS`.
fn assert_is_optimize_cell(loss: f64, a_last: &[f64], gradients: [Vec<f64>; 5]) {
    assert_close(&[loss], &cell("optimize.loss"), "loss");
    assert_close(a_last, &cell("optimize.a_last"), "a_last");
    for (name, gradient) in PARAMETERS.iter().zip(&gradients) {
        assert_close(gradient, &cell(&format!("optimize.d{name}")), name);
    }
    let [dwax, dwaa, dwya, db, dby] = gradients;
    let largest = (0..dwax.len()).fold(0, |best, i| if dwax[i] > dwax[best] { i } else { best });
    assert_eq!(largest, 93, "argmax(dwax)");
    let published = [
        (loss, 126.503975721654),
        (dwaa[102], 0.194709315347),
        (dwya[102], -0.007773876032),
        (db[4], -0.06809825),
        (dby[1], 0.01538192),
        (a_last[4], -1.),
    ];
    for (found, published) in published {
        assert!((found - published).abs() < 5e-9, "{found} is not the published {published}");
    }
}

/// The `optimize` cell's first state, network and batch.
fn optimize_inputs() -> (Vec<f64>, CharRnn, VarMap, Batch) {
    let mut random = NumpyRandom::new(1);
    let start: Vec<f64> = (0..100).map(|_| random.randn()).collect();
    let (model, vars) = network(&mut random);
    let batch = Batch::sequence(&[12, 3, 5, 11, 22, 3], &[4, 14, 11, 22, 25, 26]);
    (start, model, vars, batch)
}

#[test]
fn optimize_cell_by_unrolled_and_autograd() {
    let (start, model, vars, batch) = optimize_inputs();
    let start = CharRnnState::new(Tensor::from_vec(start, (1, 100), &Device::Cpu).unwrap());
    for forward in [model.loss_unrolled(&batch, &start), model.loss(&batch, &start)] {
        let forward = forward.unwrap();
        let mut gradients = forward.loss.backward().unwrap();
        clip(&mut gradients, &vars.all_vars(), 5.).unwrap();
        let gradients = PARAMETERS.map(|name| {
            let vars = vars.data().lock().unwrap();
            flat(gradients.get(&vars[name]).unwrap())
        });
        assert_is_optimize_cell(flat(&forward.loss)[0], &flat(forward.last.a()), gradients);
    }
}

#[test]
fn optimize_cell_by_hand() {
    let (start, model, _, batch) = optimize_inputs();
    let mut parameters = Parameters::zeros(100, 27);
    for ((_, to), (_, from)) in parameters.tensors_mut().into_iter().zip(model.parameters()) {
        to.copy_from_slice(&flat(from));
    }
    let mut bptt = Bptt::new(100, 27);
    let loss =
        bptt.loss_and_gradients(&parameters, batch.x(), batch.y(), batch.steps(), 1, &start, 1.);
    let mut last = vec![0.; 100];
    bptt.last_states(batch.y(), &mut last);
    bptt.gradients_mut().clip(5.);
    let gradients = bptt.gradients().tensors().map(|(_, values)| values.to_vec());
    assert_is_optimize_cell(loss, &last, gradients);
}

#[test]
fn sample_cell() {
    let (model, _) = network(&mut NumpyRandom::new(2));
    let sampled = Names::new(&model, Randomness::Notebook, MAX_LENGTH, 0..1).unwrap().next();
    let indices = sampled.unwrap().unwrap().indices;
    let expected: Vec<u32> = cell("sample.indices").iter().map(|&index| index as u32).collect();
    let published = [
        12, 17, 24, 14, 13, 9, 10, 22, 24, 6, 13, 11, 12, 6, 21, 15, 21, 14, 3, 2, 1, 21, 18, 24,
        7, 25, 6, 25, 18, 10, 16, 2, 3, 8, 15, 12, 11, 7, 1, 12, 10, 2, 7,
    ];
    // Weights of this size make a chaotic network: from the 44th character on, one NumPy parts
    // from another.
    assert_eq!(indices[..43], published);
    assert_eq!(indices[..43], expected[..43]);
}
