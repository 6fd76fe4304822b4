//! The arrows between crates, as `cargo tree` sees them (docs/architecture.md).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

fn dependencies(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--package", package])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn nothing_below_the_coordinator_links_libtorch() {
    for package in ["coordinator", "proto", "settings", "data", "reward", "grpo", "eval", "judge", "vision"] {
        let found = dependencies(package);
        assert!(found.iter().any(|name| name == package), "cargo tree lists {package} itself");
        assert!(!found.iter().any(|name| name == "torch-sys" || name == "tch"), "{package} links libtorch");
    }
}

#[test]
fn the_worker_links_libtorch_so_the_check_above_can_fail() {
    assert!(dependencies("worker").iter().any(|name| name == "torch-sys"));
}

#[test]
fn plain_crates_use_settings_and_no_other_crate_of_ours() {
    let ours =
        ["data", "reward", "grpo", "eval", "vision", "collective", "checkpoint", "model", "train", "proto"];
    for package in ["data", "reward", "grpo", "eval"] {
        let found = dependencies(package);
        for other in ours.iter().filter(|other| **other != package) {
            assert!(!found.iter().any(|name| name == other), "{package} uses {other}");
        }
    }
}
