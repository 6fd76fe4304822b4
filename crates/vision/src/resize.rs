//! Pictures at another size, and the published processor's choice of it.

use std::borrow::Cow;

use crate::resample::{across, down};
use crate::rgb::check_size;
use crate::{Error, Rgb};

/// The picture at `width` × `height`, as Pillow 13's `resize((width, height), Image.Resampling.BICUBIC)` gives it.
///
/// # Errors
/// If a side is zero or there are more than [`crate::MAX_PIXELS`] pixels.
pub fn resize(picture: &Rgb, width: usize, height: usize) -> Result<Rgb, Error> {
    resized(picture, width, height).map(Cow::into_owned)
}

/// As [`resize`], without a copy where the size is the same.
///
/// # Errors
/// As [`resize`].
pub(crate) fn resized(picture: &Rgb, width: usize, height: usize) -> Result<Cow<'_, Rgb>, Error> {
    check_size(width, height)?;
    let wider = |picture: &Rgb| {
        check_size(width, picture.height())?;
        Rgb::new(width, picture.height(), across(picture, width))
    };
    let taller = |picture: &Rgb| {
        check_size(picture.width(), height)?;
        Rgb::new(picture.width(), height, down(picture, height))
    };
    Ok(match (picture.width() == width, picture.height() == height) {
        (true, true) => Cow::Borrowed(picture),
        (true, false) => Cow::Owned(taller(picture)?),
        (false, true) => Cow::Owned(wider(picture)?),
        (false, false) if rows_first((picture.width(), picture.height()), (width, height)) => {
            Cow::Owned(wider(&taller(picture)?)?)
        }
        (false, false) => Cow::Owned(taller(&wider(picture)?)?),
    })
}

/// Pillow 13 resamples the height first where it loses more than twice what the width loses (found by comparison over
/// thousands of sizes; earlier versions resample the width first whatever the size).
fn rows_first((from_width, from_height): (usize, usize), (width, height): (usize, usize)) -> bool {
    let loss = |from: usize, to: usize| from as i64 - to as i64;
    height < from_height && loss(from_height, height) > 2 * loss(from_width, width)
}

/// The size (height, width) at which the model looks at a picture: multiples of `factor` near the picture's own sides,
/// with `min_pixels` to `max_pixels` pixels in all, aspect ratio kept (`smart_resize` of Qwen2-VL; Python's rounding).
///
/// # Errors
/// If the aspect ratio is above 200, a side or `factor` is zero, or the size is beyond [`crate::MAX_PIXELS`].
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Result<(usize, usize), Error> {
    check_size(width, height)?;
    if factor == 0 || max_pixels == 0 {
        return Err(Error::Settings(format!("factor {factor} and max_pixels {max_pixels} must be above 0")));
    }
    let ratio = width.max(height) as f64 / width.min(height) as f64;
    if ratio > 200.0 {
        return Err(Error::Aspect { width, height, ratio });
    }
    let (unit, h, w) = (factor as f64, height as f64, width as f64);
    let nearest = |side: f64| (side / unit).round_ties_even() * unit;
    let (mut new_h, mut new_w) = (nearest(h), nearest(w));
    if new_h * new_w > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        new_h = ((h / beta / unit).floor() * unit).max(unit);
        new_w = ((w / beta / unit).floor() * unit).max(unit);
    } else if new_h * new_w < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        new_h = (h * beta / unit).ceil() * unit;
        new_w = (w * beta / unit).ceil() * unit;
    }
    let (new_h, new_w) = (new_h as usize, new_w as usize);
    check_size(new_w, new_h)?;
    Ok((new_h, new_w))
}

#[cfg(test)]
mod tests {
    use super::{resize, smart_resize};
    use crate::{Error, Rgb};

    #[test]
    fn sizes_are_those_of_the_published_processor() {
        // transformers 5.23, smart_resize(height, width, 28, 3136, 200704) and (…, 28, 3136, 12845056).
        for (size, small, large) in [
            ((112, 112), (112, 112), (112, 112)),
            ((42, 70), (56, 56), (56, 56)),
            ((14, 14), (56, 56), (56, 56)),
            ((1, 200), (28, 812), (28, 812)),
            ((683, 1024), (364, 532), (672, 1036)),
            ((2448, 4352), (336, 588), (2436, 4340)),
            ((4000, 6000), (364, 532), (2912, 4368)),
        ] {
            let (h, w) = size;
            assert_eq!(smart_resize(h, w, 28, 3136, 200_704).expect("fits"), small, "{h}x{w}");
            assert_eq!(smart_resize(h, w, 28, 3136, 12_845_056).expect("fits"), large, "{h}x{w}");
        }
    }

    #[test]
    fn a_picture_longer_than_two_hundred_times_its_width_is_refused() {
        assert!(matches!(smart_resize(1, 201, 28, 3136, 200_704), Err(Error::Aspect { .. })));
        assert!(smart_resize(0, 5, 28, 3136, 200_704).is_err());
        assert!(smart_resize(5, 5, 0, 3136, 200_704).is_err());
        assert!(smart_resize(5, 5, 28, usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn the_same_size_changes_nothing_and_a_flat_picture_stays_flat() {
        let picture = Rgb::new(5, 4, (0..60).map(|v| v * 4).collect()).expect("20 pixels");
        assert_eq!(resize(&picture, 5, 4).expect("same"), picture);
        let flat = Rgb::new(9, 7, vec![131; 189]).expect("63 pixels");
        for (width, height) in [(1, 1), (3, 20), (50, 2)] {
            assert!(resize(&flat, width, height).expect("fits").data().iter().all(|&v| v == 131));
        }
    }
}
