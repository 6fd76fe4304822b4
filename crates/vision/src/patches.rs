//! The model's input: normalised patches in the published order.

use serde::Deserialize;

use crate::resize::resized;
use crate::{Error, Rgb, smart_resize};

/// How many patches a picture has: times × rows × columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Groups of frames; 1 for a picture.
    pub t: usize,
    /// Rows of patches.
    pub h: usize,
    /// Columns of patches.
    pub w: usize,
}

impl Grid {
    /// Patches in all, t · h · w.
    pub fn patches(self) -> usize {
        self.t * self.h * self.w
    }

    /// Tokens that the language model sees, for `merge` × `merge` patches a token.
    pub fn tokens(self, merge: usize) -> usize {
        self.patches() / (merge * merge)
    }
}

/// A picture or video as the vision tower takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// `[grid.patches(), 3 · temporal · patch · patch]`; patches of one merged token lie together.
    pub values: Vec<f32>,
    /// Where the patches lie.
    pub grid: Grid,
}

/// The processor's settings. Read from a `preprocessor_config.json`, or from the `image_processor` object of a
/// `processor_config.json`; what is not given is Qwen2.5-VL's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawSettings")]
pub struct PatchSettings {
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Frames in a patch; a picture is repeated.
    pub temporal: usize,
    /// Side of a merged token, patches.
    pub merge: usize,
    /// Lower bound on the resized area, pixels.
    pub min_pixels: usize,
    /// Upper bound on the resized area, pixels.
    pub max_pixels: usize,
    /// Of red, green and blue on [0, 1].
    pub mean: [f32; 3],
    /// Of red, green and blue on [0, 1].
    pub std: [f32; 3],
}

impl Default for PatchSettings {
    fn default() -> Self {
        RawSettings::default().into()
    }
}

/// The published files' names; `min_pixels` and `max_pixels` win over `size`, as transformers resolves them.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct RawSettings {
    patch_size: usize,
    temporal_patch_size: usize,
    merge_size: usize,
    min_pixels: Option<usize>,
    max_pixels: Option<usize>,
    size: RawSize,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSize {
    shortest_edge: Option<usize>,
    longest_edge: Option<usize>,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: None,
            max_pixels: None,
            size: RawSize::default(),
            // CLIP's.
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl From<RawSettings> for PatchSettings {
    fn from(raw: RawSettings) -> Self {
        raw.within(3_136, 12_845_056)
    }
}

impl RawSettings {
    /// Resolved; the bounds are for a file that gives none.
    pub(crate) fn within(self, min_pixels: usize, max_pixels: usize) -> PatchSettings {
        PatchSettings {
            patch: self.patch_size,
            temporal: self.temporal_patch_size,
            merge: self.merge_size,
            min_pixels: self.min_pixels.or(self.size.shortest_edge).unwrap_or(min_pixels),
            max_pixels: self.max_pixels.or(self.size.longest_edge).unwrap_or(max_pixels),
            mean: self.image_mean,
            std: self.image_std,
        }
    }
}

impl PatchSettings {
    fn check(&self) -> Result<(), Error> {
        let whole = |name: &str, value: usize| {
            if (1..=1024).contains(&value) {
                Ok(())
            } else {
                Err(Error::Settings(format!("{name} is {value}, expected 1 to 1024")))
            }
        };
        whole("patch_size", self.patch)?;
        whole("temporal_patch_size", self.temporal)?;
        whole("merge_size", self.merge)?;
        if self.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(Error::Settings(format!(
                "image_std is {:?}, expected three numbers above 0",
                self.std
            )));
        }
        Ok(())
    }

    /// The grid of a picture of `width` × `height` pixels, without looking at it.
    ///
    /// # Errors
    /// As [`patches`].
    pub fn grid(&self, width: usize, height: usize) -> Result<Grid, Error> {
        self.check()?;
        let (h, w) = smart_resize(height, width, self.patch * self.merge, self.min_pixels, self.max_pixels)?;
        Ok(Grid { t: 1, h: h / self.patch, w: w / self.patch })
    }
}

/// Resizes, normalises and cuts a picture as transformers' `Qwen2VLImageProcessor` (Pillow backend) does, bit for bit.
///
/// # Errors
/// If the settings cannot be or the picture's aspect ratio is above 200.
pub fn patches(picture: &Rgb, settings: &PatchSettings) -> Result<Patches, Error> {
    let mut values = Vec::new();
    let grid = settings.grid(picture.width(), picture.height())?;
    group(std::slice::from_ref(picture), grid, settings, &mut values)?;
    Ok(Patches { values, grid })
}

/// Appends the patches of one group of frames, `settings.temporal` or fewer: the last one is repeated. `grid` says at
/// which size each is looked at.
///
/// # Errors
/// If there is no frame, or it cannot have that size.
pub(crate) fn group(
    frames: &[Rgb],
    grid: Grid,
    settings: &PatchSettings,
    values: &mut Vec<f32>,
) -> Result<(), Error> {
    let (patch, merge) = (settings.patch, settings.merge);
    let frames: Vec<_> =
        frames.iter().map(|f| resized(f, grid.w * patch, grid.h * patch)).collect::<Result<_, _>>()?;
    let levels = normalised_levels(settings);
    if frames.is_empty() {
        return Err(Error::NoFrames);
    }
    // A patch of each frame, `[channels, patch, patch]`.
    let mut cut = vec![vec![0.0; 3 * patch * patch]; frames.len()];
    crate::pages::reserve(values, grid.h * grid.w * 3 * settings.temporal * patch * patch);
    for (y, x) in places(grid, merge) {
        for (cut, frame) in cut.iter_mut().zip(&frames) {
            normalise(frame, (y * patch, x * patch), &levels, cut);
        }
        for channel in 0..3 {
            let inside = channel * patch * patch..(channel + 1) * patch * patch;
            for time in 0..settings.temporal {
                values.extend_from_slice(&cut[time.min(cut.len() - 1)][inside.clone()]);
            }
        }
    }
    Ok(())
}

/// Row and column of each patch; those of one merged token follow each other.
fn places(grid: Grid, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    let pairs = |rows, columns| (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
    pairs(grid.h / merge, grid.w / merge)
        .flat_map(move |(y, x)| pairs(merge, merge).map(move |(dy, dx)| (y * merge + dy, x * merge + dx)))
}

/// The square patch whose upper left pixel is (`y`, `x`), into `[channels, patch, patch]`.
fn normalise(picture: &Rgb, (y, x): (usize, usize), levels: &[[f32; 256]; 3], cut: &mut [f32]) {
    let (red, others) = cut.split_at_mut(cut.len() / 3);
    let (green, blue) = others.split_at_mut(red.len());
    let patch = red.len().isqrt();
    let rows =
        red.chunks_exact_mut(patch).zip(green.chunks_exact_mut(patch)).zip(blue.chunks_exact_mut(patch));
    for (row, ((red, green), blue)) in rows.enumerate() {
        let pixels = picture.row(y + row)[x * 3..(x + patch) * 3].chunks_exact(3);
        for (pixel, ((red, green), blue)) in pixels.zip(red.iter_mut().zip(green).zip(blue)) {
            *red = levels[0][usize::from(pixel[0])];
            *green = levels[1][usize::from(pixel[1])];
            *blue = levels[2][usize::from(pixel[2])];
        }
    }
}

/// What each 8-bit value becomes, by channel: scaled in f64, then centred and divided in f32, as the reference does.
fn normalised_levels(settings: &PatchSettings) -> [[f32; 256]; 3] {
    std::array::from_fn(|channel| {
        std::array::from_fn(|value| {
            let scaled = (value as f64 * (1.0 / 255.0)) as f32;
            (scaled - settings.mean[channel]) / settings.std[channel]
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{Grid, PatchSettings, patches};
    use crate::Rgb;

    #[test]
    fn patches_of_one_token_lie_together_and_frames_repeat() {
        // One pixel a patch: the values say where they came from.
        let settings = PatchSettings {
            patch: 1,
            temporal: 2,
            merge: 2,
            min_pixels: 1,
            max_pixels: 1000,
            mean: [0.0; 3],
            std: [1.0 / 255.0; 3],
        };
        let picture = Rgb::new(4, 2, (0..8).flat_map(|p| [p, 10 + p, 20 + p]).collect()).expect("8 pixels");
        let cut = patches(&picture, &settings).expect("fits");
        assert_eq!(cut.grid, Grid { t: 1, h: 2, w: 4 });
        assert_eq!(cut.grid.tokens(2), 2);
        let red: Vec<i32> = cut.values.iter().step_by(6).map(|v| v.round() as i32).collect();
        assert_eq!(red, [0, 1, 4, 5, 2, 3, 6, 7]);
        let first: Vec<i32> = cut.values[..6].iter().map(|v| v.round() as i32).collect();
        assert_eq!(first, [0, 0, 10, 10, 20, 20]);
    }

    #[test]
    fn settings_are_read_from_old_and_new_files() {
        let old = r#"{"min_pixels": 3136, "max_pixels": 200704, "patch_size": 14, "image_mean": [0.5, 0.5, 0.5], "do_resize": true}"#;
        let new = r#"{"size": {"shortest_edge": 3136, "longest_edge": 200704}, "patch_size": 14, "image_mean": [0.5, 0.5, 0.5]}"#;
        let old: PatchSettings = serde_json::from_str(old).expect("old layout");
        assert_eq!(old, serde_json::from_str(new).expect("new layout"));
        assert_eq!((old.max_pixels, old.temporal, old.std), (200_704, 2, PatchSettings::default().std));
    }

    #[test]
    fn settings_that_cannot_cut_a_picture_are_refused() {
        let picture = Rgb::new(28, 28, vec![0; 28 * 28 * 3]).expect("28x28");
        let base = PatchSettings::default();
        for bad in [
            PatchSettings { patch: 0, ..base.clone() },
            PatchSettings { merge: usize::MAX, ..base.clone() },
            PatchSettings { std: [1.0, 0.0, 1.0], ..base.clone() },
            PatchSettings { max_pixels: 0, ..base },
        ] {
            assert!(patches(&picture, &bad).is_err(), "{bad:?}");
        }
    }
}
