//! The data card: what lies here, where it is from, and what it is not.

use std::fmt::Write;

use super::plan::Settings;
use super::scan::{LeftOut, Scanned};
use super::split::Part;
use vision::Distortion;

/// What the card tells of.
pub(super) struct Card<'a> {
    pub(super) settings: &'a Settings,
    /// Number, photograph, part.
    pub(super) photographs: &'a [(String, Scanned, Part)],
    pub(super) left_out: &'a [LeftOut],
    /// Distorted pictures by part.
    pub(super) pictures: [usize; 3],
}

impl Card<'_> {
    /// Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Settings { name, size, train_size, max_side, seed, candidates, .. } = self.settings;
        writeln!(out, "# {name}: photographs under KADID-10k's distortions, with proxy labels\n")?;
        writeln!(
            out,
            "**The labels are proxy labels.** Nobody rated these pictures. A picture's score is the mean opinion score \
             that KADID-10k's raters gave to the same distortion type and level, averaged over KADID-10k's own 81 pictures \
             and normalised to [1, 5]. Inside KADID-10k that mean predicts a picture's own score with SRCC 0.938; here \
             it knows nothing of the photograph or of the cut.\n"
        )?;
        writeln!(
            out,
            "Made by `coordinator dataset synthesize`: each photograph is scaled to at most {max_side} px (bicubic), \
             distorted as a whole, and cut at native scale; of {candidates} drawn places a cut takes the one with the \
             most detail. Seed {seed}: the same photographs and settings give the same bytes (`dataset.json`, \
             `SHA256SUMS`).\n"
        )?;
        writeln!(out, "| split | photographs | pictures | side, px | cuts of each |\n|---|---|---|---|---|")?;
        for part in Part::ALL {
            let photographs = self.photographs.iter().filter(|(_, _, p)| *p == part).count();
            let side = if part == Part::Train { train_size } else { size };
            let (pictures, crops) = (self.pictures[part as usize], self.settings.crops(part));
            writeln!(out, "| {} | {photographs} | {pictures} | {side} | {crops} |", part.name())?;
        }
        self.files(out)?;
        self.distortions(out)?;
        self.sources(out)
    }

    fn files(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n## Files\n\n\
             - `train.jsonl`, `validation.jsonl`, `test.jsonl`: the pictures with question and score; file names are \
             relative to `images/`.\n\
             - `train_mos.txt`, `validation_mos.txt`, `test_mos.txt`: `reference distorted mos std`, normalised to [1, 5]; std is \
             the spread of the mean opinion scores over KADID-10k's pictures.\n\
             - `images/I01_10_03.png`: photograph 1 under type 10 at level 3, as KADID-10k names it; `.c2` before the ending is \
             the second cut where there are several.\n\
             - `images/I01.png`, `images/I01.c2.png`: the undistorted cut at the same place; where training cuts have places of \
             their own at every type and level, `I01.png` is the whole scaled photograph."
        )
    }

    fn distortions(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n## Distortions\n\n| type | name | level: parameter, proxy score |\n|---|---|---|")?;
        for &kind in &self.settings.kinds {
            let Ok(distortion) = Distortion::from_kadid(kind) else { continue };
            let levels: Vec<String> = self
                .settings
                .levels
                .iter()
                .filter_map(|&number| {
                    let level = distortion.level(number).ok()?;
                    Some(format!("{number}: {}, {:.2}", level.parameter, level.normalised_mos()))
                })
                .collect();
            writeln!(out, "| {kind} | {} | {} |", distortion.name().unwrap_or_default(), levels.join("; "))?;
        }
        Ok(())
    }

    fn sources(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n## Photographs\n\nThe pictures are derived from these photographs and stay under their licences; where none is named, \
             ask where the photograph came from before passing anything on. The scores come from KADID-10k (Lin, Hosu and \
             Saupe, QoMEX 2019), whose own terms hold for them.\n"
        )?;
        writeln!(
            out,
            "| | photograph | split | scaled to | detail | licence | SHA-256 |\n|---|---|---|---|---|---|---|"
        )?;
        for (number, photo, part) in self.photographs {
            let licence = photo.source.licence.as_deref().unwrap_or("not named");
            let Scanned { source, sha256, width, height, detail, .. } = photo;
            let (name, part) = (&source.name, part.name());
            writeln!(
                out,
                "| {number} | {name} | {part} | {width}x{height} | {detail:.1} | {licence} | {sha256} |"
            )?;
        }
        if !self.left_out.is_empty() {
            writeln!(out, "\nNot used:\n")?;
        }
        for LeftOut { name, why } in self.left_out {
            writeln!(out, "- {name}: {why}")?;
        }
        Ok(())
    }
}
