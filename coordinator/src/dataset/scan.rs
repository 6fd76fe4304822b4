//! What is known of each photograph before anything is made of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use vision::{Rgb, decode_bytes, resize};

use super::photos::Source;
use crate::failure::Failure;

/// Side of the tiles over which detail is taken, pixels.
const TILE: usize = 56;

/// Side of the thumbnail by which alike photographs are found, pixels.
const THUMBNAIL: usize = 16;

/// Correlation of two thumbnails from which on they are the same photograph.
const ALIKE: f64 = 0.98;

/// A photograph, scaled down, measured.
#[derive(Clone, Debug)]
pub(super) struct Scanned {
    pub(super) source: Source,
    /// Of the file's bytes.
    pub(super) sha256: String,
    /// The file's own area, pixels.
    pixels: usize,
    /// Scaled, pixels.
    pub(super) width: usize,
    /// Scaled, pixels.
    pub(super) height: usize,
    /// See [`detail`].
    pub(super) detail: f64,
    thumbnail: Vec<f64>,
}

/// Reads a photograph and measures it at the size that it is used at.
///
/// # Errors
/// If it cannot be read or is not the one that the list means.
pub(super) fn scan(source: &Source, max_side: usize) -> Result<Scanned, Failure> {
    let path = source.path.display();
    let bytes = fs::read(&source.path).map_err(|e| Failure::input(format!("{path}: cannot be read: {e}")))?;
    let sha256 = hex(&Sha256::digest(&bytes));
    if let Some(expected) = source.sha256.as_ref().filter(|expected| **expected != sha256) {
        return Err(Failure::input(format!("{path}: its SHA-256 is {sha256}, the list says {expected}")));
    }
    let picture = decode_bytes(&path.to_string(), &bytes).map_err(Failure::input)?;
    let pixels = picture.width() * picture.height();
    let picture = scaled(picture, max_side)?;
    let thumbnail = centred(&luminance(&resize(&picture, THUMBNAIL, THUMBNAIL).map_err(Failure::input)?));
    let (width, height, detail) = (picture.width(), picture.height(), detail(&picture));
    Ok(Scanned { source: source.clone(), sha256, pixels, width, height, detail, thumbnail })
}

/// The photograph as it is used: its longer side at most `max_side`, by Pillow's bicubic filter.
///
/// # Errors
/// If it cannot be decoded.
pub(super) fn load(path: &Path, max_side: usize) -> Result<Rgb, Failure> {
    scaled(vision::decode(path).map_err(Failure::input)?, max_side)
}

fn scaled(picture: Rgb, max_side: usize) -> Result<Rgb, Failure> {
    let longer = picture.width().max(picture.height());
    if longer <= max_side {
        return Ok(picture);
    }
    let factor = max_side as f64 / longer as f64;
    let side = |side: usize| ((side as f64 * factor).round_ties_even() as usize).max(1);
    resize(&picture, side(picture.width()), side(picture.height())).map_err(Failure::input)
}

/// Why a photograph is not used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LeftOut {
    pub(super) name: String,
    pub(super) why: String,
}

/// Leaves out what would be the same photograph twice (in two parts it would be a leak), what is too small to cut, and
/// what has too little detail to show a blur. Of alike photographs the one with the most pixels stays.
pub(super) fn choose(
    scanned: Vec<Scanned>,
    least_side: usize,
    least_detail: f64,
) -> (Vec<Scanned>, Vec<LeftOut>) {
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    for (index, photo) in scanned.iter().enumerate() {
        let (width, height) = (photo.width, photo.height);
        if width.min(height) < least_side {
            reasons.insert(index, format!("{width}x{height} px after scaling, the cut needs {least_side}"));
        } else if photo.detail < least_detail {
            reasons.insert(index, format!("detail {:.1}, at least {least_detail} is wanted", photo.detail));
        }
    }
    let mut by_size: Vec<usize> = (0..scanned.len()).filter(|index| !reasons.contains_key(index)).collect();
    by_size.sort_by_key(|&index| (std::cmp::Reverse(scanned[index].pixels), index));
    let mut kept: Vec<usize> = Vec::new();
    for index in by_size {
        match kept.iter().find(|&&other| alike(&scanned[other], &scanned[index])) {
            Some(&other) => {
                reasons.insert(index, format!("the same as {}", scanned[other].source.name));
            }
            None => kept.push(index),
        }
    }
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for (index, photo) in scanned.into_iter().enumerate() {
        match reasons.remove(&index) {
            Some(why) => left_out.push(LeftOut { name: photo.source.name, why }),
            None => chosen.push(photo),
        }
    }
    (chosen, left_out)
}

fn alike(a: &Scanned, b: &Scanned) -> bool {
    let correlation: f64 = a.thumbnail.iter().zip(&b.thumbnail).map(|(a, b)| a * b).sum();
    a.sha256 == b.sha256 || correlation >= ALIKE
}

/// Of unit length around 0, so that a product of two is their correlation; all 0 where there is nothing to compare.
fn centred(values: &[f32]) -> Vec<f64> {
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let around: Vec<f64> = values.iter().map(|&v| f64::from(v) - mean).collect();
    let length = around.iter().map(|v| v * v).sum::<f64>().sqrt();
    around.into_iter().map(|v| if length > 0.0 { v / length } else { 0.0 }).collect()
}

/// How much there is to lose: the 90 % quantile over tiles of 56 px of the standard deviation of the luminance's
/// Laplacian, on the scale of 0 to 255. Below about 10 a photograph cannot show a blur.
fn detail(picture: &Rgb) -> f64 {
    let laplacian = Laplacian::of(picture);
    let (columns, rows) = (laplacian.width / TILE, laplacian.height() / TILE);
    if columns == 0 || rows == 0 {
        return laplacian.deviation(0, 0, laplacian.width, laplacian.height());
    }
    let mut tiles: Vec<f64> = (0..columns * rows)
        .map(|tile| laplacian.deviation(tile % columns * TILE, tile / columns * TILE, TILE, TILE))
        .collect();
    tiles.sort_by(f64::total_cmp);
    tiles[(tiles.len() - 1) * 9 / 10]
}

/// The luminance's Laplacian, without the outermost pixels.
pub(super) struct Laplacian {
    width: usize,
    values: Vec<f32>,
}

impl Laplacian {
    pub(super) fn of(picture: &Rgb) -> Self {
        let light = luminance(picture);
        let width = picture.width();
        let mut values = Vec::with_capacity(light.len());
        for y in 1..picture.height().saturating_sub(1) {
            let (above, row, below) =
                (&light[(y - 1) * width..], &light[y * width..], &light[(y + 1) * width..]);
            values.extend(
                (1..width.saturating_sub(1))
                    .map(|x| 4.0 * row[x] - row[x - 1] - row[x + 1] - above[x] - below[x]),
            );
        }
        Self { width: width.saturating_sub(2), values }
    }

    fn height(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// The standard deviation over a part; 0 over nothing. The part may hang over the edge.
    pub(super) fn deviation(&self, x: usize, y: usize, width: usize, height: usize) -> f64 {
        let (right, bottom) = ((x + width).min(self.width), (y + height).min(self.height()));
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for row in y..bottom {
            for &value in self.values.get(row * self.width + x..row * self.width + right).unwrap_or(&[]) {
                let value = f64::from(value);
                sum += value;
                squares += value * value;
                count += 1.0;
            }
        }
        if count == 0.0 { 0.0 } else { (squares / count - (sum / count) * (sum / count)).max(0.0).sqrt() }
    }
}

fn luminance(picture: &Rgb) -> Vec<f32> {
    let light = |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
    picture.data().chunks_exact(3).map(light).collect()
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use vision::{Rgb, resize};

    use super::{Laplacian, Scanned, centred, choose, detail, luminance};
    use crate::dataset::photos::Source;

    fn texture(width: usize, height: usize, seed: usize) -> Rgb {
        let data =
            (0..width * height).flat_map(|i| [((i * i * (7 + seed) + i * 13) % 251) as u8; 3]).collect();
        Rgb::new(width, height, data).expect("sized")
    }

    fn scanned(name: &str, picture: &Rgb) -> Scanned {
        let thumbnail = centred(&luminance(&resize(picture, 16, 16).expect("small")));
        let source =
            Source { name: name.into(), path: PathBuf::from(name), part: None, licence: None, sha256: None };
        let (width, height) = (picture.width(), picture.height());
        Scanned {
            source,
            sha256: name.into(),
            pixels: width * height,
            width,
            height,
            detail: detail(picture),
            thumbnail,
        }
    }

    #[test]
    fn the_larger_of_two_alike_photographs_stays() {
        let ramp =
            Rgb::new(256, 192, (0..256 * 192).flat_map(|i| [(i % 256) as u8; 3]).collect()).expect("sized");
        let smaller = resize(&ramp, 128, 96).expect("smaller");
        let other = texture(200, 100, 1);
        let (chosen, left_out) = choose(
            vec![scanned("small", &smaller), scanned("other", &other), scanned("large", &ramp)],
            64,
            0.0,
        );
        assert_eq!(chosen.iter().map(|s| s.source.name.as_str()).collect::<Vec<_>>(), ["other", "large"]);
        assert_eq!((left_out.len(), left_out[0].why.as_str()), (1, "the same as large"));
    }

    #[test]
    fn small_and_flat_photographs_are_left_out_with_the_reason() {
        let flat = Rgb::new(200, 200, vec![90; 120_000]).expect("sized");
        let (chosen, left_out) =
            choose(vec![scanned("flat", &flat), scanned("small", &texture(60, 300, 2))], 112, 10.0);
        assert!(chosen.is_empty());
        assert_eq!(left_out[0].why, "detail 0.0, at least 10 is wanted");
        assert_eq!(left_out[1].why, "60x300 px after scaling, the cut needs 112");
    }

    #[test]
    fn deviation_outside_the_picture_is_nothing() {
        let laplacian = Laplacian::of(&texture(20, 20, 3));
        assert!(laplacian.deviation(0, 0, 20, 20) > 1.0);
        assert_eq!(laplacian.deviation(50, 50, 20, 20), 0.0);
        assert_eq!(Laplacian::of(&texture(1, 1, 1)).deviation(0, 0, 5, 5), 0.0);
    }
}
