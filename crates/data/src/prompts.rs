//! What a sample is asked (docs/method.md section 5).

use settings::VideoInput;

use crate::draws::Draws;
use crate::sample::{Media, Sample};

/// The published question about a picture.
pub const IMAGE_QUESTION: &str = "You are doing the image quality assessment task. Please describe and rate the \
picture in five parts: saturation rating; granularity rating; sharpness rating; foreground rating; and background \
rating. All ratings should be floats between 1 and 5, rounded to two decimals, where 1 represents very poor quality \
and 5 represents excellent quality.";

/// The question about a video.
pub const VIDEO_QUESTION: &str = "You are rating the quality of a video. The first picture shows frames from its whole \
length, row by row: compare them and describe what changes over time. The other pictures are single frames: describe \
their saturation, granularity, sharpness, foreground and background. Then give two ratings, each a float between 1 \
(very poor) and 5 (excellent), rounded to two decimals: the global one for the whole video over time, and the local \
one for its single frames.";

/// The question about a video that the model is shown itself.
pub const NATIVE_VIDEO_QUESTION: &str = "You are rating the quality of a video. Watch it from its beginning to its end \
and describe what changes over time. Then describe the saturation, granularity, sharpness, foreground and background \
of its frames. Then give two ratings, each a float between 1 (very poor) and 5 (excellent), rounded to two decimals: \
the global one for the whole video over time, and the local one for its single frames.";

/// What is appended to every question.
pub const FORMAT_REQUEST: &str = " First output the thinking process in <think> </think> tags and then output the \
final answer with only one score in <answer> </answer> tags.";

/// In a recipe's `data.prompts`: stands for the paraphrases below.
pub const EXPLORATION: &str = "@exploration";

/// Questions about a picture for stages that explore, in other words than the published one.
pub const IMAGE_PARAPHRASES: [&str; 5] = [
    "Judge the quality of this picture. Give five ratings, each between 1 and 5 with two decimals, 1 for very poor and \
5 for excellent: saturation, granularity, sharpness, foreground, background.",
    "Look at the image and assess how good it is. Rate the saturation, the granularity, the sharpness, the foreground \
and the background as floats between 1 (very poor) and 5 (excellent), rounded to two decimals.",
    "Please assess the visual quality of the picture in five aspects, in this order: saturation, granularity, \
sharpness, foreground, background. Every rating is a float between 1 and 5 with two decimals; 5 is excellent.",
    "How good is this image? Describe what you see, then rate its saturation, granularity, sharpness, foreground and \
background, each with a number between 1 and 5, rounded to two decimals, where 5 represents excellent quality.",
    "You are rating pictures. Describe the quality of the image, then give one rating a line for saturation, \
granularity, sharpness, foreground and background, between 1 (very poor) and 5 (excellent), with two decimals.",
];

/// When a question is asked in training. A step that is repeated asks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasion {
    /// The run's seed.
    pub seed: u64,
    /// The stage's position in the run.
    pub stage: u64,
    /// The step within the stage, from 1.
    pub step: u64,
}

/// The text of a sample's turn in training: a question, then [`FORMAT_REQUEST`].
///
/// Without `prompts` (the recipe's `data.prompts`) the question is the manifest's own, or where it has none
/// the published one for pictures and ours for videos, by how they are shown. With them it is drawn by occasion and
/// sample id.
#[must_use]
pub fn prompt(sample: &Sample, prompts: &[String], video: VideoInput, occasion: Occasion) -> String {
    let own = own_question(sample.media, video);
    let choices: Vec<&str> = prompts.iter().flat_map(|prompt| expand(prompt, sample.media, own)).collect();
    if choices.is_empty() {
        return evaluation_prompt(sample, video);
    }
    let Occasion { seed, stage, step } = occasion;
    let drawn = Draws::new("prompt", &[seed, stage, step], &sample.id).below(choices.len());
    format!("{}{FORMAT_REQUEST}", choices[drawn])
}

/// The text of a sample's turn in evaluation, whatever the stage trains with: the manifest's own question, or
/// where it has none the one for its media, then [`FORMAT_REQUEST`].
#[must_use]
pub fn evaluation_prompt(sample: &Sample, video: VideoInput) -> String {
    let question = match sample.question.as_str() {
        "" => own_question(sample.media, video),
        given => given,
    };
    format!("{question}{FORMAT_REQUEST}")
}

fn own_question(media: Media, video: VideoInput) -> &'static str {
    match (media, video) {
        (Media::Image, _) => IMAGE_QUESTION,
        (Media::Video, VideoInput::Pictures) => VIDEO_QUESTION,
        (Media::Video, VideoInput::Native) => NATIVE_VIDEO_QUESTION,
    }
}

fn expand<'a>(prompt: &'a str, media: Media, own: &'a str) -> Vec<&'a str> {
    match (prompt, media) {
        (EXPLORATION, Media::Image) => IMAGE_PARAPHRASES.to_vec(),
        (EXPLORATION, Media::Video) => vec![own],
        _ => vec![prompt],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sample(id: &str, media: Media, question: &str) -> Sample {
        Sample {
            id: id.into(),
            dataset: "d".into(),
            media,
            images: Vec::new(),
            question: question.into(),
            mos: 3.0,
            reference: String::new(),
            distortion: None,
        }
    }

    const PICTURES: VideoInput = VideoInput::Pictures;

    fn ask(sample: &Sample, prompts: &[String], occasion: Occasion) -> String {
        prompt(sample, prompts, PICTURES, occasion)
    }

    fn at(step: u64) -> Occasion {
        Occasion { seed: 1, stage: 0, step }
    }

    #[test]
    fn a_manifests_question_is_asked_unless_the_recipe_gives_others() {
        let own = sample("a", Media::Image, "How is it?");
        assert_eq!(ask(&own, &[], at(1)), format!("How is it?{FORMAT_REQUEST}"));
        assert_eq!(ask(&own, &["Rate.".into()], at(1)), format!("Rate.{FORMAT_REQUEST}"));
        assert_eq!(evaluation_prompt(&own, PICTURES), format!("How is it?{FORMAT_REQUEST}"));
    }

    #[test]
    fn a_sample_without_a_question_is_asked_its_medias() {
        assert!(
            ask(&sample("a", Media::Image, ""), &[], at(1)).starts_with("You are doing the image quality")
        );
        let video = sample("a", Media::Video, "");
        for prompts in [vec![], vec![EXPLORATION.to_string()]] {
            assert!(ask(&video, &prompts, at(1)).contains("The first picture shows frames"));
            let native = prompt(&video, &prompts, VideoInput::Native, at(1));
            assert!(native.contains("two ratings") && !native.contains("picture"), "{native}");
        }
    }

    #[test]
    fn the_draw_depends_on_sample_and_step_and_reaches_every_paraphrase() {
        let prompts = [EXPLORATION.to_string(), "Sixth.".to_string()];
        let ask = |id: &str, step| ask(&sample(id, Media::Image, "own"), &prompts, at(step));
        assert_eq!(ask("a", 1), ask("a", 1));
        let over_steps: BTreeSet<String> = (0..100).map(|step| ask("a", step)).collect();
        let over_samples: BTreeSet<String> = (0..100).map(|i| ask(&i.to_string(), 1)).collect();
        assert_eq!((over_steps.len(), over_samples.len()), (6, 6));
    }

    #[test]
    fn every_paraphrase_names_the_aspects_in_order_and_the_range() {
        let aspects = ["saturation", "granularity", "sharpness", "foreground", "background"];
        for text in
            IMAGE_PARAPHRASES.into_iter().chain([IMAGE_QUESTION, VIDEO_QUESTION, NATIVE_VIDEO_QUESTION])
        {
            let places: Vec<_> = aspects.iter().map(|aspect| text.find(aspect)).collect();
            assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
            assert!(text.contains('1') && text.contains('5') && text.contains("two decimals"), "{text}");
            assert!(!text.contains("  ") && !text.contains('\n'), "{text}");
        }
    }
}
