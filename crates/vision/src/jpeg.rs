//! JPEG through libjpeg-turbo: accurate DCT and smooth chroma upsampling, as Pillow uses it.

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, Subsamp};

use crate::decode::MAX_PIXELS;
use crate::{Error, Rgb};

/// What libjpeg warns of although every pixel is there; Pillow does not even say it. Other warnings (data that
/// ends early, broken codes) are errors here, where Pillow fills the rest with grey.
const HARMLESS: [&str; 2] = ["extraneous bytes before marker", "bad ICC marker"];

/// More scans than any encoder writes: a hostile progressive file would decode for hours.
const MAX_SCANS: u32 = 500;

pub(crate) fn decode(path: &str, bytes: &[u8]) -> Result<Rgb, Error> {
    let damaged =
        |e: turbojpeg::Error| Error::Damaged { path: path.into(), format: "JPEG", reason: e.to_string() };
    let mut decoder = Decompressor::new().map_err(damaged)?;
    decoder.set_scan_limit(MAX_SCANS).map_err(damaged)?;
    let header = decoder.read_header(bytes).map_err(damaged)?;
    let (width, height) = (header.width, header.height);
    if (width as u64).saturating_mul(height as u64) > MAX_PIXELS {
        return Err(Error::TooLarge { path: path.into(), width: width as u64, height: height as u64 });
    }
    let inks = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let (format, channels) = if inks { (PixelFormat::CMYK, 4) } else { (PixelFormat::RGB, 3) };
    let mut pixels = vec![0; width * height * channels];
    let image = Image { pixels: pixels.as_mut_slice(), width, pitch: width * channels, height, format };
    match decoder.decompress(bytes, image) {
        Err(e) if !HARMLESS.iter().any(|h| e.to_string().contains(h)) => return Err(damaged(e)),
        _ => {}
    }
    Rgb::new(width, height, if inks { adobe_cmyk_to_rgb(&pixels) } else { pixels })
}

/// The picture as a JPEG file's bytes, with 4:2:0 chroma. `quality` is libjpeg's, 1 to 100.
///
/// # Errors
/// If the encoder refuses it.
pub fn encode_jpeg(picture: &Rgb, quality: i32) -> Result<Vec<u8>, Error> {
    let (width, height) = (picture.width(), picture.height());
    let image = Image { pixels: picture.data(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    let bytes = turbojpeg::compress(image, quality, Subsamp::Sub2x2).map_err(|e| Error::Encode {
        width,
        height,
        format: "JPEG",
        reason: e.to_string(),
    })?;
    Ok(bytes.to_vec())
}

/// Encodes and decodes again: compression as a distortion.
pub(crate) fn recompress(picture: &Rgb, quality: i32) -> Result<Rgb, Error> {
    decode("a picture that was just compressed", &encode_jpeg(picture, quality)?)
}

/// `[pixels, 4]` to `[pixels, 3]`. Adobe's files hold inverted inks, and Pillow takes every CMYK file for one of them.
fn adobe_cmyk_to_rgb(inverted: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(inverted.len() / 4 * 3);
    for ink in inverted.chunks_exact(4) {
        let white = i32::from(ink[3]);
        for &value in &ink[..3] {
            // Pillow's a·b/255, rounded.
            let product = (255 - i32::from(value)) * white + 128;
            rgb.push((white - ((product + (product >> 8)) >> 8)).clamp(0, 255) as u8);
        }
    }
    rgb
}
