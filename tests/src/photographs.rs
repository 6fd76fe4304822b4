//! Pictures that stand for photographs: edges, gradients and texture, drawn by integers, the same on every machine.

use std::fs;
use std::path::Path;

use vision::{Rgb, encode_png};

/// Pixels on a side.
const SIDE: usize = 320;

/// Writes `count` of them into `folder`, which is made: `photo-0.png` and so on.
pub fn write(folder: &Path, count: u64) {
    fs::create_dir_all(folder).expect("a folder for photographs");
    for number in 0..count {
        let png = encode_png(&picture(number)).expect("a picture encodes");
        fs::write(folder.join(format!("photo-{number}.png")), png).expect("a photograph is written");
    }
}

/// Tiles whose size, tones and grain depend on `number`.
fn picture(number: u64) -> Rgb {
    let tile = 9 + 5 * number;
    let mut data = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE as u64 {
        for x in 0..SIDE as u64 {
            let place = (x / tile) << 20 | (y / (tile + 3)) << 8 | number;
            let grain = mixed(x << 32 | y << 8 | number) % 40;
            let tone = 40 + mixed(place) % 120 + (x + y) / 16 + grain;
            data.extend([0, 11, 23].map(|shift| (tone + shift * (number % 3)).min(255) as u8));
        }
    }
    Rgb::new(SIDE, SIDE, data).expect("as many bytes as pixels")
}

/// SplitMix64's finaliser: neighbouring inputs give unrelated outputs.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
