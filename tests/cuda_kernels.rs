//! The CUDA kernels, `src/ops/cuda/kernels.cuh`, compiled as C and run on the processor
//! (`cuda_kernels/emulate.c`), equal the ops of the CPU. This covers their arithmetic, indices,
//! barriers and use of shared memory. It does not cover what needs a GPU: launches by the driver,
//! copies, cuBLAS.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "../src/ops/cuda/geometry.rs"]
mod geometry;

use candle_core::{DType, Device, Shape, Tensor, Var, WithDType};
use char_rnn::data::START;
use char_rnn::ops;
use char_rnn::random::RngSource;
use geometry::Geometry;
use libloading::Library;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::process::Command;

const SOURCE: &str = include_str!("../src/ops/cuda/kernels.cuh");

type Checked = Result<(), String>;

/// An argument of a kernel.
trait Argument {
    type C;
    fn c(&self) -> Self::C;
}

impl<T> Argument for Vec<T> {
    type C = *const T;
    fn c(&self) -> *const T {
        self.as_ptr()
    }
}

macro_rules! passed_by_value {
    ($($T:ty),+) => {
        $(impl Argument for $T {
            type C = Self;
            fn c(&self) -> Self {
                *self
            }
        })+
    };
}
passed_by_value!(usize, u32, f32, f64);

trait Float: WithDType + Argument<C = Self> {
    const C_NAME: &'static str;
    /// The bound on the relative error of a sum of many numbers.
    const BOUND: f64;
}

impl Float for f32 {
    const C_NAME: &'static str = "float";
    const BOUND: f64 = 3e-5;
}

impl Float for f64 {
    const C_NAME: &'static str = "double";
    const BOUND: f64 = 1e-13;
}

/// Memory that kernels write, with a margin behind it that they must leave alone.
struct Buffer<F>(Vec<Cell<F>>);

const MARGIN: usize = 64;
const UNTOUCHED: f64 = 77.;

impl<F: Float> Buffer<F> {
    fn of(values: &[F]) -> Self {
        let margin = [F::from_f64(UNTOUCHED); MARGIN];
        Self(values.iter().chain(&margin).map(|&value| Cell::new(value)).collect())
    }

    /// All NaN: a kernel must write each entry.
    fn empty(count: usize) -> Self {
        Self::of(&vec![F::from_f64(f64::NAN); count])
    }

    fn check(&self, what: &str, expected: &[f64]) -> Checked {
        let (values, margin) = self.0.split_at(self.0.len() - MARGIN);
        if margin.iter().any(|value| value.get().to_f64() != UNTOUCHED) {
            return Err(format!("a write behind the end of {what}"));
        }
        assert_eq!(values.len(), expected.len());
        for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
            let value = value.get().to_f64();
            let error = (value - expected).abs();
            if error.is_nan() || error > F::BOUND * (1. + expected.abs()) {
                return Err(format!("{what}[{at}] is {value}, not {expected}"));
            }
        }
        Ok(())
    }
}

impl<F> Argument for Buffer<F> {
    type C = *mut F;
    fn c(&self) -> *mut F {
        self.0.as_ptr().cast_mut().cast()
    }
}

fn noise<F: Float>(count: usize, deviation: f64, seed: u64) -> Vec<F> {
    let mut normals = RngSource::Seed(seed).normals();
    (0..count).map(|_| F::from_f64(normals() * deviation)).collect()
}

/// Indices below `v`, and [`START`] for one in five.
fn indices(count: usize, v: usize, seed: u64) -> Vec<u32> {
    let mut uniforms = RngSource::Seed(seed).uniforms(3);
    let mut index = || match uniforms.draw() {
        u if u < 0.2 => START,
        _ => (uniforms.draw() * v as f64) as u32,
    };
    (0..count).map(|_| index()).collect()
}

fn var<F: Float>(values: &[F], shape: impl Into<Shape>) -> Var {
    Var::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The gradients of `vars` where `result` has the gradient `gradient`.
fn gradients<const N: usize>(
    result: &Tensor,
    gradient: &[impl Float],
    vars: [&Var; N],
) -> [Vec<f64>; N] {
    let gradient = Tensor::from_slice(gradient, result.shape(), &Device::Cpu).unwrap();
    let weighted = (result * gradient).unwrap().sum_all().unwrap();
    let gradients = weighted.backward().unwrap();
    vars.map(|var| flat(gradients.get(var).unwrap()))
}

/// The compiled kernels of one float type.
struct Kernels<F> {
    library: Library,
    /// The order of the threads of a block.
    descending: bool,
    float: PhantomData<F>,
}

/// One thread of a launch: calls the closure behind `data`.
unsafe extern "C" fn thread(data: *mut c_void) {
    // SAFETY: `Kernels::launch` passes a pointer to a reference that outlives the launch.
    let body = unsafe { &*data.cast::<&dyn Fn()>() };
    body();
}

macro_rules! inferred {
    ($argument:expr) => {
        _
    };
}

/// Launches a kernel, its arguments in the types that they have in `kernels.cuh`.
macro_rules! launch {
    ($kernels:expr, $geometry:expr, $name:ident($($argument:expr),+ $(,)?)) => {{
        let kernel: unsafe extern "C" fn($(inferred!($argument)),+) =
            $kernels.function(stringify!($name));
        // SAFETY: the buffers have the lengths that kernels.cuh documents.
        $kernels.launch($geometry, &|| unsafe { kernel($($argument.c()),+) })?
    }};
}

impl<F: Float> Kernels<F> {
    /// Compiles the kernels, from this source.
    fn compile(source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("emulate.c"), include_str!("cuda_kernels/emulate.c")).unwrap();
        std::fs::write(file("kernels.cuh"), source).unwrap();
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", &format!("-DF={}", F::C_NAME), "-o"])
            .args([file("kernels.so"), file("emulate.c")])
            .arg("-lm")
            .output()
            .expect("rustc links with cc");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // SAFETY: the library has no initializers.
        let library = unsafe { Library::new(file("kernels.so")) }.unwrap();
        Self { library, descending: false, float: PhantomData }
    }

    fn function<T: Copy>(&self, name: &str) -> T {
        // SAFETY: each use has the type of the function in emulate.c or kernels.cuh.
        *unsafe { self.library.get::<T>(name) }.unwrap()
    }

    /// Calls `body`, which calls a kernel, once for each thread of a launch.
    fn launch(&mut self, geometry: Geometry, body: &dyn Fn()) -> Checked {
        type Launch = unsafe extern "C" fn(
            c_uint,
            c_uint,
            c_uint,
            usize,
            c_int,
            unsafe extern "C" fn(*mut c_void),
            *const c_void,
        ) -> *const c_char;
        let Geometry { blocks, threads, shared } = geometry;
        let (x, y, threads) = (blocks.0 as c_uint, blocks.1 as c_uint, threads as c_uint);
        let launch: Launch = self.function("launch");
        let data = (&raw const body).cast();
        // SAFETY: `body` outlives the call, and the library runs one launch at a time (`&mut`).
        let error = unsafe { launch(x, y, threads, shared, self.descending.into(), thread, data) };
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: a string literal of the library.
        Err(unsafe { CStr::from_ptr(error) }.to_str().unwrap().to_string())
    }

    fn check_project_input(&mut self, [steps, batch, n, v]: [usize; 4]) -> Checked {
        let (rows, n_c, v_c) = (steps * batch, n as u32, v as u32);
        let x = indices(rows, v, 1);
        let (wax, b) = (noise::<F>(n * v, 1., 2), noise::<F>(n, 1., 3));
        let px = Buffer::<F>::empty(rows * n);
        launch!(self, geometry::entries(rows * n), project_input(x, wax, b, px, rows, n_c, v_c));
        let dpx = noise::<F>(rows * n, 1., 4);
        let (dwax, db) = (Buffer::<F>::empty(n * v), Buffer::<F>::empty(n));
        launch!(
            self,
            geometry::project_input_backward::<F>(n, v),
            project_input_backward(x, dpx, dwax, db, rows, n_c, v_c)
        );

        let (x, wax, b) = (Tensor::from_vec(x, rows, &Device::Cpu), var(&wax, (n, v)), var(&b, n));
        let expected = ops::project_input(&x.unwrap(), &wax, &b).unwrap();
        px.check("px", &flat(&expected))?;
        let [expected_dwax, expected_db] = gradients(&expected, &dpx, [&wax, &b]);
        dwax.check("dwax", &expected_dwax)?;
        db.check("db", &expected_db)
    }

    fn check_recurrence(&mut self, [steps, batch, n, _]: [usize; 4]) -> Checked {
        let (rows, steps_c, batch_c, n_c) = (steps * batch, steps as u32, batch as u32, n as u32);
        let waa = noise::<F>(n * n, 1. / (n as f64).sqrt(), 1);
        let (px, a0) = (noise::<F>(rows * n, 0.5, 2), noise::<F>(batch * n, 0.5, 3));
        let geometry = geometry::recurrence::<F>(batch, n);
        let a = Buffer::<F>::empty(rows * n);
        launch!(self, geometry, recurrence_forward(px, waa, a0, a, steps_c, batch_c, n_c));
        let [px, waa_var, a0] = [var(&px, (rows, n)), var(&waa, (n, n)), var(&a0, (batch, n))];
        let expected = ops::recurrence(&px, &waa_var, &a0).unwrap();
        a.check("a", &flat(&expected))?;

        let states: Vec<F> = expected.flatten_all().unwrap().to_vec1().unwrap();
        let da = noise::<F>(rows * n, 1., 4);
        let (dpx, da0) = (Buffer::<F>::empty(rows * n), Buffer::<F>::empty(batch * n));
        launch!(
            self,
            geometry,
            recurrence_backward(waa, states, da, dpx, da0, steps_c, batch_c, n_c)
        );
        let [expected_dpx, expected_da0] = gradients(&expected, &da, [&px, &a0]);
        dpx.check("dpx", &expected_dpx)?;
        da0.check("da0", &expected_da0)
    }

    /// The kernels after the matrix products of stepwise.rs.
    fn check_stepwise(&mut self, [steps, batch, n, _]: [usize; 4]) -> Checked {
        let count = steps * batch * n;
        let before = noise::<F>(count, 1., 1);
        let (h, a) = (noise::<F>(count, 1., 2), noise::<F>(count, 0.5, 3));
        let expected = |f: fn(f64, f64, f64) -> f64| -> Vec<f64> {
            let all = before.iter().zip(&h).zip(&a);
            all.map(|((before, h), a)| f(before.to_f64(), h.to_f64(), a.to_f64())).collect()
        };
        let geometry = geometry::entries(count);
        let after = Buffer::of(&before);
        launch!(self, geometry, add_tanh(after, h, count));
        after.check("add_tanh", &expected(|before, h, _| (before + h).tanh()))?;

        let after = Buffer::of(&before);
        launch!(self, geometry, add_times_slope(after, h, a, count));
        after.check("add_times_slope", &expected(|before, h, a| (before + h) * (1. - a * a)))
    }

    fn check_cross_entropy(&mut self, [steps, batch, _, v]: [usize; 4]) -> Checked {
        let rows = steps * batch;
        // Logits whose exponentials overflow.
        let (z, y) = (noise::<F>(rows * v, 900., 1), indices(rows, v, 2));
        let (dz, losses) = (Buffer::<F>::empty(rows * v), Buffer::<F>::empty(rows));
        launch!(
            self,
            geometry::cross_entropy::<F>(rows, v),
            cross_entropy(z, y, dz, losses, rows, v as u32)
        );
        let loss = Buffer::<F>::empty(1);
        launch!(self, geometry::sum(), sum(losses, loss, rows));

        let (z, y) = (var(&z, (rows, v)), Tensor::from_vec(y, rows, &Device::Cpu).unwrap());
        let expected = ops::cross_entropy(&z, &y).unwrap();
        loss.check("loss", &flat(&expected))?;
        let [expected_dz] = gradients(&expected, &[F::one()], [&z]);
        dz.check("dz", &expected_dz)
    }

    fn check_updates(&mut self, [steps, batch, n, _]: [usize; 4]) -> Checked {
        let count = steps * batch * n;
        let geometry = geometry::entries(count);
        let f = F::from_f64;
        let (w, g) = (noise::<F>(count, 1., 1), noise::<F>(count, 2., 2));
        let [w64, g64] = [&w, &g].map(|all| all.iter().map(|x| x.to_f64()).collect::<Vec<_>>());
        for clip in [0.7, f64::INFINITY] {
            let after = Buffer::of(&w);
            launch!(self, geometry, clipped_descent(after, g, f(0.3), f(clip), count));
            let expected = w64.iter().zip(&g64).map(|(w, g)| w - 0.3 * g.clamp(-clip, clip));
            after.check("clipped_descent", &expected.collect::<Vec<_>>())?;
        }
        let (lost, nan) = (Buffer::of(&[f(1.)]), vec![f(f64::NAN)]);
        launch!(self, geometry, clipped_descent(lost, nan, f(1.), f(1.), 1usize));
        if !lost.0[0].get().to_f64().is_nan() {
            return Err("clipped_descent hides a NaN".to_string());
        }

        // Second moments are not negative.
        let before: Vec<f64> = noise::<f64>(2 * count, 1., 5).iter().map(|m| m * m).collect();
        let moments: Vec<F> = before.iter().map(|&m| f(m)).collect();
        let (m, v) = before.split_at(count);
        let after = Buffer::of(&moments);
        launch!(self, geometry, adamw_moments(after, g, f(0.7), f(0.1), f(0.001), count));
        let c: Vec<f64> = g64.iter().map(|g| g.clamp(-0.7, 0.7)).collect();
        let m_after = m.iter().zip(&c).map(|(m, c)| m + 0.1 * (c - m));
        let v_after = v.iter().zip(&c).map(|(v, c)| v + 0.001 * (c * c - v));
        after.check("adamw_moments", &m_after.chain(v_after).collect::<Vec<_>>())?;

        let after = Buffer::of(&w);
        let [keep, rate, correction, epsilon] = [0.98, 0.3, 1.7, 0.01];
        launch!(
            self,
            geometry,
            adamw_descent(after, moments, f(keep), f(rate), f(correction), f(epsilon), count)
        );
        let all = w64.iter().zip(m).zip(v);
        let stepped =
            all.map(|((w, m), v)| w * keep - rate * m / (v.sqrt() * correction + epsilon));
        after.check("adamw_descent", &stepped.collect::<Vec<_>>())
    }

    /// All checks, in both orders of the threads. Shapes are (T, B, n, v).
    fn check(&mut self, shapes: &[[usize; 4]]) -> Checked {
        for &shape in shapes {
            for descending in [false, true] {
                self.descending = descending;
                self.check_project_input(shape)
                    .and_then(|()| self.check_recurrence(shape))
                    .and_then(|()| self.check_stepwise(shape))
                    .and_then(|()| self.check_cross_entropy(shape))
                    .and_then(|()| self.check_updates(shape))
                    .map_err(|error| format!("(T, B, n, v) = {shape:?}: {error}"))?;
            }
        }
        Ok(())
    }
}

/// (T, B, n, v): edge cases, then random ones.
fn shapes() -> Vec<[usize; 4]> {
    let mut shapes = vec![
        [1, 1, 1, 1],
        [1, 1, 50, 27],
        [12, 1, 50, 27],
        [5, 3, 50, 27],
        [3, 2, 257, 27],
        [1, 4, 257, 5],
        [2, 3, 33, 1000],
        [40, 2, 32, 2],
        [4, 9, 2, 3],
    ];
    let mut uniforms = RngSource::Seed(4).uniforms(0);
    let mut up_to = |max: f64| 1 + (uniforms.draw() * max) as usize;
    shapes.extend((0..12).map(|_| [up_to(9.), up_to(5.), up_to(70.), up_to(40.)]));
    shapes
}

#[test]
fn cuda_kernels_in_single_precision_equal_the_cpu_ops() {
    Kernels::<f32>::compile(SOURCE).check(&shapes()).unwrap();
}

#[test]
fn cuda_kernels_in_double_precision_equal_the_cpu_ops() {
    Kernels::<f64>::compile(SOURCE).check(&shapes()).unwrap();
}

#[test]
fn blocks_have_at_most_the_threads_that_their_kernels_are_compiled_for() {
    for (name, value) in [
        ("THREADS", geometry::THREADS),
        ("ROW_LANES", geometry::ROW_LANES),
        ("COLUMNS", geometry::COLUMNS),
    ] {
        assert!(SOURCE.contains(&format!("#define {name} {value}\n")), "{name}");
    }
    let own_bound = "__launch_bounds__(ROW_LANES * COLUMNS) project_input_backward(";
    assert_eq!(SOURCE.matches(own_bound).count(), 1);
    let all = SOURCE.matches("__global__ void ").count();
    assert_eq!(SOURCE.matches("__global__ void __launch_bounds__(THREADS)").count(), all - 1);
    for size in [1, 31, 50, 239, 257, 5000] {
        let tile = geometry::ROW_LANES * geometry::COLUMNS;
        assert_eq!(geometry::project_input_backward::<f64>(size, size).threads, tile);
        for geometry in [
            geometry::recurrence::<f32>(3, size),
            geometry::cross_entropy::<f64>(9, size),
            geometry::entries(size * size),
            geometry::sum(),
        ] {
            assert!(geometry.threads <= geometry::THREADS);
        }
    }
}

#[test]
fn the_recurrence_of_a_small_network_is_one_launch() {
    use geometry::is_one_launch;
    // The shared memory of a block of an H100 and an A100.
    let (h100, a100) = (232_448, 166_912);
    assert!(is_one_launch::<f32>(239, h100) && !is_one_launch::<f32>(240, h100));
    assert!(is_one_launch::<f64>(169, h100) && !is_one_launch::<f64>(170, h100));
    assert!(is_one_launch::<f32>(203, a100) && !is_one_launch::<f32>(204, a100));
}

/// Replacements in the source, each an error.
const ERRORS: [(&str, &str); 24] = [
    ("wax[(size_t)i * v + index] + b[i]", "wax[(size_t)i * v + index]"),
    ("r += ROW_LANES", "r += ROW_LANES + 1"),
    ("other < ROW_LANES; other++", "other < ROW_LANES - 1; other++"),
    ("now[i] = tanh(px[row + i]", "now[i] = sin(px[row + i]"),
    ("for (; k < n; k++) sums[0]", "for (; k + 1 < n; k++) sums[0]"),
    ("- a[row + i] * a[row + i])", "- a[row + i])"),
    ("from_next = dot(shared_waa + i, pitch,", "from_next = dot(shared_waa + i * pitch, 1,"),
    ("previous[i] = a0[sequence * n + i]", "previous[i] = a0[i]"),
    ("a[k] = tanh(a[k] + h[k])", "a[k] = tanh(a[k])"),
    ("(d[k] + h[k]) * (1 - a[k] * a[k])", "(d[k] + h[k]) * (1 + a[k] * a[k])"),
    ("other > partial[threadIdx.x]) partial", "other < partial[threadIdx.x]) partial"),
    ("log(sum) - (z_r[target] - z_max)", "log(sum) - z_r[target]"),
    ("/ sum - (c == target) : 0", "/ sum - (c == target) : 1"),
    ("k += blockDim.x) sum += values[k]", "k += 2 * blockDim.x) sum += values[k]"),
    ("g < -clip ? -clip", "g < -clip ? clip"),
    ("c * c - *v", "g[k] * g[k] - *v"),
    ("moments + count + k;", "moments + k;"),
    ("* correction + epsilon)", "* correction - epsilon)"),
    // Barriers left out.
    ("partial[threadIdx.x] = sum;\n    __syncthreads();", "partial[threadIdx.x] = sum;"),
    ("a0[sequence * n + i];\n    __syncthreads();", "a0[sequence * n + i];"),
    ("nothing reads the previous state.\n        __syncthreads();", ""),
    ("next[i] = 0;\n    __syncthreads();", "next[i] = 0;"),
    ("dpx[row + i] = now[i];\n        }\n        __syncthreads();", "dpx[row + i] = now[i];\n }"),
    ("__syncthreads();\n        if (threadIdx.x < half) {", "if (threadIdx.x < half) {"),
];

#[test]
fn planted_errors_are_found() {
    for (right, wrong) in ERRORS {
        assert_eq!(SOURCE.matches(right).count(), 1, "{right:?}");
        let mut kernels = Kernels::<f64>::compile(&SOURCE.replace(right, wrong));
        let found = kernels.check(&[[9, 3, 50, 27], [90, 3, 9, 5]]);
        assert!(found.is_err(), "{wrong:?} passes for {right:?}");
    }
}
