//! A manifest: refused with its place, or samples whose pictures stay in the media folder and whose ids differ.
#![no_main]

use std::collections::HashSet;
use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match data::parse_manifest("m.jsonl", bytes, Path::new("/media"), "set") {
        Err(error) => assert!(error.to_string().starts_with("m.jsonl:")),
        Ok(samples) => {
            let ids: HashSet<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
            assert_eq!(ids.len(), samples.len());
            for sample in &samples {
                assert!(sample.mos.is_finite() && !sample.images.is_empty());
                for image in &sample.images {
                    assert!(
                        image.starts_with("/media") && !image.components().any(|c| c == Component::ParentDir)
                    );
                }
            }
        }
    }
});
