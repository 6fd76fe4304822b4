//! The parts of PRPO's accuracy: what each sees, and the list of them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::counts::Counts;
use crate::scores::Scores;
use crate::{Media, pairwise, response_balance, score_rank, std_penalty, triplet};

/// Every part, in the order of the sum. A new part is a file and a line here.
pub(crate) const PARTS: &[Part] =
    &[std_penalty::PART, response_balance::PART, pairwise::PART, triplet::PART, score_rank::PART];

/// One part of the accuracy.
pub(crate) struct Part {
    /// Its name in reports.
    pub(crate) name: &'static str,
    /// Whether this kind of sample has it.
    pub(crate) applies: fn(Media) -> bool,
    /// Its factor in the accuracy.
    pub(crate) weight: fn(&settings::Parts) -> f64,
    /// Its values `[B·K]` over one compared group.
    pub(crate) values: fn(&Group<'_>, &mut Counts) -> Vec<f64>,
}

/// The samples that are compared with one another.
pub(crate) struct Group<'a> {
    pub(crate) media: Media,
    /// K.
    pub(crate) responses: usize,
    /// G `[B]`.
    pub(crate) mos: &'a [f64],
    /// v `[B·K]` of n each, sample by sample.
    pub(crate) scores: &'a [Scores],
    /// s `[B·K]`, never NaN, sample by sample.
    pub(crate) predictions: &'a [f64],
    pub(crate) settings: &'a settings::Parts,
}

impl Group<'_> {
    /// B.
    pub(crate) fn samples(&self) -> usize {
        self.mos.len()
    }

    /// s of sample i's response k.
    pub(crate) fn prediction(&self, i: usize, k: usize) -> f64 {
        self.predictions[i * self.responses + k]
    }
}

/// The values of all parts, for reports; each list goes sample by sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// v `[B·K]` of n each (VisualQuality-R1: of one).
    #[serde(serialize_with = "finite_lists")]
    pub scores: Vec<Vec<f64>>,
    /// s `[B·K]`.
    #[serde(serialize_with = "finite_list")]
    pub pred: Vec<f64>,
    /// By part, `[B·K]`; a part that the kind of sample does not have is absent.
    #[serde(flatten)]
    pub values: BTreeMap<&'static str, Vec<f64>>,
}

/// JSON has no infinity: what lies beyond a type's range is written as its largest number.
fn finite(v: &f64) -> f64 {
    v.clamp(-f64::MAX, f64::MAX)
}

fn finite_list<S: Serializer>(list: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(finite))
}

fn finite_lists<S: Serializer>(lists: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lists.iter().map(|list| list.iter().map(finite).collect::<Vec<_>>()))
}
