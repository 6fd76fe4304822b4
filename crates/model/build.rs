//! Compiles the C++ shim over libtorch and says where libtorch lies.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    let lib = PathBuf::from(
        env::var_os("DEP_TCH_LIBTORCH_LIB")
            .expect("torch-sys says where libtorch's libraries lie (libtorch_lib)"),
    );
    let include = lib.parent().expect("libtorch's lib folder has a parent").join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(false)
        .flag_if_supported("-fopenmp")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(["cpp/cpu.cpp", "cpp/derivative.cpp"])
        .compile("model_shim");
    println!("cargo:rustc-link-search=native={}", lib.display());
    // The OpenMP runtime is the one that libtorch brings: two in one process would each have their own threads.
    let gomp = if lib.join("libgomp.so.1").exists() { "dylib:+verbatim=libgomp.so.1" } else { "dylib=gomp" };
    println!("cargo:rustc-link-lib={gomp}");
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    // For this package's tests; programs have build scripts of their own.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
