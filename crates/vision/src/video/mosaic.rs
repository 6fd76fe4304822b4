//! Sixteen frames in one picture.

use crate::{Error, Rgb, resize};

/// Frames in a mosaic.
pub const MOSAIC_FRAMES: usize = SIDE * SIDE;

/// Frames in a row, and rows.
const SIDE: usize = 4;

/// The most pixels of a mosaic: where Pillow begins to warn of a decompression bomb. Frames of up to 2560×1440 fit at
/// their own size.
pub const MAX_MOSAIC_PIXELS: usize = 89_478_485;

/// The size at which a frame of `width` × `height` is shown where `across` of them stand side by side and above each
/// other: its own, or the largest one of its shape for which the whole has at most `longest` pixels on its longer
/// side and `area` in all.
pub(crate) fn fitted(
    (width, height): (usize, usize),
    across: usize,
    longest: Option<usize>,
    area: usize,
) -> (usize, usize) {
    let (whole_width, whole_height) = ((width * across) as f64, (height * across) as f64);
    let by_side = longest.map_or(1.0, |side| side as f64 / whole_width.max(whole_height));
    let by_area = (area as f64 / (whole_width * whole_height)).sqrt();
    let scale = by_side.min(by_area);
    if scale >= 1.0 {
        return (width, height);
    }
    // A whole number of pixels stays one in floating point.
    let scaled = |side: usize| ((side as f64 * scale + 1e-6) as usize).max(1);
    (scaled(width), scaled(height))
}

/// A 4 × 4 mosaic while its frames arrive, row by row.
pub(crate) struct Mosaic {
    tile: (usize, usize),
    data: Vec<u8>,
}

impl Mosaic {
    /// A mosaic of frames of this size, its longer side at most `longest` where that is given.
    pub(crate) fn new(frame: (usize, usize), longest: Option<usize>) -> Self {
        let tile = fitted(frame, SIDE, longest, MAX_MOSAIC_PIXELS);
        Self { tile, data: vec![0; tile.0 * tile.1 * MOSAIC_FRAMES * 3] }
    }

    /// Puts a frame at each of `places`, 0 to 15.
    pub(crate) fn put(&mut self, frame: &Rgb, places: &[usize]) -> Result<(), Error> {
        let (width, height) = self.tile;
        let scaled;
        let tile = if (frame.width(), frame.height()) == self.tile {
            frame
        } else {
            scaled = resize(frame, width, height)?;
            &scaled
        };
        let (row_bytes, stride) = (width * 3, width * SIDE * 3);
        for place in places {
            let corner = place / SIDE * height * stride + place % SIDE * row_bytes;
            for y in 0..height {
                let start = corner + y * stride;
                self.data[start..start + row_bytes].copy_from_slice(tile.row(y));
            }
        }
        Ok(())
    }

    /// The picture.
    pub(crate) fn finish(self) -> Result<Rgb, Error> {
        Rgb::new(self.tile.0 * SIDE, self.tile.1 * SIDE, self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MOSAIC_PIXELS, MOSAIC_FRAMES, Mosaic, fitted};
    use crate::Rgb;

    #[test]
    fn frames_stand_row_by_row_at_their_own_size() {
        let mut mosaic = Mosaic::new((2, 1), None);
        for place in 0..MOSAIC_FRAMES {
            mosaic.put(&Rgb::new(2, 1, vec![place as u8; 6]).expect("2 pixels"), &[place]).expect("fits");
        }
        let picture = mosaic.finish().expect("8x4");
        assert_eq!((picture.width(), picture.height()), (8, 4));
        let values: Vec<u8> = picture.data().iter().step_by(6).copied().collect();
        assert_eq!(values, (0..16).collect::<Vec<u8>>());
    }

    #[test]
    fn a_longest_side_bounds_the_whole_and_keeps_the_shape() {
        assert_eq!(fitted((1280, 720), 4, None, MAX_MOSAIC_PIXELS), (1280, 720));
        assert_eq!(fitted((1280, 720), 4, Some(1024), MAX_MOSAIC_PIXELS), (256, 144));
        assert_eq!(fitted((720, 1280), 4, Some(1024), MAX_MOSAIC_PIXELS), (144, 256));
        assert_eq!(fitted((100, 50), 4, Some(1024), MAX_MOSAIC_PIXELS), (100, 50));
        assert_eq!(fitted((1280, 720), 1, Some(640), usize::MAX), (640, 360));
        assert_eq!(fitted((5000, 1), 4, Some(10), MAX_MOSAIC_PIXELS), (2, 1));
    }

    #[test]
    fn large_frames_are_scaled_until_the_mosaic_fits() {
        for frame in [(3840, 2160), (8192, 4320), (8192, 4352), (100_000, 300)] {
            let (width, height) = fitted(frame, 4, None, MAX_MOSAIC_PIXELS);
            assert!(16 * width * height <= MAX_MOSAIC_PIXELS, "{width}x{height}");
            assert!(16 * (width + 4) * (height + 4) > MAX_MOSAIC_PIXELS / 2, "{width}x{height}");
        }
        assert_eq!(fitted((2560, 1440), 4, None, MAX_MOSAIC_PIXELS), (2560, 1440));
    }

    #[test]
    fn a_frame_of_another_size_is_scaled_to_its_tile_and_may_stand_twice() {
        let mut mosaic = Mosaic::new((4, 4), Some(8));
        mosaic.put(&Rgb::new(4, 4, vec![9; 48]).expect("16 pixels"), &[0, 15]).expect("scales");
        let picture = mosaic.finish().expect("8x8");
        assert_eq!((picture.row(1)[5], picture.row(2)[0], picture.row(7)[23]), (9, 0, 9));
    }
}
