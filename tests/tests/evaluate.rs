//! `coordinator evaluate` beside scipy, and on every form of label file that the published project ships.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::{fail, script, succeed, text};
use vision::Draws;

fn evaluated(labels: &Path, predictions: &Path) -> Value {
    let arguments = ["evaluate", "--labels", text(labels), "--predictions", text(predictions), "--json"];
    serde_json::from_str(&succeed("coordinator", &arguments)).unwrap()
}

/// Predictions and labels that go together, both with many ties.
fn pairs(count: usize, seed: u64, places: i32) -> Vec<(f64, f64)> {
    let mut draws = Draws::new(seed, [0; 3]);
    let mut unit = || f64::from(draws.below(1 << 30)) / f64::from(1 << 30);
    let round = |v: f64| (v * 10f64.powi(places)).round() / 10f64.powi(places);
    let mut pair = || {
        let quality = 1.0 + 4.0 * unit();
        let prediction = 2.0 + 2.0 / (1.0 + (-2.0 * (quality - 3.0)).exp()) + 0.8 * (unit() - 0.5);
        (round(prediction), round(quality + 0.6 * (unit() - 0.5)))
    };
    (0..count).map(|_| pair()).collect()
}

#[test]
fn ten_thousand_pairs_with_ties_agree_with_scipy_within_a_billionth() {
    let folder = tempfile::tempdir().unwrap();
    for (seed, places) in [(1, 1), (2, 2), (3, 6)] {
        let (mut labels, mut predictions, mut both) = (String::new(), String::new(), String::new());
        for (i, (prediction, label)) in pairs(10_000, seed, places).into_iter().enumerate() {
            writeln!(labels, "{i}.png {label}").unwrap();
            writeln!(predictions, "{i}.png {prediction}").unwrap();
            writeln!(both, "{prediction} {label}").unwrap();
        }
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let ours = evaluated(&write("labels.txt", &labels), &write("scores.txt", &predictions));
        let theirs: Value =
            serde_json::from_str(&script("correlations.py", &[text(&write("pairs.txt", &both))])).unwrap();
        for key in ["srcc", "plcc", "krcc", "rmse"] {
            let (ours, theirs) = (ours[key].as_f64().unwrap(), theirs[key].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-9, "{places} places: {key} is {ours}, scipy's {theirs}");
        }
        let (ours, theirs) = (ours["fit"]["plcc"].as_f64().unwrap(), theirs["fitted"].as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-6, "{places} places: fitted {ours}, scipy's {theirs}");
    }
}

#[test]
fn every_form_of_label_file_meets_predictions_in_published_form() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let entry = |file: &str, mos: &str| {
        format!(
            r#"{{"id": 1, "dataset_name": "D", "image": [{file}], "conversations": [{{"from": "human", "value": "q"}}, {{"from": "gpt", "value": {mos}}}]}}"#
        )
    };
    let [first, second, third] =
        [("a", "1.5"), ("b", "2.5"), ("c", "4.25")].map(|(n, mos)| entry(&format!("\"s/{n}.png\""), mos));
    let video = |name: &str, mos: &str| entry(&format!("\"v/{name}_0.png\", \"v/{name}_1.png\""), mos);
    let pictures = "/data/set/a.png 1\n/data/set/b.png 3.0\n/data/set/c.png 3.5\n";
    let frames = "frames/a_0.png 1\nframes/b_0.png 3.0\nframes/c_0.png 3.5\n";
    for (name, labels, predictions) in [
        ("dis mos", "a.png 1.5\nb.png 2.5\nc.png 4.25\n".to_owned(), pictures),
        ("dis mos std", "a.png 1.5 0.4\nb.png 2.5 17.1\nc.png 4.25 1\n".into(), pictures),
        ("ref dis mos", "r.png a.png 1.5\nr.png b.png 2.5\n0.png c.png 4.25\n".into(), pictures),
        (
            "ref dis mos std",
            "r.png a.png 1.5 0.7\nr.png b.png 2.5 0.9\nr.png c.png 4.25 0.1\n".into(),
            pictures,
        ),
        ("path, mos", "v/a.mp4, 1.5\nv/b.mp4, 2.5\nv/c.mp4, 4.25\n".into(), frames),
        ("path,mos", "v/a.mp4,1.5\r\nv/b.mp4,2.5\r\nv/c.mp4,4.25\r\n".into(), frames),
        ("JSON lines", format!("{first}\n{second}\n{third}\n"), pictures),
        (
            "an array of videos",
            format!("[{}, {}, {}]", video("a", "1.5"), video("b", "2.5"), video("c", "4.25")),
            "v/a.mp4 1\nv/b.mp4 3.0\nv/c.mp4 3.5\n",
        ),
    ] {
        let found = evaluated(&write("labels", &labels), &write("scores", predictions));
        assert_eq!((&found["matched"], &found["missing"]), (&3.into(), &0.into()), "{name}");
        assert_eq!((found["srcc"].as_f64(), found["krcc"].as_f64()), (Some(1.0), Some(1.0)), "{name}");
        let rmse = ((0.25 + 0.25 + 0.5625) / 3.0f64).sqrt();
        assert!((found["rmse"].as_f64().unwrap() - rmse).abs() < 1e-12, "{name}");
        assert!(found["fit"]["failed"].as_str().unwrap().contains("too few"), "{name}: {found}");
    }
    let twice = write("labels", &format!("{first}\n{first}\n"));
    let scores = write("scores", pictures);
    let arguments = ["evaluate", "--labels", text(&twice), "--predictions", text(&scores)];
    let said = fail("coordinator", &arguments, 2);
    assert!(said.contains("\"s/a.png\" stands in it twice"), "{said}");
}
