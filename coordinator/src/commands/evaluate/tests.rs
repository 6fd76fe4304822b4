use std::fmt::Write as _;

use eval::{Bootstrap, parse_labels, parse_predictions};

use super::output::{Fitted, Output};
use super::set::{Predicted, Set};

fn set(labels: &str, predictions: &[&str], against: &[&str]) -> Set {
    let labels = parse_labels(labels, "mos.txt").expect("labels");
    let read = |texts: &[&str]| {
        let parsed = |text: &&str| parse_predictions(text, "scores.txt").expect("predictions");
        Predicted::of(&labels, &texts.iter().map(parsed).collect::<Vec<_>>())
    };
    let (own, other) = (read(predictions), (!against.is_empty()).then(|| read(against)));
    Set::of("mos".into(), labels, own, other.as_ref())
}

#[test]
fn the_json_has_the_promised_keys_and_null_for_what_is_undefined() {
    let all = set("v/a.mp4, 1\nv/b.mp4, 2\nv/c.mp4, 4\n", &["a_0.png 1.5\nv/b.mp4 2.5\n"], &[]);
    let note = all.missing_note();
    let json = serde_json::to_value(Output::of(&[all], None)).expect("JSON");
    assert_eq!((&json["srcc"], &json["plcc"], &json["krcc"]), (&1.0.into(), &1.0.into(), &1.0.into()));
    assert_eq!((&json["rmse"], &json["matched"], &json["missing"]), (&0.5.into(), &2.into(), &1.into()));
    assert_eq!(note.as_deref(), Some("1 of 3 labels have no prediction, first \"v/c.mp4\""));
    let constant = set("a.png 1\nb.png 2\n", &["a.png 3\nb.png 3\n"], &[]);
    assert_eq!(constant.missing_note(), None);
    let constant = Output::of(&[constant], Some(&Bootstrap::default()));
    assert!(serde_json::to_value(&constant).expect("JSON")["srcc"].is_null());
    assert!(constant.table().contains("srcc            undefined"), "{}", constant.table());
}

#[test]
fn an_ambiguous_base_name_is_told() {
    let all = set("a/1.png 1\nb/1.png 2\nc.png 3\n", &["1.png 3\nc.png 3\n"], &[]);
    assert_eq!((all.items.len(), all.missing()), (1, 2));
    let note = all.missing_note().expect("a note");
    assert!(note.contains("2 of them have a base name that is not unique, first \"a/1.png\""), "{note}");
}

#[test]
fn several_data_sets_count_alike_in_the_mean_whatever_their_size() {
    let small = set("a.png 1\nb.png 2\n", &["a.png 1\nb.png 2\n"], &[]);
    let mut large =
        set("a.png 1\nb.png 2\nc.png 3\nd.png 4\n", &["a.png 4\nb.png 3\nc.png 2\nd.png 1\n"], &[]);
    large.name = "large".into();
    let output = Output::of(&[small, large], None);
    assert_eq!((output.srcc, output.matched, output.sets.len()), (Some(0.0), 6, 2));
    assert_eq!(output.fit, Fitted::Mean { plcc: None, failed_sets: 2 });
    assert!(output.table().contains("\nlarge\nsrcc            -1.0000"), "{}", output.table());
}

#[test]
fn several_predictions_of_a_picture_are_averaged_and_their_spread_is_told() {
    let first = "a.png 1\nb.png 2\nc.png 3\n";
    let all = set("a.png 1\nb.png 2\nc.png 3\n", &[first, "a.png 3\nb.png 4\n"], &[]);
    assert_eq!(all.pairs().iter().map(|p| p.prediction).collect::<Vec<_>>(), [2.0, 3.0]);
    assert_eq!((all.missing(), all.spread), (1, Some(1.0)));
}

#[test]
fn types_levels_and_references_have_numbers_of_their_own() {
    let (mut labels, mut scores) = (String::new(), String::new());
    for reference in 1..=2 {
        for level in 1..=5 {
            writeln!(labels, "I{reference:02}_10_{level:02}.png {}", 6 - level).expect("a string");
            writeln!(scores, "I{reference:02}_10_{level:02}.png {}", 6 - level + reference)
                .expect("a string");
        }
    }
    let output = Output::of(&[set(&labels, &[&scores], &[])], Some(&Bootstrap::default()));
    let breakdown = output.breakdown.as_ref().expect("KADID's names");
    assert_eq!((breakdown.within_reference.references, breakdown.within_reference.srcc), (2, Some(1.0)));
    assert!(breakdown.kinds[&10].srcc < 1.0 && breakdown.levels.is_empty(), "{breakdown:?}");
    let interval = output.srcc_interval.expect("an interval");
    assert!(interval.low <= output.srcc.expect("srcc") && interval.high <= 1.0);
    assert!(output.table().contains("over 2 references"));
}

#[test]
fn two_runs_are_compared_over_the_samples_that_both_predict() {
    let labels: String = (0..40).map(|i| format!("{i}.png {i}\n")).collect();
    let good: String = (0..40).map(|i| format!("{i}.png {}\n", i + i % 3)).collect();
    let bad: String = (1..40).map(|i| format!("{i}.png {}\n", (i * 17) % 40)).collect();
    let output = Output::of(&[set(&labels, &[&good], &[&bad])], Some(&Bootstrap::default()));
    let against = output.against.expect("a comparison");
    let srcc = against.srcc.expect("srcc");
    let interval = srcc.interval.expect("an interval");
    assert_eq!(against.samples, 39);
    assert!(srcc.difference > 0.5 && interval.low > 0.0 && interval.low < srcc.difference, "{against:?}");
    let same = Output::of(&[set(&labels, &[&good], &[&good])], Some(&Bootstrap::default()));
    let none = same.against.and_then(|a| a.srcc).and_then(|d| d.interval).expect("an interval");
    assert_eq!((none.low, none.high), (0.0, 0.0));
}
