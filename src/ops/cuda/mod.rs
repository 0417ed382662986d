//! The halves of the fused ops for NVIDIA GPUs.
//!
//! | file | what |
//! | --- | --- |
//! | `kernels.cuh` | the kernels, in the part of CUDA that is also C; `f32.cu` and `f64.cu` name the type |
//! | `geometry.rs` | how they are launched, and which sizes go which way |
//! | `device.rs` | buffers on a GPU, and the launches; in builds with the feature `cuda` alone |
//! | `on_host.rs`, `on_host.c` | tests, which run the kernels on the processor |

#[cfg(feature = "cuda")]
mod device;
#[cfg(any(feature = "cuda", all(test, target_os = "linux", target_env = "gnu")))]
mod geometry;

#[cfg(feature = "cuda")]
pub(crate) use device::*;

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod on_host;
