//! Data sets made whole, on tiny photographs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use clap::Parser;
use tempfile::TempDir;
use vision::{Rgb, encode_png};

use super::{check, synthesize};
use crate::failure::Failure;

#[derive(Parser)]
struct Synthesize {
    #[command(flatten)]
    args: synthesize::Args,
}

#[derive(Parser)]
struct Check {
    #[command(flatten)]
    args: check::Args,
}

/// A folder with `photos/`, six pictures of noise in two sizes.
fn photographs() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("photos")).expect("made");
    for seed in 0..6_u64 {
        let (width, height) = if seed % 2 == 0 { (96, 80) } else { (70, 90) };
        let mut draws = vision::Draws::new(seed, [1, 2, 3]);
        let data = (0..width * height * 3).map(|_| draws.below(256) as u8).collect();
        let picture = Rgb::new(width, height, data).expect("sized");
        let bytes = encode_png(&picture).expect("encoded");
        fs::write(folder.path().join(format!("photos/{seed}.png")), bytes).expect("written");
    }
    folder
}

fn make(folder: &Path, output: &str, more: &[&str]) -> Result<(), Failure> {
    let (photos, output) = (folder.join("photos"), folder.join(output));
    let fixed = ["synthesize", "--photos", path(&photos), "--output", path(&output), "--size", "32"];
    let usual = ["--kinds", "1,10,11", "--levels", "1,5", "--max-side", "90", "--crops-per-image", "2/1/1"];
    let words = fixed.iter().chain(&usual).chain(more);
    synthesize::run(&Synthesize::try_parse_from(words).expect("arguments").args)
}

fn checked(manifest: &Path, media: &Path, others: &[&Path]) -> Result<(), Failure> {
    let mut words = vec!["check", "--manifest", path(manifest), "--media", path(media)];
    for other in others {
        words.extend(["--other", path(other)]);
    }
    check::run(&Check::try_parse_from(words).expect("arguments").args)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("readable")
}

#[test]
fn the_bytes_depend_on_the_seed_and_not_on_the_number_of_threads() {
    let folder = photographs();
    make(folder.path(), "one", &["--threads", "1"]).expect("made");
    make(folder.path(), "three", &["--threads", "3"]).expect("made");
    make(folder.path(), "other", &["--threads", "3", "--seed", "1"]).expect("made");
    let sums = |name: &str| read(&folder.path().join(name).join("SHA256SUMS"));
    assert_eq!(sums("one"), sums("three"));
    assert_ne!(sums("one"), sums("other"));
}

#[test]
fn every_photograph_is_in_one_split_and_check_finds_nothing_wrong() {
    let folder = photographs();
    make(folder.path(), "set", &["--train-size", "48"]).expect("made");
    let set = folder.path().join("set");
    let mut parts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut pictures = 0;
    for part in ["train", "validation", "test"] {
        for line in read(&set.join(format!("{part}_mos.txt"))).lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let picture = vision::decode(&set.join("images").join(fields[1])).expect("there");
            assert_eq!(picture.width(), if part == "train" { 48 } else { 32 });
            assert!(set.join("images").join(fields[0]).is_file(), "{line}");
            parts.entry(fields[1][..3].to_owned()).or_default().insert(part);
            pictures += 1;
        }
    }
    assert_eq!(parts.len(), 6);
    assert!(parts.values().all(|parts| parts.len() == 1), "{parts:?}");
    assert_eq!(pictures, (4 * 2 + 1 + 1) * 6);
    let (train, validation, test) =
        (set.join("train.jsonl"), set.join("validation.jsonl"), set.join("test.jsonl"));
    checked(&train, &set.join("images"), &[&validation, &test]).expect("nothing wrong");
    let card = read(&set.join("README.md"));
    assert!(card.contains("proxy labels") && card.contains("5.png"), "{card}");
}

#[test]
fn what_is_there_already_stays_and_what_is_something_else_is_refused() {
    let folder = photographs();
    make(folder.path(), "set", &[]).expect("made");
    let set = folder.path().join("set");
    let before = fs::metadata(set.join("train.jsonl")).and_then(|m| m.modified()).expect("there");
    make(folder.path(), "set", &["--threads", "1"]).expect("there already");
    let after = fs::metadata(set.join("train.jsonl")).and_then(|m| m.modified()).expect("there");
    assert_eq!(before, after);
    let other = make(folder.path(), "set", &["--seed", "9"]).expect_err("another seed");
    assert!(other.exit_code == 2 && other.message.contains("other photographs or settings"), "{other}");
    fs::write(set.join("test.jsonl"), "").expect("damaged");
    let damaged = make(folder.path(), "set", &[]).expect_err("damaged");
    assert!(damaged.message.contains("test.jsonl is missing or was changed"), "{damaged}");
}

#[test]
fn an_unreadable_photograph_is_named_and_nothing_half_written_stays() {
    let folder = photographs();
    fs::write(folder.path().join("photos/7.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16]).expect("written");
    let error = make(folder.path(), "set", &[]).expect_err("7.jpg is damaged");
    assert!(error.exit_code == 2 && error.message.contains("7.jpg"), "{error}");
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("read").filter_map(Result::ok).map(|e| e.file_name()).collect();
    assert_eq!(left, ["photos"]);
}

#[test]
fn settings_that_cannot_be_are_refused_in_one_line() {
    let folder = photographs();
    for (bad, says) in [
        (["--kinds", "9"], "type 9"),
        (["--levels", "6"], "level 6"),
        (["--split", "1/2"], "TRAIN/VALIDATION/TEST"),
        (["--crops-per-image", "0"], "expected 1 to"),
        (["--train-size", "16"], "--train-size 16"),
    ] {
        let photos = folder.path().join("photos");
        let output = folder.path().join("set");
        let words = ["synthesize", "--photos", path(&photos), "--output", path(&output), "--size", "32"];
        let args = Synthesize::try_parse_from(words.iter().chain(&bad)).expect("arguments").args;
        let error = synthesize::run(&args).expect_err(says);
        assert!(error.exit_code == 2 && error.message.contains(says), "{error}");
    }
}

#[test]
fn a_list_decides_the_split_and_verifies_the_bytes() {
    let folder = photographs();
    let list = folder.path().join("list.tsv");
    fs::write(&list, "# ours\nsplit\tpath\ntest\t0.png\ntrain\t1.png\nvalidation\t2.png\n").expect("written");
    let (root, output) = (folder.path().join("photos"), folder.path().join("set"));
    let words = |list: &Path| {
        let words =
            ["synthesize", "--photos", path(list), "--photos-root", path(&root), "--output", path(&output)];
        let more = ["--size", "32", "--kinds", "10", "--crops-per-image", "1", "--max-side", "90"];
        Synthesize::try_parse_from(words.iter().chain(&more)).expect("arguments").args
    };
    synthesize::run(&words(&list)).expect("made");
    assert!(read(&output.join("test_mos.txt")).starts_with("I01.png I01_10_01.png 4.39"));
    let wrong = folder.path().join("wrong.tsv");
    fs::write(&wrong, "path\tsha256\n0.png\t00\n").expect("written");
    fs::remove_dir_all(&output).expect("removed");
    let error = synthesize::run(&words(&wrong)).expect_err("another file");
    assert!(error.message.contains("the list says 00"), "{error}");
}

#[test]
fn check_finds_each_kind_of_fault() {
    let folder = photographs();
    make(folder.path(), "set", &[]).expect("made");
    let set = folder.path().join("set");
    let (manifest, media) = (set.join("train.jsonl"), set.join("images"));
    let good = read(&manifest);
    let lines: Vec<&str> = good.lines().collect();
    let broken = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed: Vec<String> = lines.iter().map(ToString::to_string).collect();
        change(&mut changed);
        fs::write(&manifest, changed.join("\n")).expect("written");
        checked(&manifest, &media, &[]).expect_err("a fault").message
    };
    assert!(broken(&|lines| lines.push("{".into())).contains("1 finding"));
    assert!(broken(&|lines| lines.push(lines[0].clone())).contains("2 finding"));
    assert!(broken(&|lines| lines[0] = lines[0].replacen(".png", ".bmp", 1)).contains("1 finding"));
    assert!(
        broken(&|lines| lines[0] = lines[0].replace(r#""gpt","value":"#, r#""gpt","value":9"#))
            .contains("1 finding")
    );
    fs::write(&manifest, &good).expect("written");
    let leak = checked(&manifest, &media, &[&manifest]).expect_err("the same photographs").message;
    assert!(leak.contains("4 findings"), "{leak}");
    let image = good.split(".png").next().and_then(|s| s.rsplit('"').next()).expect("an image");
    fs::write(media.join(format!("{image}.png")), b"no picture").expect("written");
    assert!(checked(&manifest, &media, &[]).expect_err("unreadable").message.contains("1 finding"));
}

#[test]
fn check_decodes_videos_and_finds_cut_off_ones_and_leaks_between_splits() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/vision/tests/fixtures/videos");
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fs::read(fixtures.join("flat.mp4")).expect("a video");
    let sound = fs::read(fixtures.join("sound.m4a")).expect("sound");
    for (name, bytes) in
        [("a.mp4", &whole[..]), ("cut.mp4", &whole[..whole.len() * 6 / 10]), ("sound.mp4", &sound)]
    {
        fs::write(folder.path().join(name), bytes).expect("written");
    }
    let turns = r#""conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": 3}]"#;
    let line = |name: &str| format!(r#"{{"id": "{name}", "video": "{name}.mp4", {turns}}}"#);
    let write = |name: &str, text: String| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        file
    };
    let good = write("good.jsonl", line("a"));
    checked(&good, folder.path(), &[]).expect("nothing wrong");
    let ready = write("ready.json", format!(r#"[{{"id": 1, "image": ["a_0.png", "a_1.png"], {turns}}}]"#));
    let leak = checked(&good, folder.path(), &[&ready]).expect_err("the same video").message;
    assert!(leak.contains("1 findings"), "{leak}");
    let bad = write("bad.jsonl", ["a", "cut", "sound", "absent"].map(line).join("\n"));
    let said = checked(&bad, folder.path(), &[]).expect_err("three faults").message;
    assert!(said.contains("3 findings in 4 entries"), "{said}");
}

/// Writes six pictures of three references and a recipe over them; `lists` are the recipe's data keys.
fn recipe(folder: &Path, lists: &str) -> std::path::PathBuf {
    let mut lines = String::new();
    for (reference, levels) in [("I01", 1..=2), ("I02", 1..=2), ("I03", 1..=2)] {
        for level in levels {
            let mut draws =
                vision::Draws::new(u64::from(level as u8), [reference.as_bytes()[2].into(), 0, 0]);
            let data = (0..12 * 12 * 3).map(|_| draws.below(256) as u8).collect();
            let picture = Rgb::new(12, 12, data).expect("sized");
            let name = format!("{reference}_01_{level:02}.png");
            fs::write(folder.join(&name), encode_png(&picture).expect("encoded")).expect("written");
            lines.push_str(&format!("{reference}.png {name} {}\n", 10 * level + 50));
        }
    }
    fs::write(folder.join("mos.txt"), lines).expect("written");
    let text = format!("run: {{ name: a, output: o }}\nmodel: {{ path: m }}\nsteps: 1\n{lists}");
    let recipe = folder.join("recipe.yaml");
    fs::write(&recipe, text.replace("FOLDER", path(folder))).expect("written");
    recipe
}

fn checked_recipe(recipe: &Path) -> Result<(), Failure> {
    check::run(&Check::try_parse_from(["check", "--recipe", path(recipe)]).expect("arguments").args)
}

const SPLIT: &str =
    "{ name: d, manifest: FOLDER/mos.txt, media: FOLDER, found_range: true, split: [1, 1, 1] }";

#[test]
fn a_recipes_lists_are_checked_as_training_would_see_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let lists = format!("data:\n  train: [{SPLIT}]\n  validation: [{SPLIT}]\n  test: [{SPLIT}]\n");
    let good = recipe(folder.path(), &lists);
    checked_recipe(&good).expect("nothing wrong");
    let unscaled = recipe(folder.path(), &lists.replace(", found_range: true", ""));
    let said = checked_recipe(&unscaled).expect_err("out of range").message;
    assert!(said.contains("6 findings in 6 entries"), "{said}");
    let whole = recipe(folder.path(), &lists.replace(", split: [1, 1, 1]", ""));
    let said = checked_recipe(&whole).expect_err("leaks").message;
    assert!(said.contains("9 findings in 18 entries"), "three references in three pairs of lists: {said}");
}

#[test]
fn a_picture_under_another_name_is_found_by_what_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let lists = format!("data:\n  train: [{SPLIT}]\n  validation: [{SPLIT}]\n  test: [{SPLIT}]\n");
    let recipe = recipe(folder.path(), &lists);
    fs::copy(folder.path().join("I01_01_01.png"), folder.path().join("I02_01_02.png")).expect("copied");
    let said = checked_recipe(&recipe).expect_err("a leak").message;
    assert!(said.contains("1 findings in 6 entries"), "{said}");
    fs::copy(folder.path().join("I01_01_01.png"), folder.path().join("I01_01_02.png")).expect("copied");
    fs::remove_file(folder.path().join("I02_01_02.png")).expect("removed");
    let said = checked_recipe(&recipe).expect_err("a repetition and a missing file").message;
    assert!(said.contains("2 findings in 6 entries"), "{said}");
    let (mos, other) = (folder.path().join("mos.txt"), folder.path().join("other.txt"));
    fs::write(&mos, "I01_01_01.png 3\n").expect("written");
    fs::write(&other, "x/I09.png 3\n").expect("written");
    fs::create_dir(folder.path().join("x")).expect("made");
    fs::copy(folder.path().join("I01_01_01.png"), folder.path().join("x/I09.png")).expect("copied");
    let said = checked(&mos, folder.path(), &[&other]).expect_err("a leak by content").message;
    assert!(said.contains("1 findings in 1 entries"), "{said}");
}
