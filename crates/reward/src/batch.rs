//! What is scored: the responses of a batch of samples.

use std::fmt;

/// MOS of a larger magnitude are refused: their differences could overflow.
pub const LARGEST_MOS: f64 = 1e30;

/// What the responses are about; it decides how many scores an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Saturation, granularity, sharpness, foreground, background.
    Image,
    /// Global temporal, local spatial.
    Video,
}

impl Media {
    /// n, the scores of an answer.
    #[must_use]
    pub fn aspects(self) -> usize {
        match self {
            Self::Image => 5,
            Self::Video => 2,
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image",
            Self::Video => "video",
        })
    }
}

/// B samples with K responses each.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the samples are.
    pub media: Media,
    /// K, responses a sample.
    pub responses: usize,
    /// G, the mean opinion score of every sample `[B]`.
    pub mos: &'a [f64],
    /// Texts decoded without special tokens, untrimmed `[B·K]`, sample by sample.
    pub completions: &'a [String],
}

/// A batch that cannot be scored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// B = 0.
    #[error("the batch has no samples: expected at least one mean opinion score")]
    NoSamples,
    /// K = 0.
    #[error("0 responses a sample: expected at least 1")]
    NoResponses,
    /// Not B·K texts.
    #[error(
        "{found} completions for {samples} samples of {responses} responses: expected {samples} × {responses}"
    )]
    Completions {
        /// Texts in the batch.
        found: usize,
        /// B.
        samples: usize,
        /// K.
        responses: usize,
    },
    /// A MOS that no arithmetic survives.
    #[error(
        "mos of sample {sample} is {value}: expected a finite number of magnitude at most {LARGEST_MOS:e}"
    )]
    Mos {
        /// Index of the sample, from 0.
        sample: usize,
        /// Its MOS.
        value: f64,
    },
}

impl Batch<'_> {
    /// Checks the shape `[B]`, `[B·K]` and the labels.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (samples, responses, found) = (self.mos.len(), self.responses, self.completions.len());
        if samples == 0 {
            return Err(Error::NoSamples);
        }
        if responses == 0 {
            return Err(Error::NoResponses);
        }
        if samples.checked_mul(responses) != Some(found) {
            return Err(Error::Completions { found, samples, responses });
        }
        match self.mos.iter().position(|g| !g.is_finite() || g.abs() > LARGEST_MOS) {
            Some(sample) => Err(Error::Mos { sample, value: self.mos[sample] }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_a_wrong_shape_is_refused_with_its_numbers() {
        let texts = vec![String::new(); 5];
        let batch =
            |responses, mos| Batch { media: Media::Image, responses, mos, completions: &texts }.check();
        assert_eq!(batch(5, &[1.0]), Ok(()));
        assert_eq!(batch(5, &[]), Err(Error::NoSamples));
        assert_eq!(batch(0, &[1.0]), Err(Error::NoResponses));
        assert_eq!(batch(3, &[1.0, 2.0]), Err(Error::Completions { found: 5, samples: 2, responses: 3 }));
        assert_eq!(
            batch(usize::MAX, &[1.0, 2.0]),
            Err(Error::Completions { found: 5, samples: 2, responses: usize::MAX })
        );
        let error = batch(5, &[f64::INFINITY]).map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("mos of sample 0 is inf: expected a finite number of magnitude at most 1e30".into())
        );
    }
}
