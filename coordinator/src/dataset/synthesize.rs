//! `coordinator dataset synthesize`: a data set with proxy labels, from photographs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use vision::{Distortion, LEVELS, Rgb, encode_png};

use super::card::Card;
use super::manifest::{self, Entry};
use super::parallel;
use super::photos::{self, Source};
use super::plan::{self, Seeds, Settings, Within};
use super::record::{self, Inputs, Present, Record};
use super::scan::{self, Laplacian, LeftOut, Scanned};
use super::split::{self, Part};
use crate::failure::Failure;
use crate::tell;

/// What to make of which photographs.
#[derive(clap::Args)]
pub struct Args {
    /// A folder of photographs (read recursively), or a list: a path a line, SPLIT<TAB>PATH, or tab separated columns
    /// with a heading, of which `path` must be one and `split`, `licence` and `sha256` may be.
    #[arg(long, value_name = "DIR|LIST")]
    photos: PathBuf,
    /// The folder that a list's paths are relative to; the list's own where it is not given.
    #[arg(long, value_name = "DIR")]
    photos_root: Option<PathBuf>,
    /// The data set's folder. It appears when it is whole; a whole one from the same input stays as it is.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// KADID-10k's numbers of the distortion types.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,10,11,12,13,14,19,21,24")]
    kinds: Vec<u8>,
    /// Levels of each type, from 1 (barely seen) to 5 (severe).
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5")]
    levels: Vec<u8>,
    /// Side of a validation or test picture, pixels.
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// Side of a training picture, pixels, out of which training cuts at random; --size where it is not given.
    #[arg(long)]
    train_size: Option<usize>,
    /// Cuts of each distorted photograph: one number, or TRAIN/VALIDATION/TEST.
    #[arg(long, default_value = "6/2/2", value_name = "N|N/N/N")]
    crops_per_image: String,
    /// Places drawn for each cut, of which the one with the most detail is taken.
    #[arg(long, default_value_t = 3)]
    candidates: u32,
    /// Cut training pictures at the same places for every type and level, rather than at places of their own.
    #[arg(long)]
    same_places: bool,
    /// The longer side that photographs are scaled down to before anything is done to them, pixels.
    #[arg(long, default_value_t = 1024)]
    max_side: usize,
    /// Leave photographs out that have less detail than this: nothing can be lost in them. (90 % quantile over tiles of
    /// the standard deviation of the luminance's Laplacian.)
    #[arg(long, default_value_t = 10.0)]
    min_detail: f64,
    /// Shares of the photographs: TRAIN/VALIDATION/TEST.
    #[arg(long, default_value = "60/20/20")]
    split: String,
    /// Every draw derives from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The data set's name, in manifests and reports.
    #[arg(long, default_value = "kadid-proxy")]
    name: String,
    /// Threads; all cores where it is not given. The bytes do not depend on it.
    #[arg(long)]
    threads: Option<usize>,
}

impl Args {
    fn settings(&self) -> Result<Settings, Failure> {
        let crops = match self.crops_per_image.parse() {
            Ok(crops) => [crops; 3],
            Err(_) => split::three("--crops-per-image", &self.crops_per_image)?,
        };
        for &kind in &self.kinds {
            Distortion::from_kadid(kind).map_err(|e| Failure::input(format!("--kinds: {e}")))?;
        }
        if let Some(level) = self.levels.iter().find(|level| !(1..=LEVELS).contains(level)) {
            return Err(Failure::input(format!(
                "--levels: there is no level {level}, expected 1 to {LEVELS}"
            )));
        }
        let train_size = self.train_size.unwrap_or(self.size);
        let within = |what: &str, value: usize, least: usize, most: usize| {
            let fits = (least..=most).contains(&value);
            fits.then_some(())
                .ok_or_else(|| Failure::input(format!("{what} {value}: expected {least} to {most}")))
        };
        within("--size", self.size, 8, self.max_side)?;
        within("--train-size", train_size, self.size, self.max_side)?;
        within("--max-side", self.max_side, 8, 16_384)?;
        within("--candidates", self.candidates as usize, 1, 1000)?;
        within("--crops-per-image", crops[0] as usize, 1, 10_000)?;
        Ok(Settings {
            name: self.name.clone(),
            kinds: sorted(&self.kinds),
            levels: sorted(&self.levels),
            size: self.size,
            train_size,
            crops,
            candidates: self.candidates,
            own_places: !self.same_places,
            max_side: self.max_side,
            min_detail: self.min_detail,
            split: split::three("--split", &self.split)?,
            seed: self.seed,
        })
    }
}

fn sorted(numbers: &[u8]) -> Vec<u8> {
    numbers.iter().copied().collect::<BTreeSet<u8>>().into_iter().collect()
}

/// Makes the data set, or finds that it is there.
///
/// # Errors
/// Wrong input (exit code 2): a photograph that cannot be read, an output folder that holds something else, settings that
/// cannot be. Otherwise (1) if something cannot be written. Either way no half-written output stays.
pub fn run(args: &Args) -> Result<(), Failure> {
    let settings = args.settings()?;
    let threads = args.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    let sources = photos::photographs(&args.photos, args.photos_root.as_deref())?;
    let inputs = inputs(&settings, &sources, threads)?;
    let output = &args.output;
    match record::present(output, &inputs) {
        Present::Same(record) => return report("is there already", &record, output),
        Present::Other(what) => {
            let way_out = "remove it, or give another --output";
            return Err(Failure::input(format!("--output {}: {what}; {way_out}", output.display())));
        }
        Present::Nothing => {}
    }
    let scratch = scratch(output)?;
    let made = Maker { settings: &settings, threads, folder: &scratch }.make(&sources, inputs);
    let published = made.and_then(|record| publish(&scratch, output).map(|()| record));
    if published.is_err() {
        // What is wrong was said; what is left of it must not stay.
        let _ = fs::remove_dir_all(&scratch);
    }
    report("made", &published?, output)
}

fn inputs(settings: &Settings, sources: &[Source], threads: usize) -> Result<Inputs, Failure> {
    let photographs = parallel::map(threads, sources, |source| {
        let path = source.path.display();
        let bytes =
            fs::read(&source.path).map_err(|e| Failure::input(format!("{path}: cannot be read: {e}")))?;
        Ok::<_, Failure>((
            source.name.clone(),
            scan::hex(&Sha256::digest(bytes)),
            source.part.map(|part| part.name().to_owned()),
        ))
    })?;
    Ok(Inputs::new(settings, photographs))
}

fn report(what: &str, record: &Record, output: &Path) -> Result<(), Failure> {
    let [train, validation, test] = record.pictures;
    tell::out(format_args!(
        "dataset {what}: {} photographs, {train} training, {validation} validation and {test} test pictures in {} (digest {})",
        record.photographs,
        output.display(),
        &record.digest[..16.min(record.digest.len())],
    ))
}

/// A fresh folder beside the output, to be renamed to it.
fn scratch(output: &Path) -> Result<PathBuf, Failure> {
    let name = output
        .file_name()
        .ok_or_else(|| Failure::input(format!("--output {}: is no folder's name", output.display())))?;
    let scratch = output.with_file_name(format!(".{}.partial", name.to_string_lossy()));
    let fail =
        |e: std::io::Error| Failure::input(format!("--output {}: cannot be made: {e}", output.display()));
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(fail)?;
    }
    fs::create_dir_all(scratch.join("images")).map_err(fail)?;
    Ok(scratch)
}

fn publish(scratch: &Path, output: &Path) -> Result<(), Failure> {
    fs::rename(scratch, output).map_err(|e| {
        Failure::other(format!("{} cannot be renamed to {}: {e}", scratch.display(), output.display()))
    })
}

struct Maker<'a> {
    settings: &'a Settings,
    threads: usize,
    folder: &'a Path,
}

/// One photograph with its number and part, in the order of numbers.
type Numbered = (String, Scanned, Part);

/// What one photograph came to.
#[derive(Default)]
struct Made {
    entries: Vec<Entry>,
    /// Name under the output folder, SHA-256.
    files: Vec<(String, String)>,
}

impl Maker<'_> {
    fn make(&self, sources: &[Source], inputs: Inputs) -> Result<Record, Failure> {
        let (photographs, left_out) = self.photographs(sources)?;
        let pictures: u64 = photographs.iter().map(|photo| self.pictures_of(photo.2)).sum();
        let bar = ProgressBar::new(pictures);
        bar.set_style(
            ProgressStyle::with_template("dataset {bar:40} {pos}/{len} pictures, {per_sec}, {eta} left")
                .map_err(Failure::other)?,
        );
        let made = parallel::map(self.threads, &photographs, |photo| self.photograph(photo, &bar))?;
        bar.finish_and_clear();
        self.finish(&photographs, &left_out, made, inputs)
    }

    fn pictures_of(&self, part: Part) -> u64 {
        (self.settings.kinds.len() * self.settings.levels.len()) as u64 * u64::from(self.settings.crops(part))
    }

    fn photographs(&self, sources: &[Source]) -> Result<(Vec<Numbered>, Vec<LeftOut>), Failure> {
        let settings = self.settings;
        let scanned = parallel::map(self.threads, sources, |source| scan::scan(source, settings.max_side))?;
        let (chosen, left_out) = scan::choose(scanned, settings.size, settings.min_detail);
        if chosen.is_empty() {
            let reasons: Vec<String> =
                left_out.iter().take(3).map(|out| format!("{}: {}", out.name, out.why)).collect();
            return Err(Failure::input(format!("no photograph can be used: {}", reasons.join("; "))));
        }
        let wishes: Vec<Option<Part>> = chosen.iter().map(|photo| photo.source.part).collect();
        let parts = split::assign(&wishes, settings.split, settings.seed);
        let count = chosen.len();
        let numbered = chosen.into_iter().zip(parts).enumerate();
        Ok((
            numbered.map(|(index, (photo, part))| (plan::number(index, count), photo, part)).collect(),
            left_out,
        ))
    }

    /// Writes every picture that is made of one photograph.
    fn photograph(&self, (number, photo, part): &Numbered, bar: &ProgressBar) -> Result<Made, Failure> {
        let settings = self.settings;
        let (part, crops) = (*part, settings.crops(*part));
        let picture = scan::load(&photo.source.path, settings.max_side)?;
        let side = settings.side(part, picture.width(), picture.height());
        let laplacian = Laplacian::of(&picture);
        let within = Within { width: picture.width(), height: picture.height(), side, laplacian: &laplacian };
        let seeds = Seeds::new(settings.seed, &photo.sha256);
        let places = |cell: u64| seeds.places(cell, &within, crops, settings.candidates);
        let shared = settings.shares_places(part).then(|| places(0));
        let mut made = Made::default();
        match &shared {
            Some(places) => {
                for (crop, &place) in (0..).zip(places) {
                    made.files.push(self.cut(
                        &picture,
                        place,
                        side,
                        &plan::reference_name(number, crop, crops),
                    )?);
                }
            }
            None => made.files.push(self.image(&picture, &plan::reference_name(number, 0, 1))?),
        }
        for &kind in &settings.kinds {
            let distortion = Distortion::from_kadid(kind).map_err(Failure::input)?;
            for &level in &settings.levels {
                let distorted = distortion.apply(&picture, level, seeds.noise()).map_err(Failure::other)?;
                let places = shared.clone().unwrap_or_else(|| places(plan::cell(kind, level)));
                for (crop, place) in (0..).zip(places) {
                    let image = plan::distorted_name(number, kind, level, crop, crops);
                    let reference = match &shared {
                        Some(_) => plan::reference_name(number, crop, crops),
                        None => plan::reference_name(number, 0, 1),
                    };
                    made.files.push(self.cut(&distorted, place, side, &image)?);
                    made.entries.push(Entry {
                        reference,
                        image,
                        level: distortion.level(level).map_err(Failure::input)?,
                    });
                    bar.inc(1);
                }
            }
        }
        Ok(made)
    }

    fn cut(
        &self,
        picture: &Rgb,
        (x, y): (usize, usize),
        side: usize,
        name: &str,
    ) -> Result<(String, String), Failure> {
        self.image(&picture.cut(x, y, side, side).map_err(Failure::other)?, name)
    }

    fn image(&self, picture: &Rgb, name: &str) -> Result<(String, String), Failure> {
        record::write(self.folder, &format!("images/{name}"), &encode_png(picture).map_err(Failure::other)?)
    }

    /// Writes what names the pictures: manifests, score files, card, sums and record.
    fn finish(
        &self,
        photographs: &[Numbered],
        left_out: &[LeftOut],
        made: Vec<Made>,
        inputs: Inputs,
    ) -> Result<Record, Failure> {
        let mut files = Vec::new();
        let mut pictures = [0; 3];
        let mut id = 0;
        for part in Part::ALL {
            let of_part = photographs.iter().zip(&made).filter(|((_, _, p), _)| *p == part);
            let (mut manifest, mut scores) = (String::new(), String::new());
            for entry in of_part.flat_map(|(_, made)| &made.entries) {
                id += 1;
                pictures[part as usize] += 1;
                manifest.push_str(&manifest::line(id, &self.settings.name, entry));
                manifest.push('\n');
                scores.push_str(&manifest::mos_line(entry));
                scores.push('\n');
            }
            files.push(record::write(self.folder, &format!("{}.jsonl", part.name()), manifest.as_bytes())?);
            files.push(record::write(self.folder, &format!("{}_mos.txt", part.name()), scores.as_bytes())?);
        }
        let card = Card { settings: self.settings, photographs, left_out, pictures };
        files.push(record::write(self.folder, "README.md", card.text().as_bytes())?);
        files.extend(made.into_iter().flat_map(|made| made.files));
        let (sums, digest) = record::sums(files);
        record::write(self.folder, record::SUMS, sums.as_bytes())?;
        let record = Record { inputs, photographs: photographs.len(), pictures, digest };
        let text = serde_json::to_string_pretty(&record).map_err(Failure::other)?;
        record::write(self.folder, record::RECORD, text.as_bytes())?;
        Ok(record)
    }
}
