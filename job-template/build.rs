//! Tells the linker where libtorch is when the job runs, and what MKL may find in it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(folder) = std::env::var("LIBTORCH") {
        // libtorch's own OpenMP, so that its threads and ours are the same ones.
        println!("cargo:rustc-link-search=native={folder}/lib");
        // Where the tests and `cargo run` find it.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}/lib");
    }
    println!("cargo:rustc-link-arg=-l:libgomp.so.1");
    // Where the images have it.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:/opt/jobctl/torch/lib");
    // See `runtime::mkl`.
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
}
