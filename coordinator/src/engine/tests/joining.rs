use super::*;

fn refusal(out: &[Command]) -> &str {
    match out.iter().find(|c| matches!(c, Command::Refuse { .. })) {
        Some(Command::Refuse { reason, .. }) => reason,
        _ => panic!("expected a refusal in {out:?}"),
    }
}

#[test]
fn a_worker_of_another_version_is_refused_with_both_versions() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    let out = rig.event(Event::Joining { stream: 0, rank: 0, join: join("0.9", 0) });
    assert_eq!(
        refusal(&out),
        "worker version \"0.9\" differs from the coordinator's \"1\": build both from the same source"
    );
}

#[test]
fn a_rank_outside_the_world_is_refused_with_the_range() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    assert_eq!(refusal(&rig.join(2)), "rank 2 is out of range: the host file lists 2 workers, ranks 0 to 1");
}

#[test]
fn a_taken_rank_is_refused_and_its_holder_stays() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    let out = rig.event(Event::Joining { stream: 9, rank: 0, join: Join { process: 7, ..join("1", 0) } });
    assert_eq!(
        refusal(&out),
        format!(
            "rank 0 is taken by process 100 on host0 (incarnation {}): start every rank once",
            incarnation(1)
        )
    );
    assert!(rig.engine.members()[&0].is_live());
}

#[test]
fn a_rank_whose_worker_went_away_before_the_start_can_be_taken_again_under_a_new_incarnation() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    rig.event(Event::Disconnected { rank: 0, incarnation: incarnation(1), reason: "reset".into() });
    let out = rig.join(0);
    assert!(out.contains(&Command::Admit { stream: 0, rank: 0, incarnation: incarnation(2) }));
}

#[test]
fn nobody_joins_a_run_that_is_over() {
    let mut rig = Rig::new(1, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Stop(_))));
    rig.event(Event::Disconnected { rank: 0, incarnation: incarnation(9), reason: "reset".into() });
    let out = rig.event(Event::Joining { stream: 9, rank: 0, join: Join { process: 7, ..join("1", 0) } });
    assert!(refusal(&out).contains("is taken"), "{out:?}");
}

#[test]
fn the_epoch_is_on_disk_before_anybody_is_asked_to_form_it() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    let out = rig.join(1);
    let journal =
        out.iter().position(|c| matches!(c, Command::Journal(Record::Epoch(_)))).expect("journaled");
    let store = out.iter().position(|c| matches!(order(c), Some(Order::HostStore(_)))).expect("asked");
    assert!(journal < store);
}

#[test]
fn the_world_forms_only_after_the_store_is_up() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.join(0);
    let out = rig.join(1);
    assert!(!out.iter().any(|c| matches!(order(c), Some(Order::FormEpoch(_)))));
    let out = rig.say(0, Report::StoreReady(StoreReady { address: "host0:9".into() }));
    let formed: Vec<_> = out
        .iter()
        .filter_map(order)
        .map(|o| match o {
            Order::FormEpoch(f) => (f.world_size, f.group_rank, f.store_address.as_str(), f.nodes.as_slice()),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    let nodes = [0, 1].as_slice();
    assert_eq!(formed, [(2, 0, "host0:9", nodes), (2, 1, "host0:9", nodes)]);
}

#[test]
fn members_of_one_host_name_share_a_node() {
    let mut rig = Rig::new(3, vec![stage("a", 1)]);
    for (rank, host) in [(2, "b"), (0, "b"), (1, "a")] {
        let join = Join { host: host.into(), ..join("1", rank) };
        rig.event(Event::Joining { stream: u64::from(rank), rank, join });
    }
    let out = rig.say(0, Report::StoreReady(StoreReady { address: "host0:9".into() }));
    let nodes = out.iter().filter_map(order).map(|o| match o {
        Order::FormEpoch(f) => f.nodes.clone(),
        other => panic!("unexpected {other:?}"),
    });
    assert_eq!(nodes.collect::<Vec<_>>(), vec![vec![0, 1, 0]; 3]);
}
