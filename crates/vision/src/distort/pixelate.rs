//! 21 pixelate: scaled down and up again without interpolation.

use crate::Rgb;

/// `strength` s: down to the share 0.95 − s^0.6 of each side, and back (MATLAB's `imresize(…, 'nearest')`).
pub(super) fn pixelate(picture: &Rgb, strength: f64) -> Rgb {
    // Rounded above what two machines' powers differ by.
    let scale = ((0.95 - strength.powf(0.6)) * 1e9).round() / 1e9;
    let columns = nearest_there_and_back(picture.width(), scale);
    let rows = nearest_there_and_back(picture.height(), scale);
    let mut data = Vec::with_capacity(picture.data().len());
    for y in rows {
        let row = picture.row(y);
        for &x in &columns {
            data.extend_from_slice(&row[x * 3..x * 3 + 3]);
        }
    }
    picture.with_data(data)
}

/// For each place along a side, the place that it is taken from.
fn nearest_there_and_back(side: usize, scale: f64) -> Vec<usize> {
    let small = ((side as f64 * scale).ceil() as usize).max(1);
    let source = |place: usize, scale: f64, of: usize| (((place as f64 + 0.5) / scale) as usize).min(of - 1);
    let up = side as f64 / small as f64;
    (0..side).map(|place| source(source(place, up, small), scale, side)).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest_there_and_back;

    #[test]
    fn at_half_strength_blocks_are_three_to_four_pixels_wide() {
        // 0.95 − 0.5^0.6 = 0.29.
        let places = nearest_there_and_back(100, 0.29);
        let mut distinct = places.clone();
        distinct.dedup();
        assert_eq!((places.len(), distinct.len()), (100, 29));
        assert!(places.is_sorted());
    }
}
