//! A decoded frame as 8-bit RGB.

use std::ptr;

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame;

use crate::Rgb;

/// Converts frames by libswscale: bilinear chroma, as PyAV and most loaders do; the matrix and range that the frame
/// names, BT.601 and limited where it names none. Without tone mapping, whatever the transfer curve.
pub(crate) struct Converter {
    context: *mut ffi::SwsContext,
}

impl Converter {
    /// One converter a video: it keeps its tables while frames are alike.
    pub(crate) fn new() -> Self {
        Self { context: ptr::null_mut() }
    }

    /// The frame's pixels at its own size. The reason is FFmpeg's where it cannot be converted.
    pub(crate) fn rgb(&mut self, from: &frame::Video) -> Result<Rgb, String> {
        let (width, height) = (from.width() as usize, from.height() as usize);
        if width == 0 || height == 0 || width.saturating_mul(height) > super::MAX_FRAME_PIXELS {
            return Err(format!("a frame of {width}x{height} pixels"));
        }
        self.prepare(from)?;
        // Its rows are padded as libswscale's vectors want them.
        let mut to = frame::Video::new(Pixel::RGB24, from.width(), from.height());
        // SAFETY: both frames hold planes of the sizes and formats that the context was made for.
        let rows = unsafe {
            ffi::sws_scale(
                self.context,
                (*from.as_ptr()).data.as_ptr().cast(),
                (*from.as_ptr()).linesize.as_ptr(),
                0,
                from.height() as i32,
                (*to.as_mut_ptr()).data.as_ptr(),
                (*to.as_mut_ptr()).linesize.as_ptr(),
            )
        };
        if rows != from.height() as i32 {
            return Err(format!("libswscale converted {rows} of {height} rows"));
        }
        let (stride, bytes) = (to.stride(0), to.data(0));
        let mut data = Vec::with_capacity(width * height * 3);
        for row in bytes.chunks(stride).take(height) {
            data.extend_from_slice(&row[..width * 3]);
        }
        Rgb::new(width, height, data).map_err(|e| e.to_string())
    }

    fn prepare(&mut self, from: &frame::Video) -> Result<(), String> {
        let format: ffi::AVPixelFormat = from.format().into();
        let (width, height) = (from.width() as i32, from.height() as i32);
        // SAFETY: the frame is alive; its colour fields are C enums, read as the integers that they are, since a file
        // may hold values that the enums do not name.
        let (matrix, range) = unsafe {
            let frame = from.as_ptr();
            (
                (&raw const (*frame).colorspace).cast::<i32>().read(),
                (&raw const (*frame).color_range).cast::<i32>().read(),
            )
        };
        // SAFETY: the old context is null or ours and is given up; filters and parameters are optional.
        self.context = unsafe {
            ffi::sws_getCachedContext(
                self.context,
                width,
                height,
                format,
                width,
                height,
                ffi::AVPixelFormat::AV_PIX_FMT_RGB24,
                ffi::SWS_BILINEAR as _,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        if self.context.is_null() {
            return Err(format!("libswscale does not convert {:?} at {width}x{height}", from.format()));
        }
        let full =
            i32::from(range == ffi::AVColorRange::AVCOL_RANGE_JPEG as i32 || is_full_by_name(from.format()));
        const ONE: i32 = 1 << 16;
        // SAFETY: the context is not null; the tables are libswscale's own constants. It refuses formats that have no
        // matrix (RGB, grey), for which there is nothing to set.
        unsafe {
            let table = ffi::sws_getCoefficients(matrix);
            let own = ffi::sws_getCoefficients(ffi::SWS_CS_DEFAULT);
            ffi::sws_setColorspaceDetails(self.context, table, full, own, 1, 0, ONE, ONE);
        }
        Ok(())
    }
}

/// The deprecated formats whose name alone says that the range is full.
fn is_full_by_name(format: Pixel) -> bool {
    matches!(format, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P | Pixel::YUVJ411P)
}

impl Drop for Converter {
    fn drop(&mut self) {
        // SAFETY: null or ours; nobody else has it.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}
