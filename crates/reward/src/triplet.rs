//! Y: three samples ordered as people order them.

use settings::Columns;

use crate::counts::Counts;
use crate::pairwise::ascending;
use crate::parts::{Group, Part};

pub(crate) const PART: Part = Part { name: "triplet", applies: |_| true, weight: |p| p.triplet, values };

/// Eq. Y in docs/method.md section 2; 0 where fewer than two other samples exist.
///
/// A column holds a response of every sample: those of one index, or with `triplet_columns: sorted` of one rank.
/// A triple (i, a, b), a < b, looks at `i > a`, `i > b` and `a > b`. Over all pairs (a, b) of others, each
/// `i > a` occurs B − 2 times and each `a > b` once, so matches are counted by pair instead of by triple.
fn values(group: &Group<'_>, counts: &mut Counts) -> Vec<f64> {
    let (samples, k) = (group.samples(), group.responses);
    let mut values = vec![0.0; group.predictions.len()];
    if samples < 3 {
        // A lone sample is counted by W.
        counts.without_triplet += if samples == 2 { 2 } else { 0 };
        return values;
    }
    let pairs_of_others = (samples - 1) * (samples - 2) / 2;
    let order: Vec<Vec<usize>> = match group.settings.triplet_columns {
        Columns::Index => vec![(0..k).collect(); samples],
        Columns::Sorted => group.predictions.chunks(k).map(ascending).collect(),
    };
    for column in 0..k {
        let matches = |x: usize, y: usize| {
            let predicted = group.prediction(x, order[x][column]) > group.prediction(y, order[y][column]);
            u64::from(predicted == (group.mos[x] > group.mos[y]))
        };
        let in_order = |x: usize, y: usize| matches(x.min(y), x.max(y));
        let all: u64 = (0..samples).flat_map(|a| (a + 1..samples).map(move |b| matches(a, b))).sum();
        for i in 0..samples {
            let others = || (0..samples).filter(move |&a| a != i);
            let as_anchor: u64 = others().map(|a| matches(i, a)).sum();
            let without_anchor = all - others().map(|a| in_order(i, a)).sum::<u64>();
            let matched = as_anchor * (samples as u64 - 2) + without_anchor;
            values[i * k + order[i][column]] = matched as f64 / (3 * pairs_of_others) as f64;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Media;

    /// The definition, triple by triple.
    fn by_triples(s: &[f64], g: &[f64], i: usize) -> f64 {
        let mut shares = Vec::new();
        for a in (0..s.len()).filter(|&a| a != i) {
            for b in (a + 1..s.len()).filter(|&b| b != i) {
                let pairs = [(i, a), (a, b), (i, b)];
                let matched = pairs.iter().filter(|&&(x, y)| (s[x] > s[y]) == (g[x] > g[y])).count();
                shares.push(matched as f64 / 3.0);
            }
        }
        shares.iter().sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn sorted_columns_compare_responses_of_one_rank_and_give_the_value_back_to_it() {
        let (mos, predictions) = ([1.0, 2.0, 3.0], [1.5, 1.0, 2.0, 2.5, 3.0, 3.5]);
        let value = |triplet_columns, predictions: &[f64]| {
            let settings = settings::Parts { triplet_columns, ..settings::Parts::default() };
            let media = Media::Image;
            let group =
                Group { media, responses: 2, mos: &mos, scores: &[], predictions, settings: &settings };
            values(&group, &mut Counts::default())
        };
        assert_eq!(value(Columns::Sorted, &predictions), [1.0; 6]);
        // Ranks: (1.0, 2.4, 3.0) and (2.5, 2.5, 3.5): the second sample's is not above the first's there.
        let tied = [2.5, 1.0, 2.4, 2.5, 3.0, 3.5];
        assert_eq!(value(Columns::Sorted, &tied), [1.0, 1.0, 1.0, 2.0 / 3.0, 1.0, 1.0]);
        // A response of index 1 moves to rank 0: by index it stands beside others than by rank.
        let crossed = [4.0, 1.0, 2.0, 2.5, 3.0, 3.5];
        assert_ne!(value(Columns::Sorted, &crossed), value(Columns::Index, &crossed));
        assert_eq!(value(Columns::Sorted, &crossed)[1], 1.0);
    }

    #[test]
    fn counting_by_pairs_equals_counting_by_triples() {
        let s = [1.0, 3.0, 3.0, 2.0, f64::INFINITY, 2.5, f64::INFINITY];
        let g = [2.0, 3.0, 1.0, 2.0, 4.0, 4.0, 5.0];
        let settings = settings::Parts::default();
        for samples in 3..=s.len() {
            let group = Group {
                media: Media::Image,
                responses: 1,
                mos: &g[..samples],
                scores: &[],
                predictions: &s[..samples],
                settings: &settings,
            };
            for (i, value) in values(&group, &mut Counts::default()).into_iter().enumerate() {
                let expected = by_triples(&s[..samples], &g[..samples], i);
                assert!((value - expected).abs() < 1e-12, "B = {samples}, i = {i}: {value} and {expected}");
            }
        }
    }
}
