//! The four-parameter logistic curve between predictions and MOS, by Levenberg and Marquardt's method.

use serde::Serialize;

use crate::Pair;

/// f(x) = (β1 − β2) / (1 + exp(−(x − β3)/|β4|)) + β2, docs/method.md section 10.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Logistic {
    /// β1 to β4.
    pub beta: [f64; 4],
}

/// Why there is no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitFailure {
    /// Four parameters need more points.
    #[error("{0} pairs are too few for four parameters: expected at least 5")]
    TooFew(usize),
    /// Nothing to fit.
    #[error("all predictions or all labels are equal")]
    Constant,
    /// The residual still falls.
    #[error("the fit did not converge in {0} iterations")]
    NotConverged(u32),
    /// The best curve is a flat line.
    #[error("the fitted curve is flat over the predictions")]
    Flat,
}

const ITERATIONS: u32 = 5000;
/// A step that lowers the squared residual by a smaller share ends the fit.
const TOLERANCE: f64 = 1e-8;
/// Nearly straight data have their minimum at infinite β: steps that lower the residual by a smaller share are
/// a curve found, if they go on until the iterations end.
const CREEPING: f64 = 1e-6;
/// A smaller mean squared residual, in variances of the labels, is none.
const EXACT: f64 = 1e-10;

impl Logistic {
    /// The least-squares curve through the pairs.
    ///
    /// # Errors
    /// If there are fewer than five pairs, a side is constant, or the fit does not converge.
    pub fn fit(pairs: &[Pair]) -> Result<Self, FitFailure> {
        if pairs.len() < 5 {
            return Err(FitFailure::TooFew(pairs.len()));
        }
        let (predictions, labels) = Pair::columns(pairs);
        let (Some(x), Some(y)) = (Scale::of(&predictions), Scale::of(&labels)) else {
            return Err(FitFailure::Constant);
        };
        let points: Vec<(f64, f64)> =
            pairs.iter().map(|p| (x.apply(p.prediction), y.apply(p.label))).collect();
        let highest = points.iter().map(|p| p.1).fold(f64::MIN, f64::max);
        let lowest = points.iter().map(|p| p.1).fold(f64::MAX, f64::min);
        let rises = points.iter().map(|(x, y)| x * y).sum::<f64>() >= 0.0;
        let (b1, b2) = if rises { (highest, lowest) } else { (lowest, highest) };
        // A steep and a gentle start: each alone ends in a poor valley on some data.
        let fits = [0.25, 1.0].map(|width| minimise(&points, [b1, b2, 0.0, width]));
        let best = fits.into_iter().flatten().min_by(|a, b| a.1.total_cmp(&b.1));
        let ([b1, b2, b3, b4], _) = best.ok_or(FitFailure::NotConverged(ITERATIONS))?;
        let beta = [y.undo(b1), y.undo(b2), x.undo(b3), b4.abs() * x.size];
        if !beta.iter().all(|b| b.is_finite()) {
            return Err(FitFailure::NotConverged(ITERATIONS));
        }
        Ok(Self { beta })
    }

    /// f(x), MOS units.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        let [b1, b2, b3, b4] = self.beta;
        (b1 - b2) * sigmoid((x - b3) / b4.abs()) + b2
    }
}

fn sigmoid(u: f64) -> f64 {
    // 0/0 where a step-like curve meets its own centre.
    if u.is_nan() { 0.5 } else { 1.0 / (1.0 + (-u).exp()) }
}

/// Moves values to mean 0 and standard deviation 1.
struct Scale {
    mean: f64,
    size: f64,
}

impl Scale {
    fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        if values.iter().all(|&v| v == first) {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().map(|v| v / n).sum::<f64>();
        let size = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        (size > 0.0 && size.is_finite()).then_some(Self { mean, size })
    }

    fn apply(&self, v: f64) -> f64 {
        (v - self.mean) / self.size
    }

    fn undo(&self, v: f64) -> f64 {
        v * self.size + self.mean
    }
}

/// Parameters and squared residual at a minimum; `None` if it is not reached.
fn minimise(points: &[(f64, f64)], start: [f64; 4]) -> Option<([f64; 4], f64)> {
    let mut beta = start;
    let mut damping = 1e-3;
    let mut system = System::at(points, &beta);
    let mut last_share = 1.0;
    for _ in 0..ITERATIONS {
        if system.residual <= EXACT * points.len() as f64 {
            return Some((beta, system.residual));
        }
        let step = system.step(damping)?;
        let next = std::array::from_fn(|i| beta[i] + step[i]);
        let candidate = System::at(points, &next);
        if candidate.residual < system.residual {
            last_share = 1.0 - candidate.residual / system.residual;
            (beta, system) = (next, candidate);
            damping = (damping / 10.0).max(1e-12);
            if last_share < TOLERANCE {
                return Some((beta, system.residual));
            }
        } else if damping > 1e12 {
            // No direction lowers the residual any more.
            return Some((beta, system.residual));
        } else {
            damping *= 10.0;
        }
    }
    (last_share < CREEPING).then_some((beta, system.residual))
}

/// The normal equations of the linearised problem.
struct System {
    residual: f64,
    /// JᵀJ.
    normal: [[f64; 4]; 4],
    /// Jᵀ(y − f).
    gradient: [f64; 4],
}

impl System {
    fn at(points: &[(f64, f64)], beta: &[f64; 4]) -> Self {
        let [b1, b2, b3, b4] = *beta;
        let width = b4.abs().max(f64::MIN_POSITIVE);
        let mut system = Self { residual: 0.0, normal: [[0.0; 4]; 4], gradient: [0.0; 4] };
        for &(x, y) in points {
            let u = (x - b3) / width;
            let s = sigmoid(u);
            let slope = (b1 - b2) * s * (1.0 - s) / width;
            // s(1 − s) is 0 long before u overflows.
            let by_width = if slope == 0.0 { 0.0 } else { -slope * u * b4.signum() };
            let jacobian = [s, 1.0 - s, -slope, by_width];
            let error = y - ((b1 - b2) * s + b2);
            system.residual += error * error;
            for i in 0..4 {
                system.gradient[i] += jacobian[i] * error;
                for j in 0..4 {
                    system.normal[i][j] += jacobian[i] * jacobian[j];
                }
            }
        }
        if system.residual.is_nan() {
            system.residual = f64::INFINITY;
        }
        system
    }

    /// Solves (JᵀJ + damping · diag) step = Jᵀ(y − f) by elimination with pivots.
    fn step(&self, damping: f64) -> Option<[f64; 4]> {
        let mut a = self.normal;
        let mut b = self.gradient;
        for (i, row) in a.iter_mut().enumerate() {
            row[i] += damping * row[i].max(1e-12);
        }
        for column in 0..4 {
            let pivot = (column..4).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
            a.swap(column, pivot);
            b.swap(column, pivot);
            if !a[column][column].is_normal() {
                return None;
            }
            let pivot_row = a[column];
            for row in column + 1..4 {
                let factor = a[row][column] / pivot_row[column];
                for (entry, pivot) in a[row].iter_mut().zip(pivot_row) {
                    *entry -= factor * pivot;
                }
                b[row] -= factor * b[column];
            }
        }
        for row in (0..4).rev() {
            let known: f64 = (row + 1..4).map(|k| a[row][k] * b[k]).sum();
            b[row] = (b[row] - known) / a[row][row];
        }
        b.iter().all(|v| v.is_finite()).then_some(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::tests::{example, pairs};
    use crate::plcc;

    fn fitted_plcc(p: &[Pair]) -> f64 {
        let curve = Logistic::fit(p).expect("a fit");
        let fitted: Vec<Pair> = p.iter().map(|p| Pair { prediction: curve.at(p.prediction), ..*p }).collect();
        plcc(&fitted).expect("a curve")
    }

    #[test]
    fn points_on_a_curve_give_it_back() {
        for beta in [[4.5, 1.2, 3.0, 0.4], [1.2, 4.5, 3.0, 0.4], [90.0, 10.0, -2.0, 5.0]] {
            let truth = Logistic { beta };
            let x: Vec<f64> = (0..40).map(|i| beta[2] + beta[3] * (f64::from(i) / 5.0 - 4.0)).collect();
            let y: Vec<f64> = x.iter().map(|&x| truth.at(x)).collect();
            let fit = Logistic::fit(&pairs(&x, &y)).expect("a fit");
            for (found, expected) in fit.beta.iter().zip(beta) {
                assert!((found - expected).abs() < 1e-4 * expected.abs(), "{fit:?} is not {beta:?}");
            }
        }
    }

    #[test]
    fn the_fit_agrees_with_scipy_on_scattered_points() {
        let r = fitted_plcc(&example());
        assert!((r - 0.8781420478696039).abs() < 1e-5, "{r}");
    }

    #[test]
    fn a_straight_line_is_fitted_too() {
        let x: Vec<f64> = (0..20).map(|i| 1.0 + f64::from(i) / 5.0).collect();
        assert!(fitted_plcc(&pairs(&x, &x)) > 0.9999);
    }

    #[test]
    fn what_cannot_be_fitted_says_why() {
        assert_eq!(Logistic::fit(&pairs(&[1.0; 4], &[1.0; 4])), Err(FitFailure::TooFew(4)));
        assert_eq!(Logistic::fit(&pairs(&[1.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0])), Err(FitFailure::Constant));
        assert_eq!(
            FitFailure::TooFew(4).to_string(),
            "4 pairs are too few for four parameters: expected at least 5"
        );
    }
}
