//! Tells the linker where libtorch is when programs run, and what MKL may find in them. The build script
//! of this crate, for its tests, and of the crate that makes a program of it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(directory) = std::env::var("LIBTORCH") {
        // libtorch's own OpenMP, so that its threads and ours are the same ones.
        println!("cargo:rustc-link-search=native={directory}/lib");
        // Where the tests and `cargo run` find it.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}/lib");
    }
    println!("cargo:rustc-link-arg=-l:libgomp.so.1");
    // Where the images have it.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/lib:/opt/jobctl/torch/lib");
    // See `bert_encoder::cpu`.
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol=mkl_serv_intel_cpu_true");
}
