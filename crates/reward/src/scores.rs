//! From a response's text to its scores and their mean.

use std::collections::VecDeque;
use std::sync::LazyLock;

use regex::Regex;

use crate::Media;
use crate::counts::Counts;
use crate::text::{number, pattern};

/// The score of a response without any number.
pub const NO_NUMBER: f64 = 3.0;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"[-+]?\d*\.\d+|\d+"));

/// The scores of one response (v in docs/method.md section 2).
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The last n numbers of the text, padded with the first, or n times [`NO_NUMBER`] `[n]`.
    /// A number beyond f64's range is infinite.
    pub values: Vec<f64>,
    /// Numbers that the text gave, at most n.
    pub found: usize,
}

impl Scores {
    /// Reads the whole text, untrimmed.
    #[must_use]
    pub fn read(text: &str, media: Media) -> Self {
        let aspects = media.aspects();
        let mut last = VecDeque::with_capacity(aspects);
        for found in NUMBER.find_iter(text) {
            if last.len() == aspects {
                last.pop_front();
            }
            last.push_back(found.as_str());
        }
        let mut values: Vec<f64> = last.into_iter().map(number).collect();
        let found = values.len();
        values.resize(aspects, values.first().copied().unwrap_or(NO_NUMBER));
        Self { values, found }
    }

    /// s, the mean in f32 at every operation, in the published library's order of addition.
    ///
    /// Infinite beyond f32's range; NaN only if infinities of both signs meet.
    #[must_use]
    pub fn mean(&self) -> f32 {
        let v: Vec<f32> = self.values.iter().map(|&v| v as f32).collect();
        match v[..] {
            [a, b, c, d, e] => ((((a + e) + b) + c) + d) / 5.0,
            [a, b] => (a + b) / 2.0,
            _ => v.iter().sum::<f32>() / v.len() as f32,
        }
    }

    /// s as the parts compare it: [`Self::mean`], but [`NO_NUMBER`] where that is NaN.
    #[must_use]
    pub fn prediction(&self) -> f64 {
        let mean = f64::from(self.mean());
        if mean.is_nan() { NO_NUMBER } else { mean }
    }

    /// Adds what was unusual about this response.
    pub(crate) fn count(&self, counts: &mut Counts) {
        match self.found {
            0 => counts.numberless += 1,
            found if found < self.values.len() => counts.padded += 1,
            _ => {}
        }
        counts.overflowed += u64::from(!self.mean().is_finite());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, media: Media) -> Vec<f64> {
        Scores::read(text, media).values
    }

    #[test]
    fn the_last_numbers_of_the_whole_text_are_the_scores() {
        assert_eq!(values("1 2 3 4 5 6", Media::Image), [2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(values("rated 1 of 10\n3.5", Media::Video), [10.0, 3.5]);
    }

    #[test]
    fn too_few_numbers_are_padded_with_the_first_and_none_is_three() {
        assert_eq!(values("2 and 4", Media::Image), [2.0, 4.0, 2.0, 2.0, 2.0]);
        assert_eq!(values("", Media::Image), [3.0; 5]);
        assert_eq!(Scores::read("no digits", Media::Video), Scores { values: vec![3.0; 2], found: 0 });
    }

    #[test]
    fn a_sign_belongs_to_a_number_with_a_point_only() {
        assert_eq!(values("-2.5 -3 +.5 4. 1-2", Media::Image), [3.0, 0.5, 4.0, 1.0, 2.0]);
        assert_eq!(values("1.2.3", Media::Video), [1.2, 0.3]);
    }

    #[test]
    fn the_mean_rounds_to_f32_after_every_addition() {
        let s = Scores::read("16777216 1 1 1 1", Media::Image);
        assert_eq!(s.mean(), 16_777_216.0 / 5.0);
        let s = Scores::read("1 1 1 1 16777216", Media::Image);
        assert_eq!(s.mean(), 16_777_216.0 / 5.0);
        let s = Scores::read("1 16777216 1 1 1", Media::Image);
        assert_eq!(s.mean(), 16_777_220.0 / 5.0);
    }

    #[test]
    fn forty_digits_are_infinite_and_opposite_infinities_count_as_no_number() {
        let huge = Scores::read(&"1".repeat(40), Media::Video);
        assert_eq!(huge.prediction(), f64::INFINITY);
        let both = Scores::read(&format!("{0}.0 -{0}.0", "1".repeat(40)), Media::Video);
        assert!(both.mean().is_nan());
        assert_eq!(both.prediction(), NO_NUMBER);
        let mut counts = Counts::default();
        both.count(&mut counts);
        assert_eq!(counts, Counts { overflowed: 1, ..Counts::default() });
    }
}
