//! Where the arithmetic is done: opening a GPU, or saying in a sentence why that cannot be.

use crate::error::{Error, Result};
use candle_core::Device;

/// The GPU of this number, counted from 0.
///
/// # Errors
/// [`Error::Device`] where this build has no CUDA, or the machine no driver, no GPU or none of that
/// number, or where the GPU cannot be used.
pub fn cuda(ordinal: usize) -> Result<Device> {
    available(ordinal).map_err(Error::Device)?;
    // One stream of the device's own: candle's other choice is one for each thread, which nothing orders.
    let opened = Device::new_cuda_with_stream(ordinal);
    #[cfg(feature = "cuda")]
    let opened = opened.and_then(|device| save_calls(&device).map(|()| device));
    opened.map_err(|error| match Error::from(error) {
        // Too little memory, said already.
        told @ Error::Device(_) => told,
        error => Error::Device(format!("the GPU cuda:{ordinal} cannot be used: {error}")),
    })
}

/// Two things that candle leaves as they are, and that cost calls of the driver at every tensor.
#[cfg(feature = "cuda")]
fn save_calls(device: &Device) -> candle_core::Result<()> {
    use candle_core::cuda_backend::WrapErr;
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    let device = device.as_cuda_device()?;
    // SAFETY: events would order several streams, and this device has one, whichever thread asks.
    unsafe { device.disable_event_tracking() };
    // Memory that is freed is kept for the next tensor; without this it goes back to the driver
    // whenever the device is waited for.
    let mut all = u64::MAX;
    let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let context = device.cuda_stream().context().clone();
    if context.has_async_alloc() {
        // SAFETY: the context keeps the device open, and the attribute is a number of 64 bits.
        unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device()).w()?;
            sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut all).cast()).result().w()?;
        }
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn available(_: usize) -> std::result::Result<(), String> {
    Err("this build of char-rnn has no CUDA: make one that has by cargo build --release --features \
         cuda; the README tells what that needs"
        .to_string())
}

#[cfg(feature = "cuda")]
fn available(ordinal: usize) -> std::result::Result<(), String> {
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys::CUresult};
    if let Some(why) = missing_driver() {
        return Err(format!(
            "there is no NVIDIA driver that can be loaded ({why}): install one, or use --device cpu"
        ));
    }
    check_version()?;
    let count = result::init().and_then(|()| CudaContext::device_count());
    match count {
        Ok(0) => Err(CUresult::CUDA_ERROR_NO_DEVICE),
        Ok(count) if ordinal >= count as usize => {
            let all = match count {
                1 => "there is one, cuda:0".to_string(),
                count => format!("there are {count}, from cuda:0 to cuda:{}", count - 1),
            };
            return Err(format!("there is no GPU cuda:{ordinal}: {all}"));
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.0),
    }
    .map_err(|error| match error {
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "there is no GPU that the NVIDIA driver can use: use --device cpu".to_string()
        }
        CUresult::CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER => {
            "the NVIDIA driver is older than the CUDA toolkit that this build was made with: \
             install a newer one, or use --device cpu"
                .to_string()
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the NVIDIA driver's library and its kernel module are of different versions, as after an \
             update: restart the machine, or use --device cpu"
                .to_string()
        }
        error => format!("the NVIDIA driver cannot be used: {error:?}"),
    })
}

/// Refuses a driver that is older than the toolkit: it may not know the kernels' language, and says
/// so only when one is loaded.
#[cfg(feature = "cuda")]
fn check_version() -> std::result::Result<(), String> {
    use candle_core::cuda_backend::cudarc::driver::sys;
    let mut version = 0;
    // SAFETY: the driver writes one number, and needs nothing before that.
    let told = unsafe { sys::cuDriverGetVersion(&mut version) };
    let (driver, toolkit) = (version as u32, sys::CUDA_VERSION);
    if told != sys::CUresult::CUDA_SUCCESS || driver >= toolkit {
        return Ok(());
    }
    let text = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
    Err(format!(
        "the NVIDIA driver is for CUDA {} and older, and this build was made with CUDA {}: install a \
         newer driver, or use --device cpu",
        text(driver),
        text(toolkit)
    ))
}

/// Why the driver's library could not be loaded when the program started, None where it was; where
/// that is left to the system's loader, it was, or nothing would run.
#[cfg(feature = "cuda")]
fn missing_driver() -> Option<String> {
    #[cfg(driver_at_start)]
    {
        unsafe extern "C" {
            safe fn char_rnn_driver_error() -> *const std::ffi::c_char;
        }
        let why = char_rnn_driver_error();
        // SAFETY: where it is not null, it is a text that ends with a zero and is not changed any more.
        (!why.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(why) }.to_string_lossy().into())
    }
    #[cfg(not(driver_at_start))]
    None
}
