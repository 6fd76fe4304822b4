//! Every distortion at every level: the same bytes for a seed, worse with the level, harmless on tiny pictures.

use sha2::{Digest, Sha256};
use vision::{Distortion, LEVELS, Rgb};

/// Something like a photograph: smooth shading, an edge, texture and saturated colours.
fn scene(width: usize, height: usize) -> Rgb {
    let data = (0..width * height).flat_map(|i| {
        let (x, y) = (i % width, i / width);
        let texture = (x * x * 3 + y * 17 + x * y) % 41;
        let edge = if x + y > (width + height) / 2 { 60 } else { 0 };
        [
            (40 + x * 120 / width + edge) as u8,
            (30 + y * 130 / height + texture) as u8,
            (200 - x * 150 / width) as u8,
        ]
    });
    Rgb::new(width, height, data.collect()).expect("sized")
}

fn error(a: &Rgb, b: &Rgb) -> f64 {
    let squares = a.data().iter().zip(b.data()).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>() / a.data().len() as f64
}

#[test]
fn a_seed_gives_the_recorded_bytes() {
    let scene = scene(90, 70);
    let mut all = Sha256::new();
    for distortion in Distortion::ALL {
        for level in 1..=LEVELS {
            let distorted = distortion.apply(&scene, level, 42).expect("applies");
            assert_eq!((distorted.width(), distorted.height()), (90, 70));
            assert_eq!(
                distorted,
                distortion.apply(&scene, level, 42).expect("applies"),
                "{distortion:?} {level}"
            );
            all.update(distorted.data());
        }
    }
    let digest: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    // Recorded from the first version: a change of it changes every data set made.
    assert_eq!(digest, "2f524cf4c698cf24535710cc225c5c45b55edc8cb060bb86c0992513c8aeef71");
}

#[test]
fn a_higher_level_is_further_from_the_picture() {
    let scene = scene(256, 192);
    for distortion in Distortion::ALL {
        // Mean shift and saturation go through neutral; blocks and patches are few; pixels keep or miss a texture's phase.
        match distortion {
            Distortion::MeanShift | Distortion::SaturationHsv | Distortion::Pixelate => continue,
            Distortion::NonEccentricityPatch | Distortion::ColourBlock => continue,
            _ => {}
        }
        let errors: Vec<f64> = (1..=LEVELS)
            .map(|level| error(&scene, &distortion.apply(&scene, level, 7).expect("applies")))
            .collect();
        assert!(errors.is_sorted() && errors[4] > errors[0], "{distortion:?}: {errors:?}");
    }
}

#[test]
fn mildest_blurs_change_nothing_and_mean_shifts_middle_neither() {
    let scene = scene(64, 64);
    for (distortion, level) in
        [(Distortion::GaussianBlur, 1), (Distortion::MotionBlur, 1), (Distortion::MeanShift, 3)]
    {
        assert_eq!(distortion.apply(&scene, level, 1).expect("applies"), scene, "{distortion:?}");
    }
}

#[test]
fn seeds_types_and_levels_draw_apart() {
    let grey = Rgb::new(64, 64, vec![128; 64 * 64 * 3]).expect("sized");
    let noise = |level, seed| Distortion::WhiteNoise.apply(&grey, level, seed).expect("applies");
    assert_ne!(noise(3, 1), noise(3, 2));
    let sign = |p: &Rgb| p.data().iter().map(|&v| v > 128).collect::<Vec<_>>();
    assert_ne!(sign(&noise(3, 1)), sign(&noise(5, 1)));
}

#[test]
fn tiny_pictures_can_be_distorted_too() {
    for (width, height) in [(1, 1), (1, 40), (40, 1), (3, 2), (31, 33)] {
        for distortion in Distortion::ALL {
            for level in [1, 5] {
                let distorted = distortion.apply(&scene(width, height), level, 3).expect("applies");
                assert_eq!((distorted.width(), distorted.height()), (width, height), "{distortion:?}");
            }
        }
    }
    assert!(Distortion::Jpeg.apply(&scene(8, 8), 0, 1).is_err());
    assert!(Distortion::Jpeg.apply(&scene(8, 8), 6, 1).is_err());
}
