//! A file's pixels, bit for bit as Pillow's `Image.open(path).convert("RGB")` gives them.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{Error, Rgb, jpeg};

/// The most pixels that a file may have: where Pillow calls it a decompression bomb.
pub const MAX_PIXELS: u64 = 178_956_970;

/// No picture within [`MAX_PIXELS`] needs a longer file.
const MAX_BYTES: u64 = 2 << 30;

/// Reads and decodes a picture. The content decides the format, not the name; of several frames the first counts; EXIF
/// rotation is not applied (the reference applies none); alpha is dropped, not blended; grey is repeated; 16-bit
/// values keep their high byte (Pillow does so for colour, and clips grey at 255, which is of no use).
///
/// # Errors
/// Each names the file: unreadable, empty, no known format, more than [`MAX_PIXELS`], damaged or truncated.
pub fn decode(path: &Path) -> Result<Rgb, Error> {
    let name = path.display().to_string();
    let read = |e: std::io::Error| Error::Read { path: name.clone(), reason: e.to_string() };
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len().min(MAX_BYTES);
    let mut bytes = Vec::with_capacity(length as usize + 1);
    let count = file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if count as u64 > MAX_BYTES {
        return Err(Error::Read { path: name, reason: format!("longer than {MAX_BYTES} bytes") });
    }
    decode_bytes(&name, &bytes)
}

/// As [`decode`], from a file's content; `path` is for the error.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(path: &str, bytes: &[u8]) -> Result<Rgb, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty { path: path.into() });
    }
    let unknown = || Error::Format { path: path.into() };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| unknown())?;
    let format = match reader.format() {
        Some(ImageFormat::Jpeg) => return jpeg::decode(path, bytes),
        Some(ImageFormat::Png) => "PNG",
        Some(ImageFormat::Bmp) => "BMP",
        Some(ImageFormat::Gif) => "GIF",
        Some(ImageFormat::Tiff) => "TIFF",
        Some(ImageFormat::WebP) => "WebP",
        _ => return Err(unknown()),
    };
    with_image(path, format, reader)
}

fn with_image(
    path: &str,
    format: &'static str,
    mut reader: ImageReader<Cursor<&[u8]>>,
) -> Result<Rgb, Error> {
    let damaged = |e: image::ImageError| Error::Damaged { path: path.into(), format, reason: e.to_string() };
    let mut limits = Limits::default();
    // Four 16-bit channels a pixel and the decoder's own copy.
    limits.max_alloc = Some(MAX_PIXELS * 16);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::TooLarge { path: path.into(), width: width.into(), height: height.into() });
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    Rgb::new(width as usize, height as usize, rgb_bytes(picture))
}

fn rgb_bytes(picture: DynamicImage) -> Vec<u8> {
    let high = |value: &u16| (value >> 8) as u8;
    match picture {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageRgba8(p) => p.as_raw().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma8(p) => p.as_raw().iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(p) => p.as_raw().chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.as_raw().iter().map(high).collect(),
        DynamicImage::ImageRgba16(p) => {
            p.as_raw().chunks_exact(4).flat_map(|p| [high(&p[0]), high(&p[1]), high(&p[2])]).collect()
        }
        DynamicImage::ImageLuma16(p) => p.as_raw().iter().flat_map(|v| [high(v); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.as_raw().chunks_exact(2).flat_map(|p| [high(&p[0]); 3]).collect(),
        other => other.into_rgb8().into_raw(),
    }
}
