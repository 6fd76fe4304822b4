use super::*;

fn logits(rows: &[&[f32]]) -> Tensor {
    let flat: Vec<f32> = rows.concat();
    Tensor::from_slice(&flat).view([rows.len() as i64, -1])
}

fn filters(banned: &[u32], ends: &[u32]) -> Filters {
    Filters::new(banned, ends, Device::Cpu)
}

fn ids(
    logits: &Tensor,
    sampling: &Sampling,
    filters: &Filters,
    spans: &[Span<'_>],
    draws: &[f64],
) -> Vec<i64> {
    let draws = sampling.is_random().then(|| Tensor::from_slice(draws));
    let [here, there] = [choose, choose_there].map(|choose| {
        let chosen = choose(logits, sampling, filters, spans, draws.as_ref());
        let ids = Vec::<i64>::try_from(chosen.ids).expect("i64");
        (ids, Vec::<f32>::try_from(chosen.logprobs).expect("f32"))
    });
    assert_eq!(here.0, there.0, "the CPU's own way and tensor operations choose alike");
    assert!(here.1.iter().zip(&there.1).all(|(a, b)| (a - b).abs() < 1e-5), "{:?}, {:?}", here.1, there.1);
    here.0
}

/// What 4,000 evenly spread draws give, as shares.
fn shares(row: &[f32], sampling: &Sampling) -> Vec<f64> {
    let n = 4_000;
    let draws: Vec<f64> = (0..n).map(|i| (f64::from(i) + 0.5) / f64::from(n)).collect();
    let logits = logits(&[row]).repeat([i64::from(n), 1]);
    let mut counts = vec![0.0; row.len()];
    for id in ids(&logits, sampling, &filters(&[], &[]), &[], &draws) {
        counts[id as usize] += 1.0 / f64::from(n);
    }
    counts
}

fn assert_near(got: &[f64], expected: &[f64]) {
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?} is not {expected:?}");
}

/// Logits of the distribution 0.1, 0.4, 0.2, 0.3.
fn row() -> [f32; 4] {
    [0.1, 0.4, 0.2, 0.3].map(f32::ln)
}

fn plain() -> Sampling {
    Sampling { top_k: 0, ..Sampling::default() }
}

#[test]
fn draws_follow_the_softmax() {
    assert_near(&shares(&row(), &plain()), &[0.1, 0.4, 0.2, 0.3]);
}

#[test]
fn temperature_sharpens_it() {
    let squares = [0.01, 0.16, 0.04, 0.09];
    let expected: Vec<f64> = squares.iter().map(|p| p / 0.3).collect();
    assert_near(&shares(&row(), &Sampling { temperature: 0.5, ..plain() }), &expected);
}

#[test]
fn top_k_keeps_the_likeliest() {
    assert_near(&shares(&row(), &Sampling { top_k: 2, ..plain() }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
}

#[test]
fn top_p_keeps_what_first_reaches_the_mass() {
    assert_near(&shares(&row(), &Sampling { top_p: 0.65, ..plain() }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
    assert_near(
        &shares(&row(), &Sampling { top_p: 0.75, ..plain() }),
        &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0],
    );
    assert_near(&shares(&row(), &Sampling { top_p: 1e-9, ..plain() }), &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn min_p_is_a_share_of_the_likeliest() {
    assert_near(&shares(&row(), &Sampling { min_p: 0.6, ..plain() }), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
}

#[test]
fn greedy_takes_the_first_of_equals() {
    let greedy = Sampling { temperature: 0.0, ..plain() };
    assert_eq!(
        ids(&logits(&[&[1.0, 3.0, 3.0], &[2.0, 0.0, 1.0]]), &greedy, &filters(&[], &[]), &[], &[]),
        [1, 0]
    );
}

#[test]
fn banned_tokens_are_never_chosen_and_logprobs_ignore_the_ban() {
    let greedy = Sampling { temperature: 0.0, ..plain() };
    let chosen = choose(&logits(&[&row()]), &greedy, &filters(&[1], &[]), &[], None);
    assert_eq!(chosen.ids.int64_value(&[0]), 3);
    assert!((chosen.logprobs.double_value(&[0]) - f64::from(row()[3])).abs() < 1e-6);
}

#[test]
fn end_tokens_wait_until_the_response_is_long_enough() {
    let greedy = Sampling { temperature: 0.0, ..plain() };
    let span = |from, too_short| Span { from, rows: 1, too_short, seen: None };
    let rows = logits(&[&row(), &row()]);
    assert_eq!(ids(&rows, &greedy, &filters(&[], &[1]), &[span(0, true), span(1, false)], &[]), [3, 1]);
}

#[test]
fn the_repetition_penalty_pushes_seen_tokens_down() {
    let greedy = Sampling { temperature: 0.0, repetition_penalty: 2.0, ..plain() };
    let seen = Tensor::from_slice(&[true, false, false]).view([1, 3]);
    let span = |seen| [Span { from: 0, rows: 1, too_short: false, seen: Some(seen) }];
    let nothing = Tensor::from_slice(&[false; 3]).view([1, 3]);
    assert_eq!(ids(&logits(&[&[3.0, 2.0, 1.0]]), &greedy, &filters(&[], &[]), &span(&nothing), &[]), [0]);
    assert_eq!(ids(&logits(&[&[3.0, 2.0, 1.0]]), &greedy, &filters(&[], &[]), &span(&seen), &[]), [1]);
    assert_eq!(ids(&logits(&[&[-1.0, -1.5, -3.0]]), &greedy, &filters(&[], &[]), &span(&seen), &[]), [1]);
}

#[test]
fn settings_out_of_range_are_refused() {
    for bad in [
        Sampling { temperature: -1.0, ..plain() },
        Sampling { temperature: f64::NAN, ..plain() },
        Sampling { top_p: 0.0, ..plain() },
        Sampling { min_p: 1.0, ..plain() },
        Sampling { repetition_penalty: 0.0, ..plain() },
        Sampling { max_new_tokens: 0, ..plain() },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert!(plain().check().is_ok());
}
