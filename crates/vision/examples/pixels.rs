//! Pixels for a comparison with another program: `tests/python/pixels.py` compares them with Pillow's.
//!
//! Each line of stdin is tab separated: `decode PATH OUT`, `resize PATH WIDTH HEIGHT OUT`, or
//! `patches PATH MIN_PIXELS MAX_PIXELS OUT`. The values go to the file OUT (bytes, or f32 little endian), and
//! stdout gets a line `WIDTH HEIGHT` (of the grid for patches) or `error: …`.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;

use vision::{PatchSettings, decode, patches, resize};

fn main() -> Result<(), Box<dyn Error>> {
    for line in io::stdin().lock().lines() {
        match answer(&line?) {
            Ok((width, height)) => println!("{width} {height}"),
            Err(error) => println!("error: {error}"),
        }
    }
    Ok(())
}

fn answer(line: &str) -> Result<(usize, usize), Box<dyn Error>> {
    let fields: Vec<&str> = line.split('\t').collect();
    match fields.as_slice() {
        ["decode", path, out] => {
            let picture = decode(Path::new(path))?;
            fs::write(out, picture.data())?;
            Ok((picture.width(), picture.height()))
        }
        ["resize", path, width, height, out] => {
            let picture = resize(&decode(Path::new(path))?, width.parse()?, height.parse()?)?;
            fs::write(out, picture.data())?;
            Ok((picture.width(), picture.height()))
        }
        ["patches", path, min, max, out] => {
            let settings = PatchSettings {
                min_pixels: min.parse()?,
                max_pixels: max.parse()?,
                ..PatchSettings::default()
            };
            let cut = patches(&decode(Path::new(path))?, &settings)?;
            fs::write(out, cut.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
            Ok((cut.grid.w, cut.grid.h))
        }
        _ => Err(format!("no request: {line}").into()),
    }
}
