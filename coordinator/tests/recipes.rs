//! The recipes that come with the program, as the program itself takes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn planned(recipe: &Path, sets: &[&str]) -> String {
    let seven =
        recipe.file_name().unwrap().to_string_lossy().contains("7b") || recipe.ends_with("combined.yaml");
    let hosts = if seven { "configs/hosts/four_gpus.yaml" } else { "configs/hosts/local.yaml" };
    let set = sets.iter().flat_map(|set| ["--set", set]);
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator"))
        .args(["--nodes", hosts, "--dry-run", "--recipe", recipe.to_str().unwrap()])
        .args(set)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", recipe.display());
    String::from_utf8(output.stdout).unwrap()
}

fn recipe(name: &str) -> PathBuf {
    root().join("configs").join(name)
}

#[test]
fn every_recipe_passes_its_dry_run_and_says_what_a_step_takes() {
    let files = fs::read_dir(root().join("configs")).unwrap().map(|entry| entry.unwrap().path());
    let recipes: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    assert!(recipes.len() >= 10, "{recipes:?}");
    for path in recipes {
        let plan = planned(&path, &[]);
        let stages = plan.matches(": tokens a step, at most: ").count();
        assert!(stages > 0, "{}\n{plan}", path.display());
        for words in ["micro-batches", ": memory a ", "sends a step: "] {
            assert_eq!(plan.matches(words).count(), stages, "{}: {words}\n{plan}", path.display());
        }
    }
}

#[test]
fn the_image_recipe_is_the_published_run() {
    let plan = planned(&recipe("preres_iqa_7b.yaml"), &[]);
    for words in [
        "stage prpo: prpo, 1528 steps of 32 samples; 6125 training samples (191 steps an epoch)",
        "model: 8,292,166,656 parameters (the shape of qwen2.5-vl-7b that comes with the program: \
         models/Qwen2.5-VL-7B-Instruct is not there); 4 GPUs",
        "32 samples × (",
        "252 of them pictures, + 6 × 256 answer) = ",
        "(declared, not found: kadid)",
        "8,292,166,656 parameters train, 0 are frozen; 8 samples a GPU in 2 micro-batches",
        // 18 · P / 4
        "weights, masters, moments and gradients 34.75 GiB",
    ] {
        assert!(plan.contains(words), "{words:?} is not in\n{plan}");
    }
}

#[test]
fn the_stages_of_the_two_stage_recipe_differ_as_the_paper_says() {
    let plan = planned(&recipe("preres_iqa_7b_two_stage.yaml"), &[]);
    for words in [
        "stage explore: prpo, 780 steps",
        "+ 12 × 256 answer",
        "stage stabilise: prpo, 780 steps",
        "+ 6 × 256 answer",
    ] {
        assert!(plan.contains(words), "{words:?} is not in\n{plan}");
    }
}

#[test]
fn memory_and_bytes_follow_the_sharding() {
    let line = |sharding: &str, words: &str| {
        let plan = planned(&recipe("preres_iqa_7b.yaml"), &[&format!("parallel.sharding={sharding}")]);
        let found =
            plan.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}\n{plan}"));
        found.to_owned()
    };
    // 2 · 3/4 · 4P, and 3/4 · (4 + 2) P.
    assert!(line("replicate", "sends a step").contains("49.753 GB = update 49.753 GB"));
    assert!(line("optimizer", "sends a step").contains("37.315 GB = update 37.315 GB"));
    assert!(line("replicate", "memory a GPU").contains("gradients 139.01 GiB"));
}

#[test]
fn what_is_neither_there_nor_declared_is_an_error_also_in_a_dry_run() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(recipe("small_two_stage.yaml")).unwrap();
    let bare = text.replace("runs/quickstart-data", "runs/nowhere").replacen(
        "declared: { samples: 6600, width: 224, height: 224 } ",
        "",
        1,
    );
    let path = folder.path().join("bare.yaml");
    fs::write(&path, bare.replace(", }]", " }]")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator"))
        .args(["--nodes", "configs/hosts/local.yaml", "--dry-run", "--recipe", path.to_str().unwrap()])
        .current_dir(root())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("runs/nowhere/train.jsonl does not exist"), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("name: small_two_stage"), "the recipe is shown before what is missing:\n{shown}");
}
