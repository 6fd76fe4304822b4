//! The user's turn of a sample: its pictures, and its words (docs/method.md section 5).

use model::Part;

/// Pictures first, then the text.
#[must_use]
pub fn of_pictures(pictures: usize, text: &str) -> Vec<Part> {
    let mut parts = vec![Part::Image; pictures];
    parts.push(words(text));
    parts
}

/// A video's pictures, the mosaic and then single frames, each after its heading; the text last.
#[must_use]
pub fn of_video(pictures: usize, text: &str) -> Vec<Part> {
    let heading = |number| match number {
        0 => "Global multiframe picture:".to_owned(),
        _ => format!("Local single frame picture {number}:"),
    };
    let mut parts: Vec<Part> =
        (0..pictures).flat_map(|number| [words(&heading(number)), Part::Image]).collect();
    parts.push(words(text));
    parts
}

/// A video itself first, then the text.
#[must_use]
pub fn of_footage(text: &str) -> Vec<Part> {
    vec![Part::Video, words(text)]
}

fn words(text: &str) -> Part {
    Part::Text { text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{of_pictures, of_video};

    #[test]
    fn a_videos_pictures_have_headings_and_its_question_comes_last() {
        let shown = |parts: Vec<model::Part>| -> Vec<String> {
            let shown = |part| match part {
                model::Part::Text { text } => text,
                other => format!("{other:?}"),
            };
            parts.into_iter().map(shown).collect()
        };
        assert_eq!(
            shown(of_video(3, "How good?")),
            [
                "Global multiframe picture:",
                "Image",
                "Local single frame picture 1:",
                "Image",
                "Local single frame picture 2:",
                "Image",
                "How good?"
            ]
        );
        assert_eq!(shown(of_pictures(2, "How good?")), ["Image", "Image", "How good?"]);
    }
}
