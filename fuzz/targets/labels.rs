//! Label and prediction files: refused with their place, or finite numbers under paths that differ.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match eval::parse_labels(text, "mos.txt") {
        Err(error) => assert!(error.to_string().starts_with("mos.txt:")),
        Ok(labels) => {
            assert!(labels.iter().all(|label| label.mos.is_finite() && !label.path.is_empty()));
            let paths: HashSet<&str> = labels.iter().map(|label| label.path.as_str()).collect();
            assert_eq!(paths.len(), labels.len());
        }
    }
    if let Ok(predictions) = eval::parse_predictions(text, "scores.txt") {
        assert!(predictions.iter().all(|prediction| prediction.score.is_finite()));
    }
});
