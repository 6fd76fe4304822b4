//! `data/kadid_type_level_mos.tsv`: what each level is, and what people thought of it.

use std::sync::OnceLock;

use super::LEVELS;
use crate::Error;

/// One type at one level in KADID-10k.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The type's name.
    pub name: &'static str,
    /// The generator's parameter; its meaning depends on the type.
    pub parameter: f64,
    /// Mean over 81 pictures of the mean opinion score, on KADID-10k's own scale, where pictures span
    /// [`Level::MOS_MIN`] to [`Level::MOS_MAX`].
    pub mos: f64,
    /// Standard deviation over the pictures of the mean opinion score.
    pub std: f64,
}

impl Level {
    /// KADID-10k's lowest mean opinion score.
    pub const MOS_MIN: f64 = 1.0;
    /// KADID-10k's highest mean opinion score.
    pub const MOS_MAX: f64 = 4.93;

    /// The score normalised to [1, 5] by the data set's bounds: docs/method.md section 1.
    pub fn normalised_mos(&self) -> f64 {
        (self.mos - Self::MOS_MIN) / (Self::MOS_MAX - Self::MOS_MIN) * 4.0 + 1.0
    }
}

const TABLE: &str = include_str!("../../data/kadid_type_level_mos.tsv");

struct Row {
    kind: u8,
    number: u8,
    level: Level,
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| TABLE.lines().filter_map(row).collect())
}

/// A line of the table; none for comments and the heading.
fn row(line: &'static str) -> Option<Row> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[kind, name, number, parameter, mos, std, _] = fields.as_slice() else {
        return None;
    };
    Some(Row {
        kind: kind.parse().ok()?,
        number: number.parse().ok()?,
        level: Level {
            name,
            parameter: parameter.parse().ok()?,
            mos: mos.parse().ok()?,
            std: std.parse().ok()?,
        },
    })
}

pub(super) fn level(kind: u8, number: u8) -> Result<&'static Level, Error> {
    debug_assert_eq!(rows().len(), 25 * usize::from(LEVELS));
    let found = rows().iter().find(|row| row.kind == kind && row.number == number);
    found.map(|row| &row.level).ok_or(Error::Level(number))
}

#[cfg(test)]
mod tests {
    use super::{level, rows};
    use crate::{Distortion, Error};

    #[test]
    fn the_table_has_every_type_at_every_level_and_all_scores_are_on_the_scale() {
        assert_eq!(rows().len(), 125);
        for distortion in Distortion::ALL {
            for number in 1..=5 {
                let level = distortion.level(number).expect("in the table");
                assert!((1.0..=5.0).contains(&level.normalised_mos()), "{distortion:?} {number}");
            }
        }
    }

    #[test]
    fn levels_and_types_outside_the_table_are_named_in_the_error() {
        assert!(matches!(level(10, 6), Err(Error::Level(6))));
        assert!(matches!(level(10, 0), Err(Error::Level(0))));
        let error = Distortion::from_kadid(9).expect_err("JPEG 2000 is not built in").to_string();
        assert!(error.contains("type 9") && error.contains("10, 11"), "{error}");
    }

    #[test]
    fn jpegs_last_level_is_quality_four() {
        let level = Distortion::Jpeg.level(5).expect("level 5");
        assert_eq!((level.name, level.parameter, level.mos), ("JPEG", 4.0, 1.3502));
    }
}
