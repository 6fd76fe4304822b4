//! Positions of the multimodal rotary embedding: time, height and width of every token.
//!
//! Text counts on all three axes together. A picture or video spreads over a grid that begins at the next position;
//! text after it begins one after the largest position on any axis. (transformers 5.23 continues after the larger
//! spatial extent only, which differs for videos whose time exceeds their space: its issue 45381.)

use vision::Grid;

use crate::config::Config;
use crate::prompt::PromptError;

/// A picture or video within a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Medium {
    /// Its patches.
    pub grid: Grid,
    /// Seconds between its groups of frames, for a video.
    pub seconds_per_group: Option<f64>,
}

impl From<Grid> for Medium {
    fn from(grid: Grid) -> Self {
        Self { grid, seconds_per_group: None }
    }
}

/// Positions of a prompt's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    /// Time, height, width of each token.
    pub(crate) axes: Vec<[i64; 3]>,
    /// Where a completion begins, on all axes.
    pub(crate) next: i64,
    /// Indices of the tokens that pictures and videos fill, in order.
    pub(crate) slots: Vec<usize>,
}

/// Positions of `ids`, in which each medium's placeholder runs lie in the order of `media`.
///
/// # Errors
/// If placeholders and media do not match in number or length.
pub(crate) fn positions(ids: &[u32], media: &[Medium], config: &Config) -> Result<Positions, PromptError> {
    let mut out = Positions { axes: Vec::with_capacity(ids.len()), next: 0, slots: Vec::new() };
    let mut media = media.iter();
    let mut number = 0;
    let mut at = 0;
    while at < ids.len() {
        let id = ids[at];
        if id != config.image_token && id != config.video_token {
            out.axes.push([out.next; 3]);
            out.next += 1;
            at += 1;
            continue;
        }
        let run = ids[at..].iter().take_while(|&&other| other == id).count();
        number += 1;
        let medium = media.next().ok_or(PromptError::PlaceholderWithoutMedium { number, run })?;
        if medium.seconds_per_group.is_some() != (id == config.video_token) {
            return Err(PromptError::WrongPlaceholder { number });
        }
        let tokens = medium.grid.tokens(config.vision.merge as usize);
        if run < tokens || tokens == 0 {
            return Err(PromptError::TokenCount { number, expected: tokens, found: run });
        }
        out.slots.extend(at..at + tokens);
        out.spread(medium, config);
        at += tokens;
    }
    match media.count() {
        0 => Ok(out),
        left => Err(PromptError::MediumWithoutPlaceholder { media: number + left, placeholders: number }),
    }
}

impl Positions {
    fn spread(&mut self, medium: &Medium, config: &Config) {
        let start = self.next;
        let merge = config.vision.merge as usize;
        // f32, as transformers multiplies.
        let step =
            medium.seconds_per_group.map_or(1.0, |s| config.vision.tokens_per_second as f32 * s as f32);
        for group in 0..medium.grid.t {
            let time = start + (group as f32 * step) as i64;
            for row in 0..medium.grid.h / merge {
                for column in 0..medium.grid.w / merge {
                    let place = [time, start + row as i64, start + column as i64];
                    self.next = self.next.max(place.into_iter().max().unwrap_or(start) + 1);
                    self.axes.push(place);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_config;

    const IMAGE: Grid = Grid { t: 1, h: 4, w: 6 };

    fn of(ids: &[u32], media: &[Medium]) -> Result<Positions, PromptError> {
        positions(ids, media, &tiny_config())
    }

    #[test]
    fn text_after_a_picture_starts_after_its_larger_side() {
        let image = tiny_config().image_token;
        let ids = [&[1, 2][..], &[image; 6], &[3]].concat();
        let got = of(&ids, &[IMAGE.into()]).expect("fits");
        assert_eq!(got.axes[1], [1; 3]);
        assert_eq!(got.axes[2..8], [[2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4]]);
        assert_eq!((got.axes[8], got.next), ([5; 3], 6));
        assert_eq!(got.slots, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn text_after_a_video_starts_after_its_largest_position_on_any_axis() {
        let video = tiny_config().video_token;
        let medium = Medium { grid: Grid { t: 3, h: 2, w: 4 }, seconds_per_group: Some(1.1) };
        let ids = [&[video; 6][..], &[3]].concat();
        let got = of(&ids, &[medium]).expect("fits");
        // 4 positions a second × 1.1 s: groups at 0, 4.4 and 8.8.
        let times: Vec<i64> = got.axes[..6].iter().map(|p| p[0]).collect();
        assert_eq!(times, [0, 0, 4, 4, 8, 8]);
        assert_eq!(got.axes[6], [9; 3]);
    }

    #[test]
    fn two_pictures_side_by_side_are_two() {
        let image = tiny_config().image_token;
        let got = of(&[image; 12], &[IMAGE.into(), IMAGE.into()]).expect("fits");
        assert_eq!(got.axes[6], [3, 3, 3]);
    }

    #[test]
    fn placeholders_that_do_not_match_the_pictures_are_errors() {
        let image = tiny_config().image_token;
        assert!(matches!(
            of(&[image; 5], &[IMAGE.into()]),
            Err(PromptError::TokenCount { expected: 6, found: 5, .. })
        ));
        assert!(matches!(
            of(&[image; 7], &[IMAGE.into()]),
            Err(PromptError::PlaceholderWithoutMedium { run: 1, .. })
        ));
        assert!(matches!(of(&[1], &[IMAGE.into()]), Err(PromptError::MediumWithoutPlaceholder { .. })));
        let video = tiny_config().video_token;
        assert!(matches!(of(&[video; 6], &[IMAGE.into()]), Err(PromptError::WrongPlaceholder { .. })));
    }
}
