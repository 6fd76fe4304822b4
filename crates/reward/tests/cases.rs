//! The cases for which the published code has no number, and the options.

use reward::{Batch, Counts, Media, Scored, score};
use settings::{Misordered, Parts, Reward};

fn scored(media: Media, responses: usize, mos: &[f64], texts: &[&str], settings: &Reward) -> Scored {
    let completions: Vec<String> = texts.iter().map(|t| (*t).into()).collect();
    score(Batch { media, responses, mos, completions: &completions }, settings).expect("a batch")
}

fn image(responses: usize, mos: &[f64], texts: &[&str]) -> Scored {
    scored(Media::Image, responses, mos, texts, &Reward::default())
}

#[test]
fn a_lone_sample_has_no_pairwise_and_no_triplet_part() {
    let scored = image(3, &[3.0], &["2", "3", "4"]);
    assert_eq!(scored.parts.values["pairwise"], [0.0; 3]);
    assert_eq!(scored.parts.values["triplet"], [0.0; 3]);
    // Alike aspects cost 0.25; the middle response gains all that it can: 0.5 · 1; S is exp(−1/4), 1, exp(−2/4).
    let s = [(-0.5f64).exp(), 1.0, (-0.25f64).exp()];
    let t = [0.0, 0.5, 0.0];
    for k in 0..3 {
        let expected = (-0.25 + 0.5 * t[k] + s[k]) / 3.0;
        assert!((scored.accuracy[k] - expected).abs() < 1e-12, "{k}: {} {expected}", scored.accuracy[k]);
    }
    assert_eq!(scored.counts, Counts { padded: 3, without_pair: 1, ..Counts::default() });
}

#[test]
fn two_samples_have_no_triplet_part_and_two_responses_no_balance() {
    let scored = image(2, &[2.0, 4.0], &["2", "1", "", "4"]);
    assert_eq!(scored.parts.values["triplet"], [0.0; 4]);
    assert_eq!(scored.parts.values["response_balance"], [0.0; 4]);
    assert!(scored.parts.values["pairwise"].iter().all(|&w| w > 0.0));
    let counts =
        Counts { padded: 3, numberless: 1, without_triplet: 2, without_balance: 2, ..Counts::default() };
    assert_eq!(scored.counts, counts);
}

#[test]
fn exact_predictions_of_equal_mos_earn_the_whole_pairwise_part() {
    let scored = image(1, &[3.0, 3.0], &["3", "no number"]);
    assert_eq!(scored.parts.values["pairwise"], [1.0; 2]);
    assert_eq!(scored.counts.degenerate_pairs, 2);
}

#[test]
fn a_misordered_pair_earns_nothing_where_the_option_says_so() {
    let mut settings = Reward::default();
    let mut w = |misordered| {
        settings.parts.misordered = misordered;
        scored(Media::Video, 1, &[2.0, 4.0], &["4", "2"], &settings).parts.values["pairwise"].clone()
    };
    assert_eq!(w(Misordered::Published), [(2.0f64 / 3.0).sqrt(); 2]);
    assert_eq!(w(Misordered::Zero), [0.0; 2]);
}

#[test]
fn the_score_rank_and_the_division_by_three_go_together() {
    let texts = ["2", "1", "3", "4"];
    let parts = Parts { score_rank: 0.0, ..Parts::default() };
    let with = image(2, &[2.0, 4.0], &texts);
    let without = scored(Media::Image, 2, &[2.0, 4.0], &texts, &Reward { parts, ..Reward::default() });
    for k in 0..4 {
        let expected = 3.0 * with.accuracy[k] - with.parts.values["rank"][k];
        assert!((without.accuracy[k] - expected).abs() < 1e-12);
    }
}

#[test]
fn the_balance_looks_at_as_many_aspects_as_it_is_told() {
    let texts = ["1\n1\n1\n1\n5", "2\n2\n2\n2\n2", "3\n3\n3\n3\n1"];
    let t = |balance_aspects| {
        let parts = Parts { balance_aspects, ..Parts::default() };
        let settings = Reward { parts, ..Reward::default() };
        scored(Media::Image, 3, &[2.0], &texts, &settings).parts.values["response_balance"].clone()
    };
    assert_eq!(t(4), [0.0, 0.5, 0.0]);
    assert_eq!(t(5), [0.0, 0.5, 0.0]);
    assert_eq!(t(99), t(5));
    assert_eq!(t(0), [0.0; 3]);
}

#[test]
fn the_report_writes_numbers_where_a_mean_overflows() {
    let huge = "9".repeat(400);
    let scored = image(1, &[2.0, 4.0], &[&huge, "3"]);
    assert_eq!(scored.parts.pred[0], f64::INFINITY);
    let json = serde_json::to_value(&scored.parts).expect("JSON");
    assert_eq!(json["pred"][0].as_f64(), Some(f64::MAX));
    assert_eq!(json["scores"][0][4].as_f64(), Some(f64::MAX));
    assert_eq!(json["rank"][1].as_f64(), Some(scored.parts.values["rank"][1]));
    assert_eq!(scored.counts.overflowed, 1);
}
