//! T: responses to the same sample should agree aspect by aspect.

use std::cmp::Ordering;

use crate::Media;
use crate::counts::Counts;
use crate::parts::{Group, Part};

pub(crate) const PART: Part =
    Part { name: "response_balance", applies: |_| true, weight: |p| p.response_balance, values };

/// How close the low and the high response of a triple must be to the middle one, strictly.
const WITHIN: f64 = 0.05;

/// `λ · gain / (C(K−1,2) · D)`, eq. T in docs/method.md section 2; 0 where K < 3.
fn values(group: &Group<'_>, counts: &mut Counts) -> Vec<f64> {
    let k = group.responses;
    let aspects = match group.media {
        Media::Image => (group.settings.balance_aspects as usize).min(group.media.aspects()),
        Media::Video => group.media.aspects(),
    };
    if k < 3 {
        counts.without_balance += group.samples() as u64;
    }
    if k < 3 || aspects == 0 {
        return vec![0.0; group.scores.len()];
    }
    let triples_of_one = ((k - 1) * (k - 2) / 2) as f64;
    let factor = group.settings.response_balance_lambda / (triples_of_one * aspects as f64);
    let mut values = Vec::with_capacity(group.scores.len());
    for sample in group.scores.chunks(k) {
        let mut gain = vec![0u64; k];
        for aspect in 0..aspects {
            let column: Vec<f64> = sample.iter().map(|s| s.values[aspect]).collect();
            add_gains(&column, &mut gain);
        }
        values.extend(gain.into_iter().map(|g| factor * g as f64));
    }
    values
}

/// Adds every triple's gains over one aspect: 1 to the middle response, 1 to the low and the high one each
/// if close to it. Equal values are exchangeable: a triple's gains do not depend on which counts as the middle.
fn add_gains(column: &[f64], gain: &mut [u64]) {
    let k = column.len();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| column[a].partial_cmp(&column[b]).unwrap_or(Ordering::Equal));
    for (p, &low) in order.iter().enumerate() {
        gain[low] += (p * (k - 1 - p)) as u64;
        for (q, &high) in order.iter().enumerate().skip(p + 1) {
            if !close(column[low], column[high]) {
                break;
            }
            // `low` with `high` as its middle, one triple for each response above; and the other way round.
            gain[low] += (k - 1 - q) as u64;
            gain[high] += p as u64;
        }
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() < WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, triple by triple.
    fn by_triples(column: &[f64]) -> Vec<u64> {
        let k = column.len();
        let mut gain = vec![0; k];
        for a in 0..k {
            for b in a + 1..k {
                for c in b + 1..k {
                    let mut triple = [a, b, c];
                    triple.sort_by(|&x, &y| column[x].total_cmp(&column[y]));
                    let [low, middle, high] = triple;
                    gain[middle] += 1;
                    gain[low] += u64::from(close(column[low], column[middle]));
                    gain[high] += u64::from(close(column[high], column[middle]));
                }
            }
        }
        gain
    }

    #[test]
    fn sorted_gains_equal_those_of_every_triple() {
        for column in [
            vec![1.0, 1.04, 1.08, 3.0, 2.99],
            vec![2.0, 2.0, 2.0],
            vec![1.0, 2.0, 3.0],
            vec![4.0, 1.0, 4.0, 1.0, 4.03, 4.05],
            vec![f64::INFINITY, 1.0, f64::INFINITY, 2.0],
            vec![3.0, 3.05, 3.1, 3.02, 3.07, 3.09, 1.0],
        ] {
            let mut gain = vec![0; column.len()];
            add_gains(&column, &mut gain);
            assert_eq!(gain, by_triples(&column), "{column:?}");
        }
    }
}
