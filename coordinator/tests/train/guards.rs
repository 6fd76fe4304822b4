//! A join token, and certificates on both sides: who shows the wrong thing changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proto::v1::run_client::RunClient;
use proto::v1::{PauseRequest, StatusRequest, WorkerMessage};
use tokio::runtime::Runtime;
use tonic::{Code, Request};

use crate::light::{Faults, connect, serve};
use crate::support::{Running, Scenario};

const ENDLESS: &str = "{ name: explore, steps: 100000, evaluation: { every: 0 } }";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The run has had its two workers in one epoch, and can still be ended well.
fn undisturbed(running: Running<'_>, steps: usize) -> String {
    running.wait_for_steps(steps);
    running.signal(libc::SIGINT);
    let said = running.end().expect(0).stderr;
    assert!(!said.contains("epoch 2") && !said.contains("is repeated"), "{said}");
    said
}

#[test]
fn who_lacks_the_join_token_is_refused_by_every_call_and_told_of_once_and_the_run_does_not_notice() {
    let scenario = Scenario::new(ENDLESS);
    let token = scenario.path("token");
    fs::write(&token, "s3cret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    scenario.hosts_also(&format!("security: {{ token_file: {} }}", token.display()));
    let running = scenario.start(&["--set", "checkpoint.every=100000"], &[("FAKE_DELAY_MS", "10")]);
    running.wait_for_steps(1);
    let address = running.address();
    Runtime::new().unwrap().block_on(async {
        let mut client = RunClient::new(connect(&address, None).await.unwrap());
        for bearer in [None, Some("Bearer wrong"), Some("s3cret")] {
            let carry = |mut metadata: tonic::metadata::MetadataMap| {
                bearer.map(|bearer| metadata.insert("authorization", bearer.parse().unwrap()));
                metadata
            };
            let mut status = Request::new(StatusRequest {});
            *status.metadata_mut() = carry(status.metadata().clone());
            let mut pause = Request::new(PauseRequest { pause: true });
            *pause.metadata_mut() = carry(pause.metadata().clone());
            let mut session = Request::new(tokio_stream::pending::<WorkerMessage>());
            *session.metadata_mut() = carry(session.metadata().clone());
            let codes = [
                client.status(status).await.unwrap_err().code(),
                client.pause(pause).await.unwrap_err().code(),
                client.session(session).await.unwrap_err().code(),
            ];
            assert_eq!(codes, [Code::Unauthenticated; 3], "{bearer:?}");
        }
        let refused = serve(0, &address, Faults::default()).await.unwrap_err();
        assert!(refused.contains("the join token is missing: give --token-file"), "{refused}");
    });
    let told = scenario.ask(&["status", "--address", &address]).expect(2);
    assert!(told.stderr.contains("the join token is missing"), "{}", told.stderr);
    let told = scenario.ask(&["status", "--address", &address, "--token-file", text(&token)]).expect(0);
    assert!(told.stdout.contains("rank 1: active on here"), "{}", told.stdout);
    let steps = scenario.read("metrics.jsonl").lines().count() + 5;
    let said = undisturbed(running, steps);
    assert_eq!(said.matches("refused 127.0.0.1:").count(), 1, "{said}");
    assert!(said.contains("can be read by everybody on this host: chmod 600"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn with_certificates_plain_text_and_another_runs_certificate_do_not_get_in_and_the_right_one_does() {
    let scenario = Scenario::new(ENDLESS);
    let (own, other) = (scenario.path("own"), scenario.path("other"));
    for folder in [&own, &other] {
        let hosts = scenario.path("hosts.yaml");
        scenario.ask(&["certificates", "--nodes", text(&hosts), "--output", text(folder)]).expect(0);
        for key in ["worker.key", "coordinator.key"] {
            assert_eq!(fs::metadata(folder.join(key)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!folder.join("ca.key").exists());
    }
    scenario.hosts_also(&format!("security: {{ certificates: {} }}", own.display()));
    let running = scenario.start(&["--set", "checkpoint.every=100000"], &[("FAKE_DELAY_MS", "10")]);
    running.wait_for_steps(1);
    let address = running.address();
    // Right authority, but the coordinator's own certificate in the worker's place; and none at all.
    let (posing, bare) = (scenario.path("posing"), scenario.path("bare"));
    for (folder, identity) in [(&posing, &own), (&bare, &other)] {
        fs::create_dir(folder).unwrap();
        fs::copy(own.join("ca.pem"), folder.join("ca.pem")).unwrap();
        let name = if identity == &own { "coordinator" } else { "worker" };
        for end in ["pem", "key"] {
            fs::copy(identity.join(format!("{name}.{end}")), folder.join(format!("worker.{end}"))).unwrap();
        }
    }
    Runtime::new().unwrap().block_on(async {
        for folder in [None, Some(&other), Some(&posing), Some(&bare)] {
            let faults = Faults { shows: (None, folder.cloned()), ..Faults::default() };
            serve(0, &address, faults).await.expect_err("it shows no certificate of the run");
        }
        // The right one gets as far as the engine, which has that rank already.
        let faults = Faults { shows: (None, Some(own.clone())), ..Faults::default() };
        let refused = serve(0, &address, faults).await.unwrap_err();
        assert!(refused.starts_with("rank 0 is taken by process"), "{refused}");
    });
    scenario.ask(&["status", "--address", &address]).expect(1);
    let told = scenario.ask(&["status", "--address", &address, "--certificates", text(&own)]).expect(0);
    assert!(told.stdout.contains("rank 1: active on here"), "{}", told.stdout);
    let steps = scenario.read("metrics.jsonl").lines().count() + 5;
    let said = undisturbed(running, steps);
    assert_eq!(said.matches("it showed no certificate of this run's authority").count(), 1, "{said}");
}

#[test]
fn what_guards_a_run_must_be_there_before_anything_is_written() {
    let scenario = Scenario::new(ENDLESS);
    scenario.hosts_also("security: { token_file: /nonexistent/token }");
    let said = scenario.run(&[], &[]).expect(2).stderr;
    assert!(said.contains("token file /nonexistent/token: ") && said.contains("expected one line"), "{said}");
    scenario.hosts("local", "127.0.0.1:0");
    scenario.hosts_also("security: { certificates: /nonexistent }");
    let said = scenario.run(&[], &[]).expect(2).stderr;
    assert!(
        said.contains("/nonexistent/coordinator.pem") && said.contains("coordinator certificates"),
        "{said}"
    );
    assert!(!scenario.run_folder().exists());
}

#[test]
fn a_person_holds_a_run_and_lets_it_go_on() {
    let scenario = Scenario::new("{ name: explore, steps: 60, evaluation: { every: 0 } }");
    let running = scenario.start(&["--set", "checkpoint.every=100"], &[("FAKE_DELAY_MS", "10")]);
    running.wait_for_steps(2);
    let folder = scenario.run_folder();
    let told = scenario.ask(&["pause", "--output", text(&folder)]).expect(0).stdout;
    assert!(told.contains("holds after what it does now"), "{told}");
    running.wait_for_word("paused: held by a person after step");
    let told = scenario.ask(&["status", "--output", text(&folder)]).expect(0).stdout;
    assert!(told.contains("paused") && told.contains("term 1"), "{told}");
    scenario.ask(&["pause", "--resume", "--output", text(&folder)]).expect(0);
    running.end().expect(0);
    assert_eq!(scenario.read("metrics.jsonl").lines().count(), 60);
}
