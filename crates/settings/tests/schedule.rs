//! Learning rates against transformers' schedulers.

use settings::{Optimizer, Schedule};

#[test]
fn after_the_warm_up_rates_are_those_of_transformers_and_within_it_a_step_ahead() {
    // get_scheduler(name, optimizer, 2, 6) of transformers 5.23 at lr 1; its first step of a warm-up is at 0.
    let falling = [1.0, 0.853_553_390_593_273_7, 0.5, 0.146_446_609_406_726_27];
    for (schedule, theirs) in [
        (Schedule::Constant, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        (Schedule::Linear, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        (Schedule::Cosine, [0.0, 0.5, falling[0], falling[1], falling[2], falling[3]]),
    ] {
        let optimizer = Optimizer { lr: 1.0, schedule, warmup_steps: 2, ..Optimizer::default() };
        let ours: Vec<f64> = (1..=6).map(|step| optimizer.lr_at(step, 6)).collect();
        assert_eq!(ours[..2], theirs[1..3]);
        for (ours, theirs) in ours[2..].iter().zip(&theirs[2..]) {
            assert!((ours - theirs).abs() < 1e-12, "{schedule:?}: {ours} {theirs}");
        }
    }
}
