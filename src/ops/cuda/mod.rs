//! The CUDA halves of the ops: buffers and kernel launches. Nothing here synchronizes with the GPU:
//! launches go to candle's stream, in order, and results are tensors.
//!
//! `kernels.cuh` has the kernels, in the common part of CUDA C++ and C; `f32.cu` and `f64.cu` set the
//! float type. `geometry.rs` has the sizes of the launches. `tests/cuda_kernels.rs` compiles the
//! kernels as C and runs them on the processor.

mod geometry;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Device, Layout, Result, Shape, Storage, Tensor, bail};
use geometry::Geometry;

/// The kernels, compiled by `build.rs`: `F32` and `F64`.
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// A type with kernels: `f32` or `f64`.
pub(super) trait CudaFloat: CudaDType + DeviceRepr + Copy {
    /// The module's name, under which candle keeps it for each device, and its PTX.
    const MODULE: [&'static str; 2];
}

impl CudaFloat for f32 {
    const MODULE: [&'static str; 2] = ["char-rnn f32", ptx::F32];
}

impl CudaFloat for f64 {
    const MODULE: [&'static str; 2] = ["char-rnn f64", ptx::F64];
}

/// The most dynamic shared memory of a launch, in bytes, that needs no attribute of the kernel.
const DEFAULT_MAX_SHARED: usize = 48 << 10;

/// A kernel, prepared for a launch with this geometry.
fn kernel<F: CudaFloat>(
    device: &CudaDevice,
    name: &str,
    geometry: &Geometry,
) -> Result<CudaFunction> {
    let [module, code] = F::MODULE;
    let function = device.get_or_load_custom_func(name, module, code)?.into_cuda_function();
    if geometry.shared > DEFAULT_MAX_SHARED {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, geometry.shared as i32).w()?;
    }
    Ok(function)
}

fn config(geometry: Geometry) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (geometry.blocks.0 as u32, geometry.blocks.1 as u32, 1),
        block_dim: (geometry.threads as u32, 1, 1),
        shared_mem_bytes: geometry.shared as u32,
    }
}

/// Launches the kernel `$name` of the type `$F` with its arguments.
///
/// The unsafe block is sound where the caller has checked that its buffers have the lengths that
/// `kernels.cuh` documents, and passes each argument in its type there: a buffer for a pointer,
/// `usize` for `size_t`, `u32` for `unsigned`, `F` for itself.
macro_rules! launch {
    ($device:expr, $F:ty, $geometry:expr, $name:ident($($argument:expr),+)) => {{
        let geometry = $geometry;
        let function = kernel::<$F>($device, stringify!($name), &geometry)?;
        let stream = $device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        $(builder.arg($argument);)+
        // SAFETY: see above; tests/cuda_kernels.rs checks that the kernels stay in these shapes.
        unsafe { builder.launch(config(geometry)) }.w()?;
    }};
}

/// The storage of a tensor on a GPU.
fn on_gpu(storage: &Storage) -> Result<&CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => bail!("the tensors of an op must be on one device"),
    }
}

/// The values of a contiguous tensor.
fn values<'a, T: CudaDType>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!("the tensors of an op must be contiguous"),
    }
}

/// Binds `$name` to the values of the tensor `$tensor`, which must be contiguous and on a GPU.
macro_rules! values {
    ($name:ident: $F:ty = $tensor:expr) => {
        let (storage, layout) = $tensor.storage_and_layout();
        let $name = values::<$F>(on_gpu(&storage)?, layout)?;
    };
}

/// Returns an error where a buffer has another length: a kernel does not check its bounds.
fn check_length(what: &str, length: usize, expected: usize) -> Result<()> {
    match length == expected {
        true => Ok(()),
        false => bail!("{what} has {length} entries, not {expected}"),
    }
}

/// Returns an error where a tensor is not on `device`.
fn check_devices(device: &CudaDevice, tensors: &[&Tensor]) -> Result<()> {
    for tensor in tensors {
        if !matches!(tensor.device(), Device::Cuda(other) if other.id() == device.id()) {
            bail!("the tensors of an op must be on one device");
        }
    }
    Ok(())
}

/// Memory for `count` numbers, or for one where `count` is 0: the driver allocates no empty buffer.
fn uninitialized<F: CudaFloat>(device: &CudaDevice, count: usize) -> Result<CudaSlice<F>> {
    // SAFETY: each caller passes it to a kernel that writes every entry, before any read.
    unsafe { device.alloc(count.max(1)) }
}

fn storage<F: CudaFloat>(values: CudaSlice<F>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(values, device.clone())
}

fn tensor<F: CudaFloat>(
    values: CudaSlice<F>,
    shape: impl Into<Shape>,
    device: &CudaDevice,
) -> Tensor {
    let storage = Storage::Cuda(storage(values, device));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// The most shared memory of a block on this device, in bytes.
fn max_shared(device: &CudaDevice) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    Ok(device.cuda_stream().context().attribute(attribute).w()? as usize)
}

/// Whether the recurrence of `n` hidden units is one launch on this device.
pub(super) fn is_one_launch<F: CudaFloat>(device: &CudaDevice, n: usize) -> Result<bool> {
    Ok(geometry::is_one_launch::<F>(n, max_shared(device)?))
}

/// A copy of the entries of a contiguous tensor.
pub(super) fn copy<F: CudaFloat>(
    (values_of, layout): (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let device = values_of.device();
    let copied = device.cuda_stream().clone_dtod(&values::<F>(values_of, layout)?).w()?;
    Ok(storage(copied, device))
}

/// As [`crate::ops::project_input`].
pub(super) fn project_input<F: CudaFloat>(
    x: &Tensor,
    (wax, wax_layout): (&CudaStorage, &Layout),
    (b, b_layout): (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let device = wax.device();
    check_devices(device, &[x])?;
    let (rows, (n, v)) = (x.dims1()?, wax_layout.shape().dims2()?);
    values!(x: u32 = x);
    let (wax, b) = (values::<F>(wax, wax_layout)?, values::<F>(b, b_layout)?);
    check_length("b", b.len(), n)?;
    let mut px = uninitialized::<F>(device, rows * n)?;
    let geometry = geometry::entries(rows * n);
    let (n, v) = (n as u32, v as u32);
    launch!(device, F, geometry, project_input(&x, &wax, &b, &mut px, &rows, &n, &v));
    Ok(storage(px, device))
}

/// The gradients of `wax`, (n, v), and `b` from `dpx`, (R, n).
pub(super) fn project_input_gradients<F: CudaFloat>(
    x: &Tensor,
    dpx: &Tensor,
    v: usize,
) -> Result<[Tensor; 2]> {
    let device = dpx.device().as_cuda_device()?;
    check_devices(device, &[x])?;
    let (rows, n) = dpx.dims2()?;
    values!(x: u32 = x);
    values!(dpx: F = dpx);
    check_length("x", x.len(), rows)?;
    let (mut dwax, mut db) = (uninitialized::<F>(device, n * v)?, uninitialized::<F>(device, n)?);
    let geometry = geometry::project_input_backward::<F>(n, v);
    let (n_u, v_u) = (n as u32, v as u32);
    launch!(
        device,
        F,
        geometry,
        project_input_backward(&x, &dpx, &mut dwax, &mut db, &rows, &n_u, &v_u)
    );
    Ok([tensor(dwax, (n, v), device), tensor(db, n, device)])
}

/// Returns an error where the rows are not a whole number of steps.
fn check_batch(rows: usize, batch: usize) -> Result<()> {
    match batch > 0 && rows.is_multiple_of(batch) {
        true => Ok(()),
        false => bail!("{rows} rows are not a whole number of steps of {batch} sequences"),
    }
}

/// As [`crate::ops::recurrence`], in one launch.
pub(super) fn recurrence<F: CudaFloat>(
    (px, px_layout): (&CudaStorage, &Layout),
    (waa, waa_layout): (&CudaStorage, &Layout),
    (a0, a0_layout): (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let device = px.device();
    let ((rows, n), batch) = (px_layout.shape().dims2()?, a0_layout.shape().dims2()?.0);
    let (px, waa) = (values::<F>(px, px_layout)?, values::<F>(waa, waa_layout)?);
    let a0 = values::<F>(a0, a0_layout)?;
    check_length("waa", waa.len(), n * n)?;
    check_length("a0", a0.len(), batch * n)?;
    check_batch(rows, batch)?;
    let mut a = uninitialized::<F>(device, rows * n)?;
    let geometry = geometry::recurrence::<F>(batch, n);
    let (steps, batch, n) = ((rows / batch) as u32, batch as u32, n as u32);
    launch!(device, F, geometry, recurrence_forward(&px, &waa, &a0, &mut a, &steps, &batch, &n));
    Ok(storage(a, device))
}

/// The gradients of `px`, (T * B, n), and of the initial states, (B, n), from `da`, the gradient of
/// the states `a`, in one launch.
pub(super) fn recurrence_backward<F: CudaFloat>(
    waa: &Tensor,
    a: &Tensor,
    da: &Tensor,
    batch: usize,
) -> Result<[Tensor; 2]> {
    let device = a.device().as_cuda_device()?;
    check_devices(device, &[waa, da])?;
    let (rows, n) = a.dims2()?;
    values!(waa: F = waa);
    values!(a: F = a);
    values!(da: F = da);
    check_length("waa", waa.len(), n * n)?;
    check_length("da", da.len(), rows * n)?;
    check_batch(rows, batch)?;
    let (mut dpx, mut da0) =
        (uninitialized::<F>(device, rows * n)?, uninitialized::<F>(device, batch * n)?);
    let geometry = geometry::recurrence::<F>(batch, n);
    let (steps, batch_u, n_u) = ((rows / batch) as u32, batch as u32, n as u32);
    launch!(
        device,
        F,
        geometry,
        recurrence_backward(&waa, &a, &da, &mut dpx, &mut da0, &steps, &batch_u, &n_u)
    );
    Ok([tensor(dpx, (rows, n), device), tensor(da0, (batch, n), device)])
}

/// The number of entries of a contiguous tensor, and their range in its storage.
fn entries(layout: &Layout) -> Result<(usize, std::ops::Range<usize>)> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok((end - start, start..end)),
        None => bail!("a tensor that is changed in place must be contiguous"),
    }
}

/// `a = tanh(a + h)`, in place.
pub(super) fn add_tanh<F: CudaFloat>(
    a: &mut CudaStorage,
    layout: &Layout,
    (h, h_layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let (device, (count, range)) = (a.device().clone(), entries(layout)?);
    let h = values::<F>(h, h_layout)?;
    check_length("h", h.len(), count)?;
    let mut a = a.as_cuda_slice_mut::<F>()?.slice_mut(range);
    launch!(&device, F, geometry::entries(count), add_tanh(&mut a, &h, &count));
    Ok(())
}

/// `d = (d + h) (1 - a^2)`, in place.
pub(super) fn add_times_slope<F: CudaFloat>(
    d: &mut CudaStorage,
    layout: &Layout,
    (h, h_layout): (&CudaStorage, &Layout),
    (a, a_layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let (device, (count, range)) = (d.device().clone(), entries(layout)?);
    let (h, a) = (values::<F>(h, h_layout)?, values::<F>(a, a_layout)?);
    check_length("h", h.len(), count)?;
    check_length("a", a.len(), count)?;
    let mut d = d.as_cuda_slice_mut::<F>()?.slice_mut(range);
    launch!(&device, F, geometry::entries(count), add_times_slope(&mut d, &h, &a, &count));
    Ok(())
}

/// The loss, a scalar, as [`crate::ops::cross_entropy`], and the gradient of `z`, (R, v).
pub(super) fn cross_entropy<F: CudaFloat>(
    (z, layout): (&CudaStorage, &Layout),
    y: &Tensor,
) -> Result<(CudaStorage, Tensor)> {
    let device = z.device();
    check_devices(device, &[y])?;
    let (rows, v) = layout.shape().dims2()?;
    let z = values::<F>(z, layout)?;
    values!(y: u32 = y);
    check_length("y", y.len(), rows)?;
    let (mut dz, mut losses) =
        (uninitialized::<F>(device, rows * v)?, uninitialized::<F>(device, rows)?);
    let geometry = geometry::cross_entropy::<F>(rows, v);
    let v_u = v as u32;
    launch!(device, F, geometry, cross_entropy(&z, &y, &mut dz, &mut losses, &rows, &v_u));
    let mut loss = uninitialized::<F>(device, 1)?;
    launch!(device, F, geometry::sum(), sum(&losses, &mut loss, &rows));
    Ok((storage(loss, device), tensor(dz, (rows, v), device)))
}

/// The update kernel `name` on a target and a source whose shapes the caller has checked. `numbers`
/// are the kernel's arguments between its buffers and `count`.
pub(super) fn update<F: CudaFloat, const N: usize>(
    name: &str,
    (target, layout): (&mut CudaStorage, &Layout),
    (source, source_layout): (&CudaStorage, &Layout),
    numbers: [F; N],
    count: usize,
) -> Result<()> {
    let device = target.device().clone();
    let (_, range) = entries(layout)?;
    let source = values::<F>(source, source_layout)?;
    let mut target = target.as_cuda_slice_mut::<F>()?.slice_mut(range);
    let geometry = geometry::entries(count);
    let function = kernel::<F>(&device, name, &geometry)?;
    let stream = device.cuda_stream();
    let mut builder = stream.launch_builder(&function);
    builder.arg(&mut target).arg(&source);
    for number in &numbers {
        builder.arg(number);
    }
    builder.arg(&count);
    // SAFETY: as in `launch!`: `Update::check` has compared the shapes, and its caller passes the
    // numbers of this kernel.
    unsafe { builder.launch(config(geometry)) }.w()?;
    Ok(())
}
