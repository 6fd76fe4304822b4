//! The picture that everything here works on.

use crate::Error;
use crate::decode::MAX_PIXELS;

/// An 8-bit RGB picture, row-major, interleaved: `data[(y * width + x) * 3 + channel]`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Rgb {
    /// A picture of `width` × `height` pixels from `[height, width, 3]` bytes.
    ///
    /// # Errors
    /// If a side is zero, there are more than [`MAX_PIXELS`] pixels, or the number of bytes is another one.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, Error> {
        check_size(width, height)?;
        let expected = width * height * 3;
        if data.len() != expected {
            return Err(Error::Shape { width, height, expected, found: data.len() });
        }
        Ok(Self { width, height, data })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes alone, `[height, width, 3]`.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Row `y`, `[width, 3]`. Panics where there is no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..(y + 1) * self.width * 3]
    }

    /// The `width` × `height` cut whose upper left pixel is (`x`, `y`), at native scale.
    ///
    /// # Errors
    /// If it leaves the picture or is empty.
    pub fn cut(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self, Error> {
        let inside =
            |start: usize, length: usize, of: usize| start.checked_add(length).is_some_and(|end| end <= of);
        if !inside(x, width, self.width) || !inside(y, height, self.height) {
            return Err(Error::Cut { x, y, width, height, of_width: self.width, of_height: self.height });
        }
        check_size(width, height)?;
        let mut data = Vec::with_capacity(width * height * 3);
        for row in y..y + height {
            data.extend_from_slice(&self.row(row)[x * 3..(x + width) * 3]);
        }
        Ok(Self { width, height, data })
    }

    /// A picture of this one's size; the caller gives as many bytes.
    pub(crate) fn with_data(&self, data: Vec<u8>) -> Self {
        debug_assert_eq!(data.len(), self.data.len());
        Self { width: self.width, height: self.height, data }
    }
}

pub(crate) fn check_size(width: usize, height: usize) -> Result<(), Error> {
    let pixels = (width as u64).saturating_mul(height as u64);
    if width == 0 || height == 0 || pixels > MAX_PIXELS {
        return Err(Error::Size { width, height });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Rgb;

    #[test]
    fn a_picture_never_has_another_number_of_bytes_than_its_sides_say() {
        assert!(Rgb::new(2, 2, vec![0; 12]).is_ok());
        for (width, height, bytes) in [(2, 2, 11), (0, 2, 0), (2, 0, 0), (usize::MAX, usize::MAX, 0)] {
            assert!(Rgb::new(width, height, vec![0; bytes]).is_err(), "{width}x{height}, {bytes} bytes");
        }
    }

    #[test]
    fn a_cut_holds_the_pixels_at_its_place() {
        let picture = Rgb::new(4, 3, (0..36).collect()).expect("12 pixels");
        let cut = picture.cut(1, 1, 2, 2).expect("inside");
        assert_eq!(cut.data(), [15, 16, 17, 18, 19, 20, 27, 28, 29, 30, 31, 32]);
        assert!(picture.cut(3, 0, 2, 1).is_err());
        assert!(picture.cut(0, 0, 0, 1).is_err());
        assert!(picture.cut(usize::MAX, 0, 2, 1).is_err());
    }
}
