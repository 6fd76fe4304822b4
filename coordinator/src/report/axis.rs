//! Round bounds and ticks for a range of numbers.

/// A range of finite numbers with ticks at multiples of 1, 2 or 5 times a power of ten.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
    /// Half-open: tick i is `(first + i) * step`.
    first: f64,
    count: usize,
}

/// No axis reaches further: differences of such numbers stay finite.
const LIMIT: f64 = 1e300;

impl Axis {
    /// Widened to the ticks around the values; `None` where no value can be drawn.
    pub(super) fn around(values: impl IntoIterator<Item = f64>, ticks: u32) -> Option<Self> {
        let (low, high) = bounds(values)?;
        let step = round_step(high - low, ticks);
        Some(Self::between((low / step).floor() * step, (high / step).ceil() * step, step))
    }

    /// The values' own bounds, ticks at whole numbers: for counted steps.
    pub(super) fn counted(values: impl IntoIterator<Item = f64>, ticks: u32) -> Option<Self> {
        let (low, high) = bounds(values)?;
        Some(Self::between(low, high, round_step(high - low, ticks).max(1.0)))
    }

    fn between(low: f64, high: f64, step: f64) -> Self {
        // A thousandth of a step: a bound that is a tick stays one after rounding.
        let first = (low / step - 1e-3).ceil();
        let last = (high / step + 1e-3).floor();
        Self { low, high, step, first, count: (last - first + 1.0).clamp(0.0, 32.0) as usize }
    }

    /// Where the ticks are.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.count).map(|i| (self.first + i as f64) * self.step)
    }

    /// 0 at the low end, 1 at the high end; `None` for what lies outside or is not finite.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        let share = (value - self.low) / (self.high - self.low);
        (-1e-6..=1.0 + 1e-6).contains(&share).then_some(share)
    }

    /// A tick's label: as many digits as tell it from its neighbours.
    pub(super) fn label(&self, tick: f64) -> String {
        let tick = if tick.abs() < self.step * 1e-6 { 0.0 } else { tick };
        let digits = (-self.step.log10()).ceil().max(0.0);
        if tick == 0.0 {
            "0".into()
        } else if digits > 4.0 || tick.abs() >= 1e5 {
            format!("{tick:.1e}")
        } else {
            format!("{tick:.*}", digits as usize)
        }
    }
}

/// Of the finite values; never of zero width.
fn bounds(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let drawn = values.into_iter().filter(|v| v.abs() <= LIMIT);
    let (low, high) = drawn.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return None;
    }
    // Narrower than this and neighbouring ticks are one number.
    let least = (low.abs().max(high.abs()) * 1e-9).max(1e-12);
    if high - low >= least {
        return Some((low, high));
    }
    let around = if low == 0.0 { 0.5 } else { low.abs() * 0.1 };
    Some((low - around, high + around))
}

fn round_step(span: f64, ticks: u32) -> f64 {
    let raw = span / f64::from(ticks.max(1));
    let power = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= raw * 0.999).unwrap_or(10.0);
    factor * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().map(|t| axis.label(t)).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose_the_values() {
        let axis = Axis::around([0.13, 0.87], 4).expect("an axis");
        assert_eq!(labels(&axis), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!((axis.share(0.0), axis.share(1.0)), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn counted_steps_have_whole_ticks_within_their_bounds() {
        assert_eq!(labels(&Axis::counted([1.0, 3.0], 5).expect("an axis")), ["1", "2", "3"]);
        assert_eq!(labels(&Axis::counted([0.0, 60.0], 5).expect("an axis")), ["0", "20", "40", "60"]);
    }

    #[test]
    fn one_value_lies_within_its_axis() {
        for value in [0.0, 1.0, -3.5, 1e-9, 1e17, 1e300] {
            let axis = Axis::around([value], 4).expect("an axis");
            let share = axis.share(value).expect("within");
            assert!(share > 0.0 && share < 1.0, "{value}: {axis:?}");
            assert!((1..=32).contains(&axis.count), "{value}: {axis:?}");
        }
    }

    #[test]
    fn values_that_cannot_be_drawn_make_no_axis_and_no_point() {
        assert_eq!(Axis::around([f64::NAN, f64::INFINITY, f64::MAX], 4), None);
        let axis = Axis::around([1.0, f64::NAN, 2.0, f64::MIN], 4).expect("an axis");
        assert!([f64::NAN, f64::INFINITY, 7.0].iter().all(|v| axis.share(*v).is_none()));
    }

    #[test]
    fn tiny_and_huge_ticks_are_written_with_exponents() {
        assert_eq!(labels(&Axis::around([1e-6, 2e-6], 2).expect("an axis")), ["1.0e-6", "1.5e-6", "2.0e-6"]);
        assert_eq!(labels(&Axis::around([0.0, 1e6], 2).expect("an axis")), ["0", "5.0e5", "1.0e6"]);
    }
}
