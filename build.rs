//! Compiles the CUDA kernels, with the feature `cuda`. Otherwise does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(error) = kernels() {
        panic!("cannot compile the CUDA kernels: {error}");
    }
}

/// The kernels as PTX, for the GPU that candle's own kernels are built for.
#[cfg(feature = "cuda")]
fn kernels() -> cudaforge::Result<()> {
    const FOLDER: &str = "src/ops/cuda";
    println!("cargo::rerun-if-changed={FOLDER}");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    cudaforge::KernelBuilder::new()
        .source_dir(FOLDER)
        .watch([format!("{FOLDER}/kernels.cuh")])
        .arg("-O3")
        .build_ptx()?
        .write(std::path::Path::new(&out).join("ptx.rs"))
}
