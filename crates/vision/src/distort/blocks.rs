//! 20 non-eccentricity patches and 23 colour blocks: what is wrong is local.

use super::KADID_PIXELS;
use crate::{Draws, Rgb};

/// Side of a moved patch and the most that it moves along an axis is half of it, pixels.
const PATCH: usize = 16;

/// Side of a colour block, pixels.
const BLOCK: usize = 32;

/// `count` patches for each KADID-10k picture's area are copied over a place nearby.
pub(super) fn patches(picture: &Rgb, count: f64, draws: &mut Draws) -> Rgb {
    let (width, height) = (picture.width(), picture.height());
    let mut data = picture.data().to_vec();
    // A patch's radius stays free around it.
    if width < 3 * PATCH || height < 3 * PATCH {
        return picture.with_data(data);
    }
    for _ in 0..scaled(count, picture) {
        let mut place = |side: usize| PATCH + draws.below((side - 3 * PATCH + 1) as u32) as usize;
        let (x, y) = (place(width), place(height));
        let mut moved = |at: usize| at + draws.below(PATCH as u32 + 1) as usize - PATCH / 2;
        let (to_x, to_y) = (moved(x), moved(y));
        let patch: Vec<u8> = (y..y + PATCH)
            .flat_map(|y| data[(y * width + x) * 3..(y * width + x + PATCH) * 3].to_vec())
            .collect();
        for (row, values) in patch.chunks_exact(PATCH * 3).enumerate() {
            let start = ((to_y + row) * width + to_x) * 3;
            data[start..start + PATCH * 3].copy_from_slice(values);
        }
    }
    picture.with_data(data)
}

/// `count` blocks of one drawn colour each, for each KADID-10k picture's area.
pub(super) fn colour_blocks(picture: &Rgb, count: f64, draws: &mut Draws) -> Rgb {
    let (width, height) = (picture.width(), picture.height());
    let (block_w, block_h) = (BLOCK.min(width), BLOCK.min(height));
    let mut data = picture.data().to_vec();
    for _ in 0..scaled(count, picture) {
        let colour: [u8; 3] = std::array::from_fn(|_| draws.below(256) as u8);
        let x = draws.below((width - block_w + 1) as u32) as usize;
        let y = draws.below((height - block_h + 1) as u32) as usize;
        for row in y..y + block_h {
            for pixel in data[(row * width + x) * 3..(row * width + x + block_w) * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&colour);
            }
        }
    }
    picture.with_data(data)
}

/// So many for this picture's area.
fn scaled(count: f64, picture: &Rgb) -> u64 {
    let area = (picture.width() * picture.height()) as f64;
    (count * area / KADID_PIXELS).round().max(1.0) as u64
}
