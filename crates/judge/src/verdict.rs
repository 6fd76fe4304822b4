//! From answers to a score: the published rule, and never a made-up one.

use reward::{Media, Scores};
use serde::{Deserialize, Serialize};

/// Which of an answer's numbers is its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The mean of all aspects.
    Mean,
    /// The first aspect.
    First,
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verdict {
    /// It was judged.
    Scored {
        /// Its name.
        path: String,
        /// The mean over its responses that hold a number.
        score: f64,
        /// Of each response, the aspects; empty where it holds no number, or one beyond all sense `[responses]`.
        aspects: Vec<Vec<f64>>,
        /// The responses' texts `[responses]`.
        texts: Vec<String>,
    },
    /// It was not, and why.
    Failed {
        /// Its name.
        path: String,
        /// A sentence.
        error: String,
    },
}

impl Verdict {
    /// The verdict over an item's answers.
    #[must_use]
    pub fn of(path: String, texts: Vec<String>, media: Media, rule: Rule) -> Self {
        let read = |text: &String| {
            let scores = Scores::read(text, media);
            if scores.found > 0 && scores.values.iter().all(|v| v.is_finite()) {
                scores.values
            } else {
                Vec::new()
            }
        };
        let aspects: Vec<Vec<f64>> = texts.iter().map(read).collect();
        let score = |text: &String, values: &Vec<f64>| match rule {
            Rule::First => values[0],
            Rule::Mean => f64::from(Scores::read(text, media).mean()),
        };
        let numbered: Vec<f64> = texts
            .iter()
            .zip(&aspects)
            .filter(|(_, values)| !values.is_empty())
            .map(|(text, values)| score(text, values))
            .collect();
        if numbered.is_empty() {
            let first =
                texts.first().map(|text| text.chars().take(80).collect::<String>()).unwrap_or_default();
            return Self::Failed { path, error: format!("the answer holds no usable number: {first:?}") };
        }
        let score = numbered.iter().sum::<f64>() / numbered.len() as f64;
        if !score.is_finite() {
            return Self::Failed { path, error: format!("the answer's numbers are too large: {aspects:?}") };
        }
        Self::Scored { path, score: (score * 1e6).round() / 1e6, aspects, texts }
    }

    /// The item's name.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Scored { path, .. } | Self::Failed { path, .. } => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rule, Verdict};
    use reward::Media;

    fn score(texts: &[&str], media: Media, rule: Rule) -> Option<f64> {
        match Verdict::of("a".into(), texts.iter().map(|&t| t.into()).collect(), media, rule) {
            Verdict::Scored { score, .. } => Some(score),
            Verdict::Failed { .. } => None,
        }
    }

    #[test]
    fn the_score_is_the_mean_of_the_last_numbers_or_the_first_of_them() {
        let text = "<think>9</think><answer>\n1\n2\n3\n4\n5.5\n</answer>";
        assert_eq!(score(&[text], Media::Image, Rule::Mean), Some(3.1));
        assert_eq!(score(&[text], Media::Image, Rule::First), Some(1.0));
        assert_eq!(score(&["2 and 4"], Media::Video, Rule::Mean), Some(3.0));
        assert_eq!(score(&["2 and 4", "no", "4 4"], Media::Video, Rule::Mean), Some(3.5));
    }

    #[test]
    fn without_a_number_there_is_no_score() {
        assert_eq!(score(&["I cannot say"], Media::Image, Rule::Mean), None);
        assert_eq!(score(&[&"9".repeat(400)], Media::Image, Rule::Mean), None);
        let failed = Verdict::of("a".into(), vec!["so\nso".into()], Media::Image, Rule::Mean);
        let expected = Verdict::Failed {
            path: "a".into(),
            error: "the answer holds no usable number: \"so\\nso\"".into(),
        };
        assert_eq!(failed, expected);
    }
}
