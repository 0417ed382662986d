//! The kernels in `kernels.cuh`, compiled as C and run on the processor (`on_host.c`), against the
//! kernels for the CPU. So their arithmetic, their indices, their barriers and their shared memory
//! are tested where there is no GPU. What this cannot show is what only a GPU does: launches by the
//! driver, copies, cuBLAS, and speed.

use super::geometry::{self, Geometry};
use crate::bptt::{Bptt, Parameters};
use crate::kernels::matmul::Packed;
use crate::kernels::transpose::transpose;
use crate::kernels::update::AdamW;
use crate::kernels::{self, Element, NONE};
use crate::random::Randomness;
use libloading::Library;
use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::process::Command;
use std::sync::Mutex;

/// What a check found wrong.
type Found = Result<(), String>;

/// The kernels of one float type, and the machine that runs them.
struct Machine<F> {
    library: Library,
    /// It has room for one launch at a time.
    launching: Mutex<()>,
    number: PhantomData<F>,
}

type Launch = unsafe extern "C" fn(
    c_uint,
    c_uint,
    c_uint,
    usize,
    c_int,
    unsafe extern "C" fn(*mut c_void),
    *mut c_void,
) -> c_int;

/// One thread of a launch: calls the closure behind `data`.
unsafe extern "C" fn thread(data: *mut c_void) {
    // SAFETY: `Machine::launch` passes a pointer to a reference that outlives the launch.
    let body = unsafe { &*data.cast::<&dyn Fn()>() };
    body();
}

/// Numbers that a kernel reads or writes, with a margin behind them that it must leave alone.
struct Buffer<F>(Vec<F>);

const MARGIN: usize = 64;

impl<F: Element> Buffer<F> {
    fn of(values: &[F]) -> Self {
        let mut all = values.to_vec();
        all.extend([F::from_f64(77.); MARGIN]);
        Self(all)
    }

    /// Nothing yet: a kernel must write each.
    fn empty(count: usize) -> Self {
        Self::of(&vec![F::from_f64(f64::NAN); count])
    }

    fn pointer(&mut self) -> *mut F {
        self.0.as_mut_ptr()
    }

    /// Compares the numbers with those that they should be, up to rounding.
    fn check(&self, what: &str, expected: &[F], bound: f64) -> Found {
        let (values, margin) = self.0.split_at(self.0.len() - MARGIN);
        if margin.iter().any(|&value| value.to_f64() != 77.) {
            return Err(format!("{what} was written behind its end"));
        }
        assert_eq!(values.len(), expected.len());
        for (at, (value, want)) in values.iter().zip(expected).enumerate() {
            let (value, want) = (value.to_f64(), want.to_f64());
            let apart = (value - want).abs();
            // A NaN is never near.
            if apart.is_nan() || apart > bound * (1. + want.abs()) {
                return Err(format!("{what}[{at}] is {value} and not {want}"));
            }
        }
        Ok(())
    }
}

fn noise<F: Element>(count: usize, deviation: f64, seed: u64) -> Vec<F> {
    let mut normals = Randomness::Seed(seed).normals();
    (0..count).map(|_| F::from_f64(normals() * deviation)).collect()
}

/// Indices below `v`, and now and then [`NONE`].
fn indices(count: usize, v: usize, seed: u64) -> Vec<u32> {
    let mut uniforms = Randomness::Seed(seed).uniforms(3);
    let mut index = || match uniforms.draw() {
        u if u < 0.2 => NONE,
        _ => (uniforms.draw() * v as f64) as u32,
    };
    (0..count).map(|_| index()).collect()
}

/// (T, B, n, v): the awkward ones, and then random ones.
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
    let mut uniforms = Randomness::Seed(4).uniforms(0);
    let mut up_to = |most: f64| 1 + (uniforms.draw() * most) as usize;
    shapes.extend((0..12).map(|_| [up_to(9.), up_to(5.), up_to(70.), up_to(40.)]));
    shapes
}

impl<F: Element> Machine<F> {
    /// The kernels, after `change` of their source.
    fn with(change: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("on_host.c"), include_str!("on_host.c")).unwrap();
        std::fs::write(file("kernels.cuh"), change(include_str!("kernels.cuh"))).unwrap();
        let float = if size_of::<F>() == 4 { "float" } else { "double" };
        // The compiler that rustc links with.
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", &format!("-DF={float}"), "-o"])
            .args([file("kernels.so"), file("on_host.c")])
            .arg("-lm")
            .output()
            .expect("the C compiler that rustc links with is there");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // SAFETY: nothing runs when the library is loaded.
        let library = unsafe { Library::new(file("kernels.so")) }.unwrap();
        Self { library, launching: Mutex::new(()), number: PhantomData }
    }

    fn new() -> Self {
        Self::with(str::to_string)
    }

    /// The address of a function of the library.
    fn function<T: Copy>(&self, name: &str) -> T {
        // SAFETY: each use names the type that on_host.c or kernels.cuh gives the function.
        *unsafe { self.library.get::<T>(name) }.unwrap()
    }

    /// Runs `body`, which calls a kernel, as every thread of a launch.
    fn launch(&self, geometry: Geometry, descending: bool, body: &dyn Fn()) -> Found {
        let Geometry { blocks, threads, shared } = geometry;
        let launch: Launch = self.function("launch");
        let _one_at_a_time = self.launching.lock().unwrap();
        let mut body = body;
        let data = (&raw mut body).cast();
        // SAFETY: `body` outlives the call, and the closures below keep to their buffers as far as
        // the kernels do, which is what is tested.
        let result = unsafe {
            launch(
                blocks.0 as c_uint,
                blocks.1 as c_uint,
                threads as c_uint,
                shared,
                descending.into(),
                thread,
                data,
            )
        };
        match result {
            0 => Ok(()),
            1 => Err("not all threads of a block come to a barrier".to_string()),
            2 => Err("shared memory was written behind the launch's share".to_string()),
            _ => Err("no memory for the launch".to_string()),
        }
    }

    /// How far a sum of many numbers of this type may be off.
    fn bound() -> f64 {
        if size_of::<F>() == 4 { 3e-5 } else { 1e-13 }
    }

    fn check_input_projection(&self, [steps, batch, n, v]: [usize; 4], order: bool) -> Found {
        type Forward<F> =
            unsafe extern "C" fn(*const u32, *const F, *const F, *mut F, usize, c_uint, c_uint);
        type Backward<F> =
            unsafe extern "C" fn(*const u32, *const F, *mut F, *mut F, usize, c_uint, c_uint);
        let rows = steps * batch;
        let x = indices(rows, v, 1);
        let (wax, b, dpx) =
            (noise::<F>(n * v, 1., 2), noise::<F>(n, 1., 3), noise::<F>(rows * n, 1., 4));

        let mut px = Buffer::empty(rows * n);
        let (forward, out): (Forward<F>, _) = (self.function("project_input"), px.pointer());
        // SAFETY: the buffers have the shapes that the kernel is told.
        self.launch(geometry::entries(rows * n), order, &|| unsafe {
            forward(x.as_ptr(), wax.as_ptr(), b.as_ptr(), out, rows, n as u32, v as u32);
        })?;
        let mut wax_t = vec![F::ZERO; n * v];
        transpose(&wax, n, v, &mut wax_t);
        let mut expected = vec![F::ZERO; rows * n];
        kernels::projection::project_input(&wax_t, &b, &x, &mut expected);
        px.check("px", &expected, Self::bound())?;

        let (mut dwax, mut db) = (Buffer::empty(n * v), Buffer::empty(n));
        let (backward, outs): (Backward<F>, _) =
            (self.function("project_input_backward"), (dwax.pointer(), db.pointer()));
        // SAFETY: as above.
        self.launch(geometry::project_input_backward::<F>(n, v), order, &|| unsafe {
            backward(x.as_ptr(), dpx.as_ptr(), outs.0, outs.1, rows, n as u32, v as u32);
        })?;
        let (mut dwax_t, mut expected) = (vec![F::ZERO; n * v], vec![F::ZERO; n]);
        kernels::projection::project_input_backward(&x, &dpx, &mut dwax_t, &mut expected);
        db.check("db", &expected, Self::bound())?;
        let mut expected = vec![F::ZERO; n * v];
        transpose(&dwax_t, v, n, &mut expected);
        dwax.check("dwax", &expected, Self::bound())
    }

    fn check_recurrence(&self, [steps, batch, n, _]: [usize; 4], order: bool) -> Found {
        type Forward<F> =
            unsafe extern "C" fn(*const F, *const F, *const F, *mut F, c_uint, c_uint, c_uint);
        type Backward<F> = unsafe extern "C" fn(
            *const F,
            *const F,
            *const F,
            *mut F,
            *mut F,
            c_uint,
            c_uint,
            c_uint,
        );
        let (rows, sizes) = (steps * batch, (steps as u32, batch as u32, n as u32));
        let waa = noise::<F>(n * n, 1. / (n as f64).sqrt(), 1);
        let (px, a0) = (noise::<F>(rows * n, 0.5, 2), noise::<F>(batch * n, 0.5, 3));
        let da = noise::<F>(rows * n, 1., 4);
        let geometry = geometry::recurrence::<F>(batch, n);

        let mut a = Buffer::empty(rows * n);
        let (forward, out): (Forward<F>, _) = (self.function("recurrence_forward"), a.pointer());
        // SAFETY: the buffers have the shapes that the kernel is told.
        self.launch(geometry, order, &|| unsafe {
            forward(px.as_ptr(), waa.as_ptr(), a0.as_ptr(), out, sizes.0, sizes.1, sizes.2);
        })?;
        let mut packed = Packed::new();
        kernels::recurrence::pack_for_forward(&mut packed, &waa, batch, n);
        let mut states = px.clone();
        kernels::recurrence::recurrence_forward(&packed, &a0, &mut states, batch, n);
        a.check("a", &states, Self::bound())?;

        let (mut dpx, mut da0) = (Buffer::empty(rows * n), Buffer::empty(batch * n));
        let (backward, outs): (Backward<F>, _) =
            (self.function("recurrence_backward"), (dpx.pointer(), da0.pointer()));
        let (waa_at, a_at, da_at) = (waa.as_ptr(), states.as_ptr(), da.as_ptr());
        // SAFETY: as above.
        self.launch(geometry, order, &|| unsafe {
            backward(waa_at, a_at, da_at, outs.0, outs.1, sizes.0, sizes.1, sizes.2);
        })?;
        kernels::recurrence::pack_for_backward(&mut packed, &waa, batch, n);
        let (mut expected, mut first) = (da.clone(), vec![F::ZERO; batch * n]);
        kernels::recurrence::recurrence_backward(
            &packed,
            &states,
            &mut expected,
            &mut first,
            batch,
            n,
        );
        dpx.check("dpx", &expected, Self::bound())?;
        da0.check("da0", &first, Self::bound())
    }

    /// The end of a step of the recurrence by matrix products, forward and back.
    fn check_ends_of_steps(&self, [steps, batch, n, _]: [usize; 4], order: bool) -> Found {
        type Forward<F> = unsafe extern "C" fn(*mut F, *const F, usize);
        type Backward<F> = unsafe extern "C" fn(*mut F, *const F, *const F, usize);
        let count = steps * batch * n;
        let (before, h, a) =
            (noise::<F>(count, 1., 1), noise::<F>(count, 1., 2), noise::<F>(count, 0.5, 3));
        let each = |f: fn(f64, f64, f64) -> f64| -> Vec<F> {
            let all = before.iter().zip(&h).zip(&a);
            all.map(|((p, h), a)| F::from_f64(f(p.to_f64(), h.to_f64(), a.to_f64()))).collect()
        };

        let mut end = Buffer::of(&before);
        let (forward, out): (Forward<F>, _) = (self.function("add_tanh"), end.pointer());
        // SAFETY: each buffer has `count` entries.
        self.launch(geometry::entries(count), order, &|| unsafe {
            forward(out, h.as_ptr(), count);
        })?;
        end.check("a", &each(|p, h, _| (p + h).tanh()), Self::bound())?;

        let mut end = Buffer::of(&before);
        let (backward, out): (Backward<F>, _) = (self.function("add_times_slope"), end.pointer());
        // SAFETY: as above.
        self.launch(geometry::entries(count), order, &|| unsafe {
            backward(out, h.as_ptr(), a.as_ptr(), count);
        })?;
        end.check("d", &each(|p, h, a| (p + h) * (1. - a * a)), Self::bound())
    }

    fn check_cross_entropy(&self, [steps, batch, _, v]: [usize; 4], order: bool) -> Found {
        type Rows<F> = unsafe extern "C" fn(*const F, *const u32, *mut F, *mut F, usize, c_uint);
        type Sum<F> = unsafe extern "C" fn(*const F, *mut F, usize);
        let rows = steps * batch;
        // Logits so far from zero that their exponentials are no numbers.
        let (z, y) = (noise::<F>(rows * v, 900., 1), indices(rows, v, 2));

        let (mut dz, mut losses) = (Buffer::empty(rows * v), Buffer::<F>::empty(rows));
        let (by_row, outs): (Rows<F>, _) =
            (self.function("cross_entropy"), (dz.pointer(), losses.pointer()));
        // SAFETY: the buffers have the shapes that the kernel is told.
        self.launch(geometry::cross_entropy::<F>(rows, v), order, &|| unsafe {
            by_row(z.as_ptr(), y.as_ptr(), outs.0, outs.1, rows, v as u32);
        })?;
        let mut total = Buffer::empty(1);
        let (sum, parts, out): (Sum<F>, _, _) =
            (self.function("sum"), losses.pointer().cast_const(), total.pointer());
        // SAFETY: as above.
        self.launch(geometry::sum(), order, &|| unsafe { sum(parts, out, rows) })?;

        let mut expected = vec![F::ZERO; rows * v];
        let loss = kernels::cross_entropy::cross_entropy(&z, &y, v, F::ONE, &mut expected);
        dz.check("dz", &expected, Self::bound())?;
        total.check("loss", &[F::from_f64(loss)], Self::bound())
    }

    fn check_descent(&self, [steps, batch, n, _]: [usize; 4], order: bool) -> Found {
        type Descent<F> = unsafe extern "C" fn(*mut F, *const F, F, F, usize);
        let count = steps * batch * n;
        let (w, g) = (noise::<F>(count, 1., 1), noise::<F>(count, 2., 2));
        for clip in [0.7, f64::INFINITY] {
            let (rate, clip) = (F::from_f64(0.3), F::from_f64(clip));
            let mut stepped = Buffer::of(&w);
            let (descent, out): (Descent<F>, _) =
                (self.function("clipped_descent"), stepped.pointer());
            // SAFETY: each buffer has `count` entries.
            self.launch(geometry::entries(count), order, &|| unsafe {
                descent(out, g.as_ptr(), rate, clip, count);
            })?;
            let mut expected = w.clone();
            kernels::update::clipped_descent(&mut expected, &g, rate, clip);
            stepped.check("w", &expected, Self::bound())?;
        }
        self.check_adamw(count, &w, &g, order)?;
        let mut lost = Buffer::of(&[F::ONE]);
        let (descent, out): (Descent<F>, _) = (self.function("clipped_descent"), lost.pointer());
        let nan = [F::from_f64(f64::NAN)];
        // SAFETY: as above.
        self.launch(geometry::entries(1), order, &|| unsafe {
            descent(out, nan.as_ptr(), F::ONE, F::ONE, 1);
        })?;
        match lost.0[0].to_f64().is_nan() {
            true => Ok(()),
            false => Err("a NaN in the gradient did not reach w".to_string()),
        }
    }

    fn check_adamw(&self, count: usize, w: &[F], g: &[F], order: bool) -> Found {
        type Average<F> = unsafe extern "C" fn(*mut F, *const F, F, F, F, usize);
        type Descent<F> = unsafe extern "C" fn(*mut F, *const F, F, F, F, F, usize);
        let step = AdamW::new(3, 0.1, 0.2, 0.7);
        let before: Vec<F> =
            noise::<f64>(2 * count, 1., 5).iter().map(|&m| F::from_f64(m * m)).collect();

        let mut moments = Buffer::of(&before);
        let (average, out): (Average<F>, _) = (self.function("adamw_moments"), moments.pointer());
        let [clip, fresh_1, fresh_2] = step.of_moments().map(F::from_f64);
        // SAFETY: `moments` has twice `count` entries, `g` and `w` have `count`.
        self.launch(geometry::entries(count), order, &|| unsafe {
            average(out, g.as_ptr(), clip, fresh_1, fresh_2, count);
        })?;
        let mut expected = before.clone();
        kernels::update::adamw_moments(&mut expected, g, &step);
        moments.check("moments", &expected, Self::bound())?;

        let mut stepped = Buffer::of(w);
        let (descent, out): (Descent<F>, _) = (self.function("adamw_descent"), stepped.pointer());
        let [keep, rate, correction, epsilon] = step.of_descent().map(F::from_f64);
        // SAFETY: as above.
        self.launch(geometry::entries(count), order, &|| unsafe {
            descent(out, before.as_ptr(), keep, rate, correction, epsilon, count);
        })?;
        let mut expected = w.to_vec();
        kernels::update::adamw_descent(&mut expected, &before, &step);
        stepped.check("w", &expected, Self::bound())
    }

    /// All of a training step but the update, for one sequence.
    fn check_whole_step(&self, [steps, _, n, v]: [usize; 4], order: bool) -> Found {
        type Step<F> = unsafe extern "C" fn(
            *const u32,
            *const u32,
            *const F,
            *const F,
            *const F,
            *const F,
            *const F,
            *const F,
            *mut F,
            *mut F,
            c_uint,
            c_uint,
            c_uint,
        );
        let mut parameters = Parameters::zeros(n, v);
        let deviations = [1., 1. / (n as f64).sqrt(), 1. / (n as f64).sqrt(), 0.3, 0.3];
        for ((seed, (_, values)), deviation) in (10..).zip(parameters.tensors_mut()).zip(deviations)
        {
            let count = values.len();
            values.copy_from_slice(&noise(count, deviation, seed));
        }
        let (x, y) = (indices(steps, v, 1), indices(steps, v, 2));
        let a0 = noise::<F>(n, 0.5, 3);

        let count = 2 * n * v + n * n + n + v;
        let mut out = Buffer::empty(count + 2 * n + 1);
        let mut work = Buffer::<F>::empty(steps * (2 * n + v + 1));
        let (step, outs): (Step<F>, _) =
            (self.function("bptt_of_one"), (out.pointer(), work.pointer()));
        let [wax, waa, wya, b, by] = parameters.tensors().map(|(_, values)| values.as_ptr());
        // SAFETY: the buffers have the shapes that the kernel is told.
        self.launch(geometry::bptt_of_one::<F>(n), order, &|| unsafe {
            step(
                x.as_ptr(),
                y.as_ptr(),
                wax,
                waa,
                wya,
                b,
                by,
                a0.as_ptr(),
                outs.0,
                outs.1,
                steps as u32,
                n as u32,
                v as u32,
            );
        })?;

        let mut bptt = Bptt::new(n, v);
        let loss = bptt.loss_and_gradients(&parameters, &x, &y, steps, 1, &a0, F::ONE);
        let mut expected: Vec<F> = Vec::new();
        for (_, gradient) in bptt.gradients().tensors() {
            expected.extend(gradient);
        }
        expected.extend(bptt.gradient_of_initial_state());
        expected.extend(bptt.state(0, steps));
        expected.push(F::from_f64(loss));
        if work.0[work.0.len() - MARGIN..].iter().any(|&value| value.to_f64() != 77.) {
            return Err("work was written behind its end".to_string());
        }
        out.check("out", &expected, 4. * Self::bound())
    }

    /// All checks, in both orders of threads.
    fn check_everything(&self, shapes: &[[usize; 4]]) -> Found {
        for &shape in shapes {
            for order in [false, true] {
                let at = |found: Found, kernel: &str| {
                    found.map_err(|what| format!("{kernel}, (T, B, n, v) = {shape:?}: {what}"))
                };
                at(self.check_input_projection(shape, order), "project_input")?;
                at(self.check_recurrence(shape, order), "recurrence")?;
                at(self.check_ends_of_steps(shape, order), "ends of steps")?;
                at(self.check_cross_entropy(shape, order), "cross_entropy")?;
                at(self.check_descent(shape, order), "clipped_descent")?;
                at(self.check_whole_step(shape, order), "bptt_of_one")?;
            }
        }
        Ok(())
    }
}

#[test]
fn the_gpu_kernels_in_single_precision_compute_what_the_cpu_kernels_compute() {
    Machine::<f32>::new().check_everything(&shapes()).unwrap();
}

#[test]
fn the_gpu_kernels_in_double_precision_compute_what_the_cpu_kernels_compute() {
    Machine::<f64>::new().check_everything(&shapes()).unwrap();
}

#[test]
fn a_planted_error_in_a_gpu_kernel_is_found() {
    // What stands in the source, and what is planted there.
    let errors = [
        ("wax[(size_t)i * v + index] + b[i]", "wax[(size_t)i * v + index]"),
        ("r += ROW_LANES", "r += ROW_LANES + 1"),
        ("other < ROW_LANES; other++", "other < ROW_LANES - 1; other++"),
        ("now[i] = tanh(px[row + i]", "now[i] = sin(px[row + i]"),
        ("for (; k < n; k++) sums[0]", "for (; k + 1 < n; k++) sums[0]"),
        ("- a[row + i] * a[row + i])", "- a[row + i])"),
        (
            "dot(shared_waa + i, pitch, after, n));\n            dpx",
            "dot(shared_waa + i * pitch, 1, after, n));\n            dpx",
        ),
        ("before[i] = a0[sequence * n + i]", "before[i] = a0[i]"),
        ("a[k] = tanh(a[k] + h[k])", "a[k] = tanh(a[k])"),
        ("(d[k] + h[k]) * (1 - a[k] * a[k])", "(d[k] + h[k]) * (1 + a[k] * a[k])"),
        ("other > partial[threadIdx.x]) partial", "other < partial[threadIdx.x]) partial"),
        ("log(sum) - (z_r[target] - largest)", "log(sum) - z_r[target]"),
        ("/ sum - (c == target) : 0", "/ sum - (c == target) : 1"),
        ("k += blockDim.x) sum += values[k]", "k += 2 * blockDim.x) sum += values[k]"),
        ("g[k] < -clip ? -clip", "g[k] < -clip ? clip"),
        ("clamped * clamped - *v", "g[k] * g[k] - *v"),
        ("moments + count + k;", "moments + k;"),
        ("* correction + epsilon)", "* correction - epsilon)"),
        // Barriers left out, one after the other.
        ("partial[threadIdx.x] = sum;\n    __syncthreads();", "partial[threadIdx.x] = sum;"),
        (
            "before[i] = a0[sequence * n + i];\n    __syncthreads();",
            "before[i] = a0[sequence * n + i];",
        ),
        (
            "        // The state before the last one is read no more after this.\n        __syncthreads();",
            "",
        ),
        ("after[i] = 0;\n    __syncthreads();", "after[i] = 0;"),
        (
            "dpx[row + i] = now[i];\n        }\n        __syncthreads();",
            "dpx[row + i] = now[i];\n        }",
        ),
        ("one[i] = a0[i];\n    __syncthreads();", "one[i] = a0[i];"),
        (
            "a[(size_t)t * n + i] = now[i];\n        }\n        __syncthreads();",
            "a[(size_t)t * n + i] = now[i];\n        }",
        ),
        (
            "dot(wya + (size_t)c * n, 1, a + (size_t)t * n, n);\n    }\n    __syncthreads();",
            "dot(wya + (size_t)c * n, 1, a + (size_t)t * n, n);\n    }",
        ),
        ("one[i] = 0;\n    __syncthreads();", "one[i] = 0;"),
        ("dp[k] = now[i];\n        }\n        __syncthreads();", "dp[k] = now[i];\n        }"),
        // The whole step's own arithmetic.
        ("F sum = dp[i] * a0[j];", "F sum = 0;"),
        ("? dz[k] / sums[t] -", "? dz[k] -"),
        ("sum += x[t] == c ? dp", "sum += y[t] == c ? dp"),
        ("last[i] = a[(size_t)(steps - 1) * n + i]", "last[i] = a[i]"),
        ("sum += dz[(size_t)t * v + c] * a[(size_t)t * n + i];", "sum += dz[(size_t)t * v + c];"),
    ];
    for (right, wrong) in errors {
        let machine = Machine::<f64>::with(|source| {
            assert!(source.contains(right), "{right:?} is not in the source");
            source.replacen(right, wrong, 1)
        });
        assert!(
            machine.check_everything(&[[9, 3, 50, 27], [90, 3, 9, 5]]).is_err(),
            "{wrong:?} passed for {right:?}"
        );
    }
}
