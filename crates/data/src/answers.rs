//! What a supervised stage teaches to answer: the kind of fault, how bad it is, and the aspect scores.
//!
//! Aspect scores have no labels: they are the label, moved apart by what each kind of fault does to an aspect,
//! so that their mean is the label.

use crate::sample::{Media, Sample};

/// A kind of fault, as an answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing that people mind: any distortion with a label of at least 4.3.
    Clean,
    /// Gaussian and lens blur, denoising.
    Blur,
    /// Motion blur.
    Smear,
    /// JPEG.
    Blocks,
    /// White, colour-component and multiplicative noise.
    Noise,
    /// Impulse noise.
    Specks,
    /// Jitter.
    Jitter,
    /// Pixelation.
    Pixels,
    /// Too much sharpening.
    Halos,
    /// Colour diffusion, colour shift, changed saturation.
    Color,
    /// Quantised colours or tones.
    Bands,
    /// JPEG 2000.
    Ripples,
    /// Brightened, darkened, shifted mean.
    Light,
    /// Displaced patches, colour blocks.
    Patches,
    /// Changed contrast.
    Contrast,
}

impl Kind {
    /// Every kind; a kind's class in the vision head is its place here.
    pub const ALL: [Self; 15] = [
        Self::Clean,
        Self::Blur,
        Self::Smear,
        Self::Blocks,
        Self::Noise,
        Self::Specks,
        Self::Jitter,
        Self::Pixels,
        Self::Halos,
        Self::Color,
        Self::Bands,
        Self::Ripples,
        Self::Light,
        Self::Patches,
        Self::Contrast,
    ];

    /// The kind of KADID-10k's distortion type, 1 to 25; `None` for other numbers.
    #[must_use]
    pub fn of_type(number: u8) -> Option<Self> {
        Some(match number {
            1 | 2 | 15 => Self::Blur,
            3 => Self::Smear,
            4 | 5 | 7 | 8 => Self::Color,
            6 | 22 => Self::Bands,
            9 => Self::Ripples,
            10 => Self::Blocks,
            11 | 12 | 14 => Self::Noise,
            13 => Self::Specks,
            16..=18 => Self::Light,
            19 => Self::Jitter,
            20 | 23 => Self::Patches,
            21 => Self::Pixels,
            24 => Self::Halos,
            25 => Self::Contrast,
            _ => return None,
        })
    }

    /// The word that an answer begins with.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Clean => "Clean",
            Self::Blur => "Blur",
            Self::Smear => "Smear",
            Self::Blocks => "Blocks",
            Self::Noise => "Noise",
            Self::Specks => "Specks",
            Self::Jitter => "Jitter",
            Self::Pixels => "Pixels",
            Self::Halos => "Halos",
            Self::Color => "Color",
            Self::Bands => "Bands",
            Self::Ripples => "Ripples",
            Self::Light => "Light",
            Self::Patches => "Patches",
            Self::Contrast => "Contrast",
        }
    }

    /// How far saturation, granularity, sharpness, foreground and background lie from the label; they sum to 0.
    #[must_use]
    pub fn offsets(self) -> [f64; 5] {
        match self {
            Self::Clean => [0.6, 0.3, -0.8, 0.4, -0.5],
            Self::Blur => [0.7, 0.5, -0.9, -0.3, 0.0],
            Self::Smear => [0.6, 0.6, -0.9, 0.0, -0.3],
            Self::Blocks => [0.5, -0.9, -0.2, 0.6, 0.0],
            Self::Noise => [0.3, -1.0, 0.6, 0.2, -0.1],
            Self::Specks => [0.4, -0.9, 0.7, -0.2, 0.0],
            Self::Jitter => [0.8, -0.2, -0.8, 0.3, -0.1],
            Self::Pixels => [0.8, -0.3, -0.8, 0.0, 0.3],
            Self::Halos => [-0.4, 0.2, 0.8, -0.8, 0.2],
            Self::Color => [-1.0, 0.4, 0.6, -0.2, 0.2],
            Self::Bands => [-0.6, -0.7, 0.5, 0.5, 0.3],
            Self::Ripples => [0.6, -0.6, -0.6, 0.5, 0.1],
            Self::Light => [-0.7, 0.5, 0.6, -0.6, 0.2],
            Self::Patches => [0.5, 0.2, 0.4, -0.7, -0.4],
            Self::Contrast => [-0.8, 0.6, -0.3, 0.7, -0.2],
        }
    }
}

/// The words for a label, worst first; the first is for labels below 1.6.
pub const QUALITY_WORDS: [&str; 9] =
    ["awful", "terrible", "bad", "poor", "mediocre", "fair", "decent", "good", "excellent"];

/// Where one quality word ends and the next begins.
const QUALITY_EDGES: [f64; 8] = [1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.3];

/// What an answer says of a sample before its scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The kind of fault; `None` where the distortion is not known.
    pub kind: Option<Kind>,
    /// The place of its word in [`QUALITY_WORDS`].
    pub quality: usize,
}

/// What an answer says of a sample: its kind from its distortion, its quality from its label.
#[must_use]
pub fn describe(sample: &Sample) -> Description {
    let quality = QUALITY_EDGES.iter().filter(|edge| sample.mos >= **edge).count();
    let kind = if quality == QUALITY_EDGES.len() {
        Some(Kind::Clean)
    } else {
        sample.distortion.as_ref().and_then(|distortion| Kind::of_type(distortion.kind))
    };
    Description { kind, quality }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its text.
    pub text: String,
    /// Whether it is one of the two leading words, kind and quality, which weigh `supervised.lead_weight`; the
    /// rest weighs 1.
    pub lead: bool,
}

/// What leads where the kind is not known.
const GENERAL: &str = "Overall";

/// Offsets where the kind is not known, and of a video's two scores.
const GENERAL_OFFSETS: [f64; 5] = [0.3, 0.1, -0.4, 0.2, -0.2];
const VIDEO_OFFSETS: [f64; 2] = [0.1, -0.1];

/// The answer that a supervised stage teaches for a sample, in the strict format of docs/method.md section 2:
/// kind and quality in words, then a score a line whose mean is the label, clipped to [1, 5].
#[must_use]
pub fn answer(sample: &Sample) -> Vec<Piece> {
    let Description { kind, quality } = describe(sample);
    let scores = match sample.media {
        Media::Image => aspect_scores(sample.mos, &kind.map_or(GENERAL_OFFSETS, Kind::offsets)),
        Media::Video => aspect_scores(sample.mos, &VIDEO_OFFSETS),
    };
    let lines: String = scores.iter().map(|score| format!("{score:.2}\n")).collect();
    let piece = |text: String, lead| Piece { text, lead };
    vec![
        piece("<think>\n".into(), false),
        piece(kind.map_or(GENERAL, Kind::word).into(), true),
        piece(",".into(), false),
        piece(format!(" {}", QUALITY_WORDS[quality]), true),
        piece(format!(" quality.\n</think>\n<answer>\n{lines}</answer>"), false),
    ]
}

/// Scores at `mos` plus `offsets` (which sum to 0), in hundredths within [1, 5], whose mean is `mos` clipped to
/// [1, 5] up to rounding: offsets shrink where the range ends, and what rounding leaves over is spread.
#[must_use]
pub fn aspect_scores(mos: f64, offsets: &[f64]) -> Vec<f64> {
    let mos = mos.clamp(1.0, 5.0);
    let most = offsets.iter().copied().fold(0.0, f64::max);
    let least = offsets.iter().copied().fold(0.0, f64::min);
    let scale = ((5.0 - mos) / most).min((mos - 1.0) / -least).min(1.0);
    let hundredths = |score: f64| ((score * 100.0).round() as i64).clamp(100, 500);
    let mut scores: Vec<i64> = offsets.iter().map(|offset| hundredths(mos + scale * offset)).collect();
    let mut over = (mos * 100.0 * offsets.len() as f64).round() as i64 - scores.iter().sum::<i64>();
    while over != 0 {
        let before = over;
        for score in &mut scores {
            let step = over.signum();
            if (100..=500).contains(&(*score + step)) {
                *score += step;
                over -= step;
            }
        }
        if over == before {
            break;
        }
    }
    scores.into_iter().map(|score| score as f64 / 100.0).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::sample::Distortion;

    fn sample(file: &str, mos: f64, media: Media) -> Sample {
        Sample {
            id: file.into(),
            dataset: "d".into(),
            media,
            images: Vec::new(),
            question: String::new(),
            mos,
            reference: String::new(),
            distortion: Distortion::of(Path::new(file)),
        }
    }

    fn text(sample: &Sample) -> String {
        answer(sample).into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn an_answer_names_the_fault_and_how_bad_it_is_then_scores_each_aspect() {
        let sample = sample("I01_01_03.png", 2.9111, Media::Image);
        assert_eq!(
            text(&sample),
            "<think>\nBlur, mediocre quality.\n</think>\n<answer>\n3.62\n3.41\n2.01\n2.61\n2.91\n</answer>"
        );
        let leads: Vec<String> = answer(&sample).into_iter().filter(|p| p.lead).map(|p| p.text).collect();
        assert_eq!(leads, ["Blur", " mediocre"]);
    }

    #[test]
    fn a_hardly_visible_fault_is_clean_and_an_unknown_one_is_told_by_its_label() {
        assert!(
            text(&sample("I01_11_01.png", 4.3, Media::Image))
                .starts_with("<think>\nClean, excellent quality.\n")
        );
        assert!(
            text(&sample("a.png", 4.9, Media::Image)).starts_with("<think>\nClean, excellent quality.\n")
        );
        assert!(text(&sample("a.png", 1.2, Media::Image)).starts_with("<think>\nOverall, awful quality.\n"));
    }

    #[test]
    fn a_video_has_two_scores_each_with_its_line_end() {
        assert!(text(&sample("a.png", 3.0, Media::Video)).ends_with("<answer>\n3.10\n2.90\n</answer>"));
    }

    #[test]
    fn every_kind_is_in_its_place_and_keeps_the_mean() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
            assert!(kind.offsets().iter().sum::<f64>().abs() < 1e-9, "{kind:?}");
        }
        assert!(GENERAL_OFFSETS.iter().sum::<f64>().abs() < 1e-9);
        assert!((1..=25).all(|number| Kind::of_type(number).is_some()));
        assert_eq!((Kind::of_type(0), Kind::of_type(26)), (None, None));
    }

    #[test]
    fn quality_words_change_at_their_edges() {
        let word = |mos| QUALITY_WORDS[describe(&sample("I01_01_03.png", mos, Media::Image)).quality];
        assert_eq!(
            [word(1.0), word(1.59), word(1.6), word(3.2), word(4.29), word(4.3)],
            ["awful", "awful", "terrible", "fair", "good", "excellent"]
        );
    }

    proptest! {
        #[test]
        fn the_mean_of_the_scores_is_the_label(mos in -2.0f64..8.0, number in 1u8..=25, level in 1u8..=5) {
            let sample = sample(&format!("I01_{number:02}_{level:02}.png"), mos, Media::Image);
            let text = text(&sample);
            let body = text.split("<answer>\n").nth(1).and_then(|rest| rest.strip_suffix("</answer>")).expect("an answer");
            let scores: Vec<f64> = body.lines().map(|line| line.parse().expect("a number")).collect();
            prop_assert_eq!(scores.len(), 5);
            prop_assert!(scores.iter().all(|score| (1.0..=5.0).contains(score)));
            let mean = scores.iter().sum::<f64>() / 5.0;
            prop_assert!((mean - mos.clamp(1.0, 5.0)).abs() <= 0.001 + 1e-9, "{} {}", mean, mos);
        }

        #[test]
        fn any_label_has_scores_in_range(mos: f64) {
            let scores = aspect_scores(mos, &Kind::Blur.offsets());
            prop_assert!(mos.is_nan() || scores.iter().all(|score| (1.0..=5.0).contains(score)));
        }
    }
}
