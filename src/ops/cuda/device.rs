//! Buffers on a GPU, and the launches of the kernels. Nothing here waits for the GPU: work is put
//! into candle's stream, in order, and results are tensors.

use super::geometry::{self, Geometry};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Device, Layout, Result, Shape, Storage, Tensor, bail};

/// The kernels, compiled by `build.rs`: `F32` and `F64`.
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// A type that there are kernels for: `f32` or `f64`.
pub trait Number: CudaDType + DeviceRepr + Copy {
    /// A name for the module, of which candle keeps one a device, and its code.
    const MODULE: [&'static str; 2];
}

impl Number for f32 {
    const MODULE: [&'static str; 2] = ["char-rnn f32", ptx::F32];
}

impl Number for f64 {
    const MODULE: [&'static str; 2] = ["char-rnn f64", ptx::F64];
}

/// Launches without a choice of shared memory up to this many bytes; more has to be asked for.
const SHARED_UNASKED: usize = 48 << 10;

/// A kernel, ready to be launched with this geometry.
fn kernel<F: Number>(device: &CudaDevice, name: &str, geometry: &Geometry) -> Result<CudaFunction> {
    let [module, code] = F::MODULE;
    let function = device.get_or_load_custom_func(name, module, code)?.into_cuda_function();
    if geometry.shared > SHARED_UNASKED {
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

/// Launches the kernel `$name` of the type `$F`, its arguments in order.
///
/// The unsafe block is sound where the function around it has checked that its buffers are as long as
/// `kernels.cuh` documents, and passes each argument in the type that it has there: pointers by
/// buffers, `size_t` by `usize`, `unsigned` by `u32`, `F` by itself.
macro_rules! launch {
    ($device:expr, $F:ty, $name:literal, $geometry:expr, $($argument:expr),+) => {{
        let geometry = $geometry;
        let function = kernel::<$F>($device, $name, &geometry)?;
        let stream = $device.cuda_stream();
        let mut builder = stream.launch_builder(&function);
        $(builder.arg($argument);)+
        // SAFETY: see above; the kernels are tested to keep to these shapes.
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
        None => bail!("this op takes contiguous tensors"),
    }
}

/// Binds `$name` to the values of the tensor `$tensor`, which must be contiguous and on a GPU.
macro_rules! values {
    ($name:ident: $F:ty = $tensor:expr) => {
        let (storage, layout) = $tensor.storage_and_layout();
        let $name = values::<$F>(on_gpu(&storage)?, layout)?;
    };
}

/// Refuses a buffer that has not so many entries: a kernel reads and writes as many as it is told.
fn check_length(what: &str, length: usize, expected: usize) -> Result<()> {
    match length == expected {
        true => Ok(()),
        false => bail!("{what} has {length} entries, and should have {expected}"),
    }
}

/// Refuses tensors that are not on `device`: a kernel of one GPU cannot read the memory of another.
fn check_devices(device: &CudaDevice, tensors: &[&Tensor]) -> Result<()> {
    for tensor in tensors {
        if !matches!(tensor.device(), Device::Cuda(other) if other.id() == device.id()) {
            bail!("the tensors of an op must be on one device");
        }
    }
    Ok(())
}

/// Room for `count` numbers that a kernel will write, at least one: the driver knows no empty
/// memory.
fn room<F: Number>(device: &CudaDevice, count: usize) -> Result<CudaSlice<F>> {
    // SAFETY: each function below passes it to a kernel that writes every entry, before anything
    // reads it.
    unsafe { device.alloc(count.max(1)) }
}

fn storage<F: Number>(values: CudaSlice<F>, device: &CudaDevice) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(values, device.clone())
}

fn tensor<F: Number>(values: CudaSlice<F>, shape: impl Into<Shape>, device: &CudaDevice) -> Tensor {
    let storage = Storage::Cuda(storage(values, device));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

fn gpu(device: &Device) -> Result<&CudaDevice> {
    device.as_cuda_device()
}

/// How much shared memory the device lends to a block, in bytes.
fn shared(device: &CudaDevice) -> Result<usize> {
    let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    Ok(device.cuda_stream().context().attribute(attribute).w()? as usize)
}

/// Whether the recurrence of `n` hidden units is one launch on this device.
pub fn one_launch<F: Number>(device: &CudaDevice, n: usize) -> Result<bool> {
    Ok(geometry::one_launch::<F>(n, shared(device)?))
}

/// A copy of a contiguous tensor, of its own entries alone.
pub fn copy<F: Number>((values_of, layout): (&CudaStorage, &Layout)) -> Result<CudaStorage> {
    let device = values_of.device();
    let copied = device.cuda_stream().clone_dtod(&values::<F>(values_of, layout)?).w()?;
    Ok(storage(copied, device))
}

/// `px`, (R, n), as [`crate::ops::project_input`].
pub fn project_input<F: Number>(
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
    let mut px = room::<F>(device, rows * n)?;
    let geometry = geometry::entries(rows * n);
    let (n, v) = (n as u32, v as u32);
    launch!(device, F, "project_input", geometry, &x, &wax, &b, &mut px, &rows, &n, &v);
    Ok(storage(px, device))
}

/// The gradients of `wax`, (n, v), and `b` from `dpx`, (R, n).
pub fn project_input_gradients<F: Number>(
    x: &Tensor,
    dpx: &Tensor,
    v: usize,
) -> Result<[Tensor; 2]> {
    let device = gpu(dpx.device())?;
    check_devices(device, &[x])?;
    let (rows, n) = dpx.dims2()?;
    values!(x: u32 = x);
    values!(dpx: F = dpx);
    check_length("x", x.len(), rows)?;
    let (mut dwax, mut db) = (room::<F>(device, n * v)?, room::<F>(device, n)?);
    let geometry = geometry::project_input_backward::<F>(n, v);
    let (n_u, v_u) = (n as u32, v as u32);
    launch!(
        device,
        F,
        "project_input_backward",
        geometry,
        &x,
        &dpx,
        &mut dwax,
        &mut db,
        &rows,
        &n_u,
        &v_u
    );
    Ok([tensor(dwax, (n, v), device), tensor(db, n, device)])
}

/// Refuses rows that are not whole steps of a batch.
fn check_batch(rows: usize, batch: usize) -> Result<()> {
    match batch > 0 && rows.is_multiple_of(batch) {
        true => Ok(()),
        false => bail!("{rows} rows are not the steps of {batch} sequences"),
    }
}

/// All states, as [`crate::ops::recurrence`], where they are one launch.
pub fn recurrence<F: Number>(
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
    let mut a = room::<F>(device, rows * n)?;
    let geometry = geometry::recurrence::<F>(batch, n);
    let (steps, batch, n) = ((rows / batch) as u32, batch as u32, n as u32);
    launch!(device, F, "recurrence_forward", geometry, &px, &waa, &a0, &mut a, &steps, &batch, &n);
    Ok(storage(a, device))
}

/// The gradients of `px`, (T * B, n), and of the first states, (B, n), from `da`, that of the
/// states `a`, where they are one launch.
pub fn recurrence_backward<F: Number>(
    waa: &Tensor,
    a: &Tensor,
    da: &Tensor,
    batch: usize,
) -> Result<[Tensor; 2]> {
    let device = gpu(a.device())?;
    check_devices(device, &[waa, da])?;
    let (rows, n) = a.dims2()?;
    values!(waa: F = waa);
    values!(a: F = a);
    values!(da: F = da);
    check_length("waa", waa.len(), n * n)?;
    check_length("da", da.len(), rows * n)?;
    check_batch(rows, batch)?;
    let (mut dpx, mut da0) = (room::<F>(device, rows * n)?, room::<F>(device, batch * n)?);
    let geometry = geometry::recurrence::<F>(batch, n);
    let (steps, batch_u, n_u) = ((rows / batch) as u32, batch as u32, n as u32);
    launch!(
        device,
        F,
        "recurrence_backward",
        geometry,
        &waa,
        &a,
        &da,
        &mut dpx,
        &mut da0,
        &steps,
        &batch_u,
        &n_u
    );
    Ok([tensor(dpx, (rows, n), device), tensor(da0, (batch, n), device)])
}

/// The entries of a contiguous tensor that a kernel changes: how many, and where they stand.
fn changed(layout: &Layout) -> Result<(usize, std::ops::Range<usize>)> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok((end - start, start..end)),
        None => bail!("what is changed in place must be contiguous"),
    }
}

/// `a = tanh(a + h)`, in place.
pub fn add_tanh<F: Number>(
    a: &mut CudaStorage,
    layout: &Layout,
    (h, h_layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let (device, (count, range)) = (a.device().clone(), changed(layout)?);
    let h = values::<F>(h, h_layout)?;
    check_length("h", h.len(), count)?;
    let mut a = a.as_cuda_slice_mut::<F>()?.slice_mut(range);
    launch!(&device, F, "add_tanh", geometry::entries(count), &mut a, &h, &count);
    Ok(())
}

/// `d = (d + h) (1 - a^2)`, in place.
pub fn add_times_slope<F: Number>(
    d: &mut CudaStorage,
    layout: &Layout,
    (h, h_layout): (&CudaStorage, &Layout),
    (a, a_layout): (&CudaStorage, &Layout),
) -> Result<()> {
    let (device, (count, range)) = (d.device().clone(), changed(layout)?);
    let (h, a) = (values::<F>(h, h_layout)?, values::<F>(a, a_layout)?);
    check_length("h", h.len(), count)?;
    check_length("a", a.len(), count)?;
    let mut d = d.as_cuda_slice_mut::<F>()?.slice_mut(range);
    launch!(&device, F, "add_times_slope", geometry::entries(count), &mut d, &h, &a, &count);
    Ok(())
}

/// The loss, a scalar, and its gradient by `z`, (R, v), as [`crate::ops::cross_entropy`].
pub fn cross_entropy<F: Number>(
    (z, layout): (&CudaStorage, &Layout),
    y: &Tensor,
) -> Result<(CudaStorage, Tensor)> {
    let device = z.device();
    check_devices(device, &[y])?;
    let (rows, v) = layout.shape().dims2()?;
    let z = values::<F>(z, layout)?;
    values!(y: u32 = y);
    check_length("y", y.len(), rows)?;
    let (mut dz, mut losses) = (room::<F>(device, rows * v)?, room::<F>(device, rows)?);
    let geometry = geometry::cross_entropy::<F>(rows, v);
    let v_u = v as u32;
    launch!(device, F, "cross_entropy", geometry, &z, &y, &mut dz, &mut losses, &rows, &v_u);
    let mut loss = room::<F>(device, 1)?;
    launch!(device, F, "sum", geometry::sum(), &losses, &mut loss, &rows);
    Ok((storage(loss, device), tensor(dz, (rows, v), device)))
}

/// The updates of variables, in place; the caller has checked the shapes. `numbers` are what the kernel takes
/// between its buffers and their length.
pub fn update<F: Number, const N: usize>(
    name: &str,
    (target, layout): (&mut CudaStorage, &Layout),
    (source, source_layout): (&CudaStorage, &Layout),
    numbers: [F; N],
    count: usize,
) -> Result<()> {
    let device = target.device().clone();
    let (_, range) = changed(layout)?;
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
    // SAFETY: as in `launch!`; `Update::check` has compared the shapes, and its caller passes the
    // numbers that the kernel takes.
    unsafe { builder.launch(config(geometry)) }.w()?;
    Ok(())
}

/// What [`bptt_of_one`] finds.
pub struct OfOne {
    /// In nats: a scalar.
    pub loss: Tensor,
    /// The gradients of `wax`, `waa`, `wya`, `b` and `by`, in their shapes.
    pub parameters: [Tensor; 5],
    /// The gradient of the first state, (1, n).
    pub start: Tensor,
    /// The last state, (1, n).
    pub last: Tensor,
}

/// Backpropagation through time for a batch of one in one launch: `x` and `y` (T), the parameters
/// `wax`, `waa`, `wya`, `b` and `by`, and the first state `a0`, (1, n). None where the sizes are not
/// for it.
pub fn bptt_of_one<F: Number>(
    x: &Tensor,
    y: &Tensor,
    parameters: [&Tensor; 5],
    a0: &Tensor,
) -> Result<Option<OfOne>> {
    let [wax, waa, wya, b, by] = parameters;
    let device = gpu(a0.device())?;
    check_devices(device, &[x, y, wax, waa, wya, b, by])?;
    let ((batch, n), (_, v), steps) = (a0.dims2()?, wax.dims2()?, x.dims1()?);
    if steps == 0 || !geometry::whole_step::<F>(batch, n, v, shared(device)?) {
        return Ok(None);
    }
    let sizes = [n * v, n * n, v * n, n, v, n, n, 1];
    let mut out = room::<F>(device, sizes.iter().sum())?;
    let mut work = room::<F>(device, steps * (2 * n + v + 1))?;
    {
        values!(x: u32 = x);
        values!(y: u32 = y);
        values!(wax: F = wax);
        values!(waa: F = waa);
        values!(wya: F = wya);
        values!(b: F = b);
        values!(by: F = by);
        values!(a0: F = a0);
        for (what, length, expected) in [
            ("x", x.len(), steps),
            ("y", y.len(), steps),
            ("wax", wax.len(), n * v),
            ("waa", waa.len(), n * n),
            ("wya", wya.len(), v * n),
            ("b", b.len(), n),
            ("by", by.len(), v),
            ("a0", a0.len(), n),
        ] {
            check_length(what, length, expected)?;
        }
        let geometry = geometry::bptt_of_one::<F>(n);
        let (steps, n, v) = (steps as u32, n as u32, v as u32);
        launch!(
            device,
            F,
            "bptt_of_one",
            geometry,
            &x,
            &y,
            &wax,
            &waa,
            &wya,
            &b,
            &by,
            &a0,
            &mut out,
            &mut work,
            &steps,
            &n,
            &v
        );
    }
    let out = tensor(out, sizes.iter().sum::<usize>(), device);
    let mut from = 0;
    // Views: nothing is copied.
    let mut next = |shape: &[usize]| {
        let count = shape.iter().product();
        let part = out.narrow(0, from, count)?.reshape(shape);
        from += count;
        part
    };
    let parameters = [next(&[n, v])?, next(&[n, n])?, next(&[v, n])?, next(&[n])?, next(&[v])?];
    Ok(Some(OfOne { parameters, start: next(&[1, n])?, last: next(&[1, n])?, loss: next(&[])? }))
}
