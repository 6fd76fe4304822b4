//! The files that name the pictures: docs/method.md section 7.

use data::IMAGE_QUESTION;
use serde_json::json;
use vision::Level;

/// One distorted picture.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) reference: String,
    pub(super) image: String,
    pub(super) level: &'static Level,
}

/// A JSON line of the published training format; `gpt` says the score normalised to [1, 5].
pub(super) fn line(id: usize, data_set: &str, entry: &Entry) -> String {
    let value = json!({
        "id": id,
        "dataset_name": data_set,
        "image": [entry.image],
        "conversations": [
            { "from": "human", "value": IMAGE_QUESTION },
            { "from": "gpt", "value": entry.level.normalised_mos() },
        ],
    });
    value.to_string()
}

/// `reference distorted mos std`, both numbers on the scale normalised to [1, 5].
pub(super) fn mos_line(entry: &Entry) -> String {
    let scale = 4.0 / (Level::MOS_MAX - Level::MOS_MIN);
    let Entry { reference, image, level } = entry;
    format!("{reference} {image} {} {}", level.normalised_mos(), level.std * scale)
}

#[cfg(test)]
mod tests {
    use vision::Distortion;

    use super::{Entry, line, mos_line};

    #[test]
    fn a_line_is_the_published_one() {
        let level = Distortion::Jpeg.level(3).expect("level 3");
        let entry = Entry { reference: "I01.png".into(), image: "I01_10_03.png".into(), level };
        let line = line(7, "set", &entry);
        let start = r#"{"id":7,"dataset_name":"set","image":["I01_10_03.png"],"conversations":[{"from":"human","value":"You are doing"#;
        assert!(line.starts_with(start), "{line}");
        // (3.8658 - 1) / 3.93 * 4 + 1
        assert!(line.ends_with(r#"{"from":"gpt","value":3.916844783715013}]}"#), "{line}");
        assert!(mos_line(&entry).starts_with("I01.png I01_10_03.png 3.916844783715013 0.31"));
    }
}
