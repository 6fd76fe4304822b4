//! Compiles the C++ shim over libtorch's c10d and says where libtorch lies.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-env-changed=GLOO_INCLUDE");
    let lib = PathBuf::from(
        env::var_os("DEP_TCH_LIBTORCH_LIB")
            .expect("torch-sys says where libtorch's libraries lie (libtorch_lib)"),
    );
    let torch = lib.parent().expect("libtorch's lib folder has a parent").to_owned();
    let gloo = PathBuf::from(env::var_os("GLOO_INCLUDE").unwrap_or_else(|| "/usr/include".into()));
    assert!(
        gloo.join("gloo/config.h").exists(),
        "no Gloo headers in {}: install libgloo-dev, or set GLOO_INCLUDE to the folder that holds gloo/config.h",
        gloo.display()
    );

    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++20")
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(torch.join("include"))
        .include(torch.join("include/torch/csrc/api/include"))
        .files(["cpp/store.cpp", "cpp/group.cpp", "cpp/gloo.cpp", "cpp/sockets.cpp", "cpp/storage.cpp"]);
    if gloo != Path::new("/usr/include") {
        shim.include(&gloo);
    }
    if env::var_os("CARGO_FEATURE_NCCL").is_some() {
        for folder in nccl_includes(&torch) {
            shim.include(folder);
        }
        shim.define("USE_C10D_NCCL", None).file("cpp/nccl.cpp");
    }
    shim.compile("collective_shim");

    println!("cargo:rustc-link-search=native={}", lib.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    if env::var_os("CARGO_FEATURE_NCCL").is_some() {
        println!("cargo:rustc-link-lib=dylib=torch_cuda");
        println!("cargo:rustc-link-lib=dylib=c10_cuda");
        println!("cargo:rustc-link-arg=-Wl,--unresolved-symbols=ignore-in-shared-libs");
    }
    // For this package's tests; programs read DEP_COLLECTIVE_SHIM_LIB in their own build scripts.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo:lib={}", lib.display());
}

/// The CUDA and NCCL headers of the wheels beside libtorch's, or of `CUDA_HOME` and the system.
fn nccl_includes(torch: &Path) -> Vec<PathBuf> {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let mut folders = Vec::new();
    if let Some(packages) = torch.parent() {
        folders.push(packages.join("nvidia/cu13/include"));
        folders.push(packages.join("nvidia/nccl/include"));
    }
    folders.extend(env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("include")));
    let cccl: Vec<PathBuf> = folders.iter().map(|folder| folder.join("cccl")).collect();
    folders.extend(cccl);
    folders.retain(|folder| folder.exists());
    assert!(
        folders.iter().any(|folder| folder.join("crt/host_defines.h").exists()),
        "no CUDA compiler headers (crt/host_defines.h) in {folders:?}: pip install nvidia-cuda-crt==13.0.* \
         nvidia-cuda-cccl==13.0.* beside torch, or set CUDA_HOME"
    );
    folders
}
