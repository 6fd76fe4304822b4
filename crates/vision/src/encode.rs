//! Lossless files.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::{Error, Rgb};

/// The picture as a PNG file's bytes, the same ones for the same pixels.
///
/// # Errors
/// If the encoder refuses it.
pub fn encode_png(picture: &Rgb) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(picture.data().len() / 2);
    let (width, height) = (picture.width(), picture.height());
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(picture.data(), width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| Error::Encode { width, height, format: "PNG", reason: e.to_string() })?;
    Ok(bytes)
}
