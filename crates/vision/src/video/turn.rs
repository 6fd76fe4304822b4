//! Which way up a video is shown.

use crate::Rgb;

/// How stored frames are turned before they are shown: by right angles, after which they may be mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Rows and columns change places.
    transpose: bool,
    /// Left and right change places, after the transposition.
    mirror: bool,
    /// Top and bottom change places, after the transposition.
    upend: bool,
}

impl Turn {
    /// What a container's display matrix asks for: nine 32-bit numbers in the machine's order, row by row, a point
    /// (x, y) being shown at (a·x + c·y, b·x + d·y). Other angles than right ones go to the nearest right one.
    pub(crate) fn of_matrix(bytes: &[u8]) -> Self {
        let numbers: Vec<i64> =
            bytes.as_chunks::<4>().0.iter().map(|number| i64::from(i32::from_ne_bytes(*number))).collect();
        let [a, b, _, c, d, ..] = numbers[..] else { return Self::default() };
        let straight = a.abs() + d.abs() >= b.abs() + c.abs();
        let (x, y) = if straight { (a, d) } else { (c, b) };
        Self { transpose: !straight, mirror: x < 0, upend: y < 0 }
    }

    /// Degrees clockwise, and whether it is mirrored besides.
    pub(crate) fn degrees(self) -> (u16, bool) {
        match (self.transpose, self.mirror, self.upend) {
            (false, false, false) => (0, false),
            (true, true, false) => (90, false),
            (false, true, true) => (180, false),
            (true, false, true) => (270, false),
            (false, true, false) => (0, true),
            (false, false, true) => (180, true),
            (true, false, false) => (90, true),
            (true, true, true) => (270, true),
        }
    }

    /// The frame as it is shown.
    pub(crate) fn upright(self, frame: Rgb) -> Result<Rgb, crate::Error> {
        if self == Self::default() {
            return Ok(frame);
        }
        let (width, height) = (frame.width(), frame.height());
        let (new_width, new_height) = if self.transpose { (height, width) } else { (width, height) };
        let mut data = Vec::with_capacity(frame.data().len());
        for y in 0..new_height {
            let y = if self.upend { new_height - 1 - y } else { y };
            for x in 0..new_width {
                let x = if self.mirror { new_width - 1 - x } else { x };
                let (row, column) = if self.transpose { (x, y) } else { (y, x) };
                let place = (row * width + column) * 3;
                data.extend_from_slice(&frame.data()[place..place + 3]);
            }
        }
        Rgb::new(new_width, new_height, data)
    }
}

#[cfg(test)]
mod tests {
    use super::Turn;
    use crate::Rgb;

    /// A matrix in 16.16 fixed point.
    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Turn {
        let one = 1 << 16;
        let numbers = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
        Turn::of_matrix(&numbers.map(i32::to_ne_bytes).concat())
    }

    fn shown(turn: Turn) -> (usize, Vec<u8>) {
        // 1 2 3
        // 4 5 6
        let frame = Rgb::new(3, 2, (1..=6).flat_map(|v| [v; 3]).collect()).expect("6 pixels");
        let upright = turn.upright(frame).expect("fits");
        (upright.width(), upright.data().iter().step_by(3).copied().collect())
    }

    #[test]
    fn right_angles_turn_clockwise_as_players_turn_them() {
        // The matrices that phones write (QuickTime's file format, "Matrices").
        let cases = [
            (matrix(1, 0, 0, 1), 0, 3, [1, 2, 3, 4, 5, 6]),
            (matrix(0, 1, -1, 0), 90, 2, [4, 1, 5, 2, 6, 3]),
            (matrix(-1, 0, 0, -1), 180, 3, [6, 5, 4, 3, 2, 1]),
            (matrix(0, -1, 1, 0), 270, 2, [3, 6, 2, 5, 1, 4]),
        ];
        for (turn, degrees, width, pixels) in cases {
            assert_eq!(turn.degrees(), (degrees, false));
            assert_eq!(shown(turn), (width, pixels.to_vec()), "{degrees}");
        }
    }

    #[test]
    fn mirrors_are_shown_mirrored() {
        assert_eq!(shown(matrix(-1, 0, 0, 1)), (3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(shown(matrix(1, 0, 0, -1)), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(shown(matrix(0, 1, 1, 0)), (2, vec![1, 4, 2, 5, 3, 6]));
    }

    #[test]
    fn what_is_no_matrix_turns_nothing() {
        assert_eq!(Turn::of_matrix(&[1, 2, 3]), Turn::default());
        assert_eq!(Turn::of_matrix(&[0; 36]), Turn::default());
        let extreme = [i32::MIN; 9].map(i32::to_ne_bytes).concat();
        assert_eq!(Turn::of_matrix(&extreme).degrees().0 % 90, 0);
    }
}
