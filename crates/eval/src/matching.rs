//! Which prediction belongs to which label.

use std::collections::HashMap;

use crate::{Label, Pair, Prediction};

/// Labels with their predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matching {
    /// (label, prediction) by index, in the labels' order.
    pub matched: Vec<(usize, usize)>,
    /// Labels without a prediction, by index.
    pub missing: Vec<usize>,
    /// Those of `missing` whose base name fits a prediction that is left, but is not unique in both files.
    pub ambiguous: Vec<usize>,
}

/// How paths are compared, first to last: the whole path, then the base name; each as written, then with a
/// video's mosaic `name_0.png` taken for `name.mp4`.
const KEYS: [fn(&str) -> String; 4] =
    [str::to_owned, video, |path| base_name(path).to_owned(), |path| video(base_name(path))];

impl Matching {
    /// Matches by relative path, else by a base name that is unique in both files.
    #[must_use]
    pub fn of(labels: &[Label], predictions: &[Prediction]) -> Self {
        let label_paths: Vec<&str> = labels.iter().map(|l| l.path.as_str()).collect();
        let prediction_paths: Vec<&str> = predictions.iter().map(|p| p.path.as_str()).collect();
        let mut of_label = vec![None; labels.len()];
        let mut taken = vec![false; predictions.len()];
        for key in KEYS {
            let predictions_by_key = index(&prediction_paths, key);
            for (key, labels) in index(&label_paths, key) {
                let (&[label], Some(&[prediction])) =
                    (&labels[..], predictions_by_key.get(&key).map(Vec::as_slice))
                else {
                    continue;
                };
                if of_label[label].is_none() && !taken[prediction] {
                    of_label[label] = Some(prediction);
                    taken[prediction] = true;
                }
            }
        }
        let left: Vec<&str> = prediction_paths
            .iter()
            .zip(&taken)
            .filter(|(_, taken)| !**taken)
            .map(|(path, _)| *path)
            .collect();
        let left = index(&left, |path| video(base_name(path)));
        let mut matching = Self::default();
        for (label, prediction) in of_label.into_iter().enumerate() {
            match prediction {
                Some(prediction) => matching.matched.push((label, prediction)),
                None => {
                    matching.missing.push(label);
                    if left.contains_key(&video(base_name(label_paths[label]))) {
                        matching.ambiguous.push(label);
                    }
                }
            }
        }
        matching
    }

    /// The matched pairs' numbers, in the labels' order.
    #[must_use]
    pub fn pairs(&self, labels: &[Label], predictions: &[Prediction]) -> Vec<Pair> {
        let pair = |&(l, p): &(usize, usize)| Pair { prediction: predictions[p].score, label: labels[l].mos };
        self.matched.iter().map(pair).collect()
    }
}

/// Which paths have a key, by index.
fn index(paths: &[&str], key: fn(&str) -> String) -> HashMap<String, Vec<usize>> {
    let mut index: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, path) in paths.iter().enumerate() {
        index.entry(key(path)).or_default().push(i);
    }
    index
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The video that a mosaic was made of; any other path as it is.
fn video(path: &str) -> String {
    match path.strip_suffix("_0.png") {
        Some(name) => format!("{name}.mp4"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(labels: &[&str], predictions: &[&str]) -> Matching {
        let labels: Vec<Label> = labels
            .iter()
            .map(|path| Label { path: (*path).into(), reference: None, mos: 1.0, std: None })
            .collect();
        let predictions: Vec<Prediction> =
            predictions.iter().map(|path| Prediction { path: (*path).into(), score: 2.0 }).collect();
        Matching::of(&labels, &predictions)
    }

    #[test]
    fn the_relative_path_decides_before_the_base_name() {
        let m = matched(&["a/1.png", "b/1.png"], &["b/1.png", "a/1.png"]);
        assert_eq!(m.matched, [(0, 1), (1, 0)]);
        assert!(m.missing.is_empty());
    }

    #[test]
    fn a_unique_base_name_matches_in_any_folder() {
        let m = matched(&["1.png", "x/2.png"], &["/data/set/1.png", "2.png", "3.png"]);
        assert_eq!(m.matched, [(0, 0), (1, 1)]);
    }

    #[test]
    fn a_base_name_that_is_not_unique_matches_nothing_and_is_told() {
        let m = matched(&["a/1.png", "b/1.png"], &["1.png"]);
        assert_eq!((m.matched.len(), m.missing, m.ambiguous), (0, vec![0, 1], vec![0, 1]));
        let m = matched(&["1.png"], &["a/1.png", "b/1.png"]);
        assert_eq!((m.missing, m.ambiguous), (vec![0], vec![0]));
        let m = matched(&["a/1.png", "b/1.png"], &["a/1.png"]);
        assert_eq!((m.matched, m.missing, m.ambiguous), (vec![(0, 0)], vec![1], vec![]));
    }

    #[test]
    fn a_mosaic_belongs_to_its_video() {
        assert_eq!(matched(&["v/a.mp4"], &["v/a_0.png"]).matched, [(0, 0)]);
        assert_eq!(matched(&["v/a.mp4"], &["frames/a_0.png"]).matched, [(0, 0)]);
        assert_eq!(matched(&["a_0.png"], &["v/a.mp4"]).matched, [(0, 0)]);
        assert_eq!(matched(&["a.mp4", "a_0.png"], &["a_0.png"]).matched, [(1, 0)]);
        assert_eq!(matched(&["a.mp4"], &["a_1.png"]).missing, [0]);
    }

    #[test]
    fn a_prediction_is_used_once() {
        let m = matched(&["a/1.png", "1.png"], &["1.png"]);
        assert_eq!((m.matched, m.missing), (vec![(1, 0)], vec![0]));
    }
}
