//! When a video's frames are on screen.

/// The frames of a video in the order of their display. Ticks are of the stream's own time base.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timeline {
    /// When each frame appears; rising, never empty.
    starts: Vec<i64>,
    /// When the last one ends.
    end: i64,
    /// Seconds a tick.
    tick: f64,
}

impl Timeline {
    /// Frames that appear at `starts`, in any order; the last one stays for `last` ticks, or where that is unknown
    /// as long as the one before it. None where there is no frame.
    pub(crate) fn new(mut starts: Vec<i64>, last: Option<i64>, tick: f64) -> Option<Self> {
        starts.sort_unstable();
        starts.dedup();
        let (&final_start, before) = starts.split_last()?;
        let gap = || before.last().map_or(0, |&previous| final_start.saturating_sub(previous));
        let end = final_start.saturating_add(last.filter(|&ticks| ticks > 0).unwrap_or_else(gap));
        Some(Self { starts, end, tick })
    }

    /// Number of frames.
    pub(crate) fn frames(&self) -> usize {
        self.starts.len()
    }

    /// When a frame appears, ticks.
    pub(crate) fn start(&self, frame: usize) -> i64 {
        self.starts[frame]
    }

    /// When a frame appears, seconds after the first one.
    pub(crate) fn seconds(&self, frame: usize) -> f64 {
        self.ticks_to(self.starts[frame]) as f64 * self.tick
    }

    /// From the first frame's appearance to the last one's end, seconds.
    pub(crate) fn duration(&self) -> f64 {
        self.ticks_to(self.end) as f64 * self.tick
    }

    /// The frames on screen in the middle of each of `count` equal parts of the duration; short videos repeat some.
    pub(crate) fn spread(&self, count: usize) -> Vec<usize> {
        let length = self.ticks_to(self.end);
        let middles = (0..count as i128).map(|part| (2 * part + 1) * length);
        let parts = 2 * count as i128;
        // Compared as products: no rounding, and no overflow whatever the file says.
        let shown =
            |middle: i128| self.starts.partition_point(|&start| self.ticks_to(start) * parts <= middle);
        middles.map(|middle| shown(middle).saturating_sub(1)).collect()
    }

    fn ticks_to(&self, time: i64) -> i128 {
        i128::from(time) - i128::from(self.starts[0])
    }
}

#[cfg(test)]
mod tests {
    use super::Timeline;

    fn of(starts: &[i64], last: Option<i64>) -> Timeline {
        Timeline::new(starts.to_vec(), last, 0.1).expect("frames")
    }

    #[test]
    fn frames_of_a_constant_rate_are_spread_over_the_middles_of_equal_parts() {
        let starts: Vec<i64> = (0..32).rev().map(|i| 1000 + i * 10).collect();
        let timeline = of(&starts, Some(10));
        assert_eq!(timeline.spread(16), (0..16).map(|i| 2 * i + 1).collect::<Vec<_>>());
        assert_eq!(timeline.spread(3), [5, 16, 26]);
        assert!((timeline.duration() - 32.0).abs() < 1e-9);
        assert!((timeline.seconds(31) - 31.0).abs() < 1e-9);
    }

    #[test]
    fn at_a_variable_rate_the_frame_on_screen_counts_and_not_its_number() {
        // Ten quick frames, then one that stays for 90 ticks.
        let starts: Vec<i64> = (0..10).collect();
        let timeline = of(&starts, Some(91));
        assert_eq!(timeline.spread(4), [9, 9, 9, 9]);
        assert_eq!(of(&[0, 90, 91, 92], Some(8)).spread(4), [0, 0, 0, 0]);
        assert_eq!(of(&[0, 10, 60], Some(40)).spread(5), [1, 1, 1, 2, 2]);
    }

    #[test]
    fn a_short_video_repeats_its_frames_and_a_single_frame_is_every_one() {
        assert_eq!(of(&[7], None).spread(16), [0; 16]);
        assert_eq!(of(&[7], None).duration(), 0.0);
        assert_eq!(of(&[0, 10], None).spread(4), [0, 0, 1, 1]);
    }

    #[test]
    fn no_time_overflows_and_equal_times_are_one_frame() {
        let timeline = of(&[i64::MIN, i64::MAX, 0, 0], Some(i64::MAX));
        assert_eq!((timeline.frames(), timeline.spread(2)), (3, vec![0, 1]));
        assert!(timeline.duration() > 0.0);
        assert_eq!(Timeline::new(Vec::new(), None, 0.1), None);
    }

    #[test]
    fn every_frame_shown_lies_within_its_part_of_the_duration() {
        for frames in [16, 17, 31, 250, 1001] {
            let timeline = of(&(0..frames).collect::<Vec<i64>>(), Some(1));
            for (part, frame) in timeline.spread(16).into_iter().enumerate() {
                let share = frame as f64 / frames as f64 * 16.0;
                assert!(share < part as f64 + 1.0 && share + 16.0 / frames as f64 > part as f64);
            }
        }
    }
}
