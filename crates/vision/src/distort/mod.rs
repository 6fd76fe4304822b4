//! KADID-10k's distortions, numbered, named and graded as its published generator grades them.
//!
//! The semantics are those of KADID-10k's MATLAB generator (Lin, Hosu and Saupe, 2019), re-implemented: values on
//! [0, 1] there are 0 to 255 here, edges are replicated, results are clipped and rounded half up. Left out is the
//! generator's stretch of the whole picture to [0, 1] before and after. Draws come from the caller's seed, the type and
//! the level; for the same seed every machine gives the same bytes.
//!
//! | | type | the parameter of a level |
//! |---|---|---|
//! | 1 | Gaussian blur | standard deviation, pixels |
//! | 2 | lens blur | radius of the disc, pixels |
//! | 3 | motion blur | length, pixels; the angle is drawn |
//! | 4 | colour diffusion | a and b of L*a*b* are blurred with 1.5 · parameter + 2 and multiplied by it |
//! | 6 | colour quantisation | colours of a minimum variance palette, dithered |
//! | 7 | saturation in HSV | factor on the saturation |
//! | 8 | saturation in L*a*b* | factor on a and b |
//! | 10 | JPEG | libjpeg's quality, chroma 4:2:0 |
//! | 11 | white noise | variance on [0, 1] |
//! | 12 | white noise in YCbCr | variance on [0, 1] of each component |
//! | 13 | impulse noise | share of values that become 0 or 1 |
//! | 14 | multiplicative noise | variance of the uniform factor around 1 |
//! | 16, 17 | brighten, darken | the curve's rise or fall at mid grey, doubled |
//! | 18 | mean shift | added to every value on [0, 1] |
//! | 19 | jitter | standard deviation of each pixel's displacement, pixels, five times over |
//! | 20 | non-eccentricity patches | patches of 16 px moved nearby, for each 512 × 384 pixels |
//! | 21 | pixelate | s: nearest-neighbour scaling to 0.95 − s^0.6 and back |
//! | 23 | colour blocks | blocks of 32 px, for each 512 × 384 pixels |
//! | 24 | high sharpen | amount of an unsharp mask on L with radius 3 |
//!
//! Not built in: 5 colour shift, 9 JPEG 2000, 15 denoising, 22 quantisation, 25 contrast.

mod blocks;
mod blur;
mod filter;
mod jitter;
mod noise;
mod palette;
mod pixelate;
mod saturation;
mod sharpen;
mod table;
mod tone;

use crate::{Draws, Error, Rgb, jpeg};

pub use table::Level;

/// Levels a distortion has: 1 (barely) to 5 (severe, but for types that go through neutral, as mean shift).
pub const LEVELS: u8 = 5;

/// The stream's name, so that no other draw from the same seed is the same.
const STREAM: u64 = 0x6469_7374;

/// KADID-10k's picture, pixels: what its numbers of patches and blocks are for.
const KADID_PIXELS: f64 = 512.0 * 384.0;

/// A distortion type; the number is KADID-10k's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the table at the head of the module describes each")]
pub enum Distortion {
    GaussianBlur = 1,
    LensBlur = 2,
    MotionBlur = 3,
    ColourDiffusion = 4,
    ColourQuantisation = 6,
    SaturationHsv = 7,
    SaturationLab = 8,
    Jpeg = 10,
    WhiteNoise = 11,
    WhiteNoiseYCbCr = 12,
    ImpulseNoise = 13,
    MultiplicativeNoise = 14,
    Brighten = 16,
    Darken = 17,
    MeanShift = 18,
    Jitter = 19,
    NonEccentricityPatch = 20,
    Pixelate = 21,
    ColourBlock = 23,
    HighSharpen = 24,
}

use Distortion as D;

impl Distortion {
    /// Every type that is built in, in KADID-10k's order.
    pub const ALL: [Self; 20] = [
        D::GaussianBlur,
        D::LensBlur,
        D::MotionBlur,
        D::ColourDiffusion,
        D::ColourQuantisation,
        D::SaturationHsv,
        D::SaturationLab,
        D::Jpeg,
        D::WhiteNoise,
        D::WhiteNoiseYCbCr,
        D::ImpulseNoise,
        D::MultiplicativeNoise,
        D::Brighten,
        D::Darken,
        D::MeanShift,
        D::Jitter,
        D::NonEccentricityPatch,
        D::Pixelate,
        D::ColourBlock,
        D::HighSharpen,
    ];

    /// The type with KADID-10k's number `kind`.
    ///
    /// # Errors
    /// If there is none or it is not built in; the error lists those that are.
    pub fn from_kadid(kind: u8) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|d| d.kadid() == kind).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|d| d.kadid().to_string()).collect();
            Error::Kind { kind, known: known.join(", ") }
        })
    }

    /// KADID-10k's number.
    pub fn kadid(self) -> u8 {
        self as u8
    }

    /// KADID-10k's name.
    ///
    /// # Errors
    /// Never for a type that is built in.
    pub fn name(self) -> Result<&'static str, Error> {
        self.level(1).map(|level| level.name)
    }

    /// The parameter and KADID-10k's opinion of `level`, 1 to 5.
    ///
    /// # Errors
    /// If there is no such level.
    pub fn level(self, level: u8) -> Result<&'static Level, Error> {
        table::level(self.kadid(), level)
    }

    /// The picture distorted at `level`, 1 to 5; what is random is drawn from `seed`, the type and the level.
    ///
    /// # Errors
    /// If there is no such level, or the JPEG encoder refuses the picture.
    pub fn apply(self, picture: &Rgb, level: u8, seed: u64) -> Result<Rgb, Error> {
        let parameter = self.level(level)?.parameter;
        let mut draws = Draws::new(seed, [STREAM, self.kadid().into(), level.into()]);
        let draws = &mut draws;
        Ok(match self {
            D::GaussianBlur => blur::gaussian(picture, parameter),
            D::LensBlur => blur::lens(picture, parameter),
            D::MotionBlur => blur::motion(picture, parameter, draws.below(181)),
            D::ColourDiffusion => saturation::diffuse(picture, parameter),
            D::ColourQuantisation => palette::quantise(picture, parameter as usize),
            D::SaturationHsv => saturation::hsv(picture, parameter),
            D::SaturationLab => saturation::lab(picture, parameter),
            D::Jpeg => jpeg::recompress(picture, parameter as i32)?,
            D::WhiteNoise => noise::white(picture, parameter, draws),
            D::WhiteNoiseYCbCr => noise::white_ycbcr(picture, parameter, draws),
            D::ImpulseNoise => noise::impulse(picture, parameter, draws),
            D::MultiplicativeNoise => noise::multiplicative(picture, parameter, draws),
            D::Brighten => tone::brighten(picture, parameter),
            D::Darken => tone::darken(picture, parameter),
            D::MeanShift => tone::mean_shift(picture, parameter),
            D::Jitter => jitter::jitter(picture, parameter, draws),
            D::NonEccentricityPatch => blocks::patches(picture, parameter, draws),
            D::Pixelate => pixelate::pixelate(picture, parameter),
            D::ColourBlock => blocks::colour_blocks(picture, parameter, draws),
            D::HighSharpen => sharpen::sharpen(picture, parameter),
        })
    }
}
