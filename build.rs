//! With the feature `cuda`: compiles the kernels, and what looks for the driver when the program
//! starts. Otherwise does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::build();
}

#[cfg(feature = "cuda")]
mod cuda {
    use cudaforge::{CudaToolkit, KernelBuilder};
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    pub fn build() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo tells where to write"));
        if let Err(error) = kernels(&out) {
            panic!("the CUDA kernels cannot be compiled: {error}");
        }
        driver(&out);
    }

    /// The kernels as PTX, for the GPU that candle's own are built for. Now and not, by NVRTC, at run
    /// time: a mistake shows where it was made, and the program starts at once. The driver makes code
    /// of the PTX at the first start and keeps it.
    fn kernels(out: &Path) -> cudaforge::Result<()> {
        const FOLDER: &str = "src/ops/cuda";
        println!("cargo::rerun-if-changed={FOLDER}");
        KernelBuilder::new()
            .source_dir(FOLDER)
            .watch([format!("{FOLDER}/kernels.cuh")])
            .arg("-O3")
            .build_ptx()?
            .write(out.join("ptx.rs"))
    }

    /// Where the loader would refuse to start the program without a driver, and `driver.c` knows the
    /// processor: the driver's functions, which it then defines before the linker asks for the
    /// driver's library.
    fn driver(out: &Path) {
        const SOURCE: &str = "src/device/driver.c";
        println!("cargo::rerun-if-changed={SOURCE}");
        let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
        let header = CudaToolkit::detect()
            .ok()
            .and_then(|toolkit| fs::read_to_string(toolkit.include_dir.join("cuda.h")).ok());
        let known = target("OS") == "linux" && ["x86_64", "aarch64"].contains(&&*target("ARCH"));
        if !known {
            return;
        }
        let Some(header) = header else {
            println!(
                "cargo::warning=the toolkit's cuda.h is not found: the program will not start on a machine \
                 without an NVIDIA driver"
            );
            return;
        };
        let is_function = |word: &&str| {
            word.strip_prefix("cu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        };
        let words = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: BTreeSet<&str> = words.filter(is_function).collect();
        let numbered = names.iter().enumerate();
        let lines: String = numbered.map(|(k, name)| format!("NAME({name}, {k})\n")).collect();
        fs::write(out.join("names.h"), lines).expect("cargo's folder can be written");
        cc::Build::new().file(SOURCE).include(out).compile("driver_at_start");
        println!("cargo::rustc-cfg=driver_at_start");
    }
}
