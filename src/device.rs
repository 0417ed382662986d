//! Opening a GPU, and the memory of the machine.

use crate::error::{Error, Result};
use candle_core::Device;

/// The NVIDIA GPU with this number, from 0.
///
/// # Errors
/// [`Error::Device`] where this build has no CUDA, there is no GPU of that number, the driver is
/// older than the CUDA toolkit of the build, or the GPU cannot be opened.
pub fn cuda(ordinal: usize) -> Result<Device> {
    #[cfg(not(feature = "cuda"))]
    return Err(Error::Device(format!(
        "this build has no CUDA, so there is no cuda:{ordinal}: build with cargo build --release \
         --features cuda (docs/cuda.md), or use the CPU"
    )));
    #[cfg(feature = "cuda")]
    open(ordinal)
}

/// Whether the process can get so many bytes of memory. An allocation that fails ends the program.
pub(crate) fn has_memory(bytes: u128) -> bool {
    let mut memory = Vec::<u8>::new();
    let reserved = usize::try_from(bytes).is_ok_and(|n| memory.try_reserve_exact(n).is_ok());
    // Without this, the compiler may leave the allocation out.
    std::hint::black_box(&memory);
    reserved && is_available(bytes)
}

/// Whether the free memory and swap space, or the limit of a container, are so many bytes, as far as
/// the system reports them: Linux reserves more than it has, and later kills the process.
pub(crate) fn is_available(bytes: u128) -> bool {
    free_memory().is_none_or(|free| bytes <= free)
}

fn free_memory() -> Option<u128> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |key: &str| -> Option<u128> {
        info.lines()
            .find_map(|line| line.strip_prefix(key))?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    };
    let free = (kib("MemAvailable:")? + kib("SwapFree:")?) * 1024;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|limit| limit.trim().parse().ok());
    Some(limit.map_or(free, |limit: u128| limit.min(free)))
}

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> Result<Device> {
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
    let failed = |error: &dyn std::fmt::Display| {
        Error::Device(format!("cannot open the GPU cuda:{ordinal}: {error}; use the CPU"))
    };
    let mut version = 0;
    // SAFETY: writes one number. An error leaves it 0.
    let _ = unsafe { sys::cuDriverGetVersion(&mut version) };
    let (driver, toolkit) = (version as u32, sys::CUDA_VERSION);
    if driver != 0 && driver < toolkit {
        let text = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
        return Err(failed(&format_args!(
            "the NVIDIA driver supports CUDA {}, and this build needs {}: install a newer driver",
            text(driver),
            text(toolkit)
        )));
    }
    // Without a GPU this is an error.
    let count = CudaContext::device_count().map_err(|error| failed(&error))? as usize;
    if ordinal >= count {
        return Err(Error::Device(format!(
            "there is no GPU cuda:{ordinal}: the NVIDIA driver reports {count}, numbered from 0"
        )));
    }
    // One stream for all threads: Device::new_cuda takes one of the calling thread, and candle
    // does not order the streams of several threads.
    Device::new_cuda_with_stream(ordinal).map_err(|error| match Error::from(error) {
        out_of_memory @ Error::Device(_) => out_of_memory,
        error => failed(&error),
    })
}
