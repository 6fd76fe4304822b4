//! A light worker: the whole protocol, no tensors. It runs as a process of its own (this test executed again) or
//! as a task of a test.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_client::RunClient;
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    Applied, CheckpointWritten, Evaluated, Formed, HeadPrediction, Heartbeat, Held, Join, Left, Response,
    Restored, RolloutsReady, Sample, SampleRollout, Sampling, StageReady, StepReady, StoreReady,
    WorkerMessage, WriteCheckpoint,
};
use settings::{Run, StageKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What goes wrong with a light worker; from the environment where it is a process.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) version: String,
    /// On rank 1, at this step's update.
    pub(crate) kill_at_step: Option<u64>,
    /// A file that is made when it strikes: it strikes once.
    pub(crate) once: Option<std::path::PathBuf>,
    /// On rank 1, at this step's rollout.
    pub(crate) unreadable_at_step: Option<u64>,
    /// Before every answer.
    pub(crate) delay: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            version: proto::VERSION.into(),
            kill_at_step: None,
            once: None,
            unreadable_at_step: None,
            delay: Duration::ZERO,
        }
    }
}

impl Faults {
    /// Whether the fault has not struck yet, where it is to strike once.
    fn is_due(&self) -> bool {
        self.once.as_ref().is_none_or(|mark| std::fs::File::create_new(mark).is_ok())
    }

    fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        Self {
            version: std::env::var("FAKE_VERSION").unwrap_or_else(|_| proto::VERSION.into()),
            kill_at_step: number("FAKE_KILL_AT_STEP"),
            once: std::env::var_os("FAKE_ONCE").map(Into::into),
            unreadable_at_step: number("FAKE_UNREADABLE_AT_STEP"),
            delay: Duration::from_millis(number("FAKE_DELAY_MS").unwrap_or(0)),
        }
    }
}

/// Not a test when this program runs tests: the light worker's entry, with its arguments in the environment.
#[test]
fn worker() {
    let Ok(arguments) = std::env::var("FAKE_WORKER") else { return };
    let words: Vec<&str> = arguments.split(' ').collect();
    let after = |flag: &str| words[words.iter().position(|w| *w == flag).unwrap() + 1];
    let rank = after("--rank").parse().unwrap();
    if let Some(folder) = std::env::var_os("FAKE_FOLDER") {
        std::fs::write(Path::new(&folder).join(format!("fake-{rank}.pid")), std::process::id().to_string())
            .unwrap();
    }
    eprintln!("light worker of rank {rank} begins");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let host = after("--host");
    let ended = runtime.block_on(serve_on(host, rank, after("--coordinator"), Faults::from_environment()));
    eprintln!("light worker of rank {rank} ends: {ended:?}");
    std::process::exit(i32::from(ended.is_err()));
}

/// Serves until told to stop; a refusal is an error.
pub(crate) async fn serve(rank: u32, address: &str, faults: Faults) -> Result<(), String> {
    serve_on("here", rank, address, faults).await
}

async fn serve_on(host: &str, rank: u32, address: &str, faults: Faults) -> Result<(), String> {
    let (reports, outgoing) = mpsc::channel(64);
    let say = move |incarnation, epoch, term, body| WorkerMessage {
        rank,
        incarnation,
        epoch,
        term,
        body: Some(body),
    };
    let join = Join {
        version: faults.version.clone(),
        host: host.into(),
        process: std::process::id(),
        device: "cpu".into(),
        ..Join::default()
    };
    reports.send(say(0, 0, 0, Report::Join(join))).await.map_err(|e| e.to_string())?;
    let mut client = RunClient::connect(format!("http://{address}")).await.map_err(|e| e.to_string())?;
    let stream = client.session(ReceiverStream::new(outgoing)).await.map_err(|e| e.message().to_owned())?;
    let mut orders = stream.into_inner();
    let first = orders.message().await.map_err(|e| e.message().to_owned())?.ok_or("the stream ended")?;
    let welcome = match first.body {
        Some(Order::Welcome(welcome)) => welcome,
        Some(Order::Refused(refused)) => return Err(refused.reason),
        other => return Err(format!("unexpected {other:?}")),
    };
    let (incarnation, term) = (welcome.incarnation, first.term);
    let mut fake =
        Fake { rank, run: serde_json::from_str(&welcome.run_json).unwrap(), stage: 0, held: None, faults };
    let (beats, mut now) = (reports.clone(), 0);
    let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms));
    let beating = tokio::spawn(async move {
        loop {
            now += 1;
            let beat = Heartbeat { phase: "light".into(), progress: now };
            if beats.send(say(incarnation, 0, term, Report::Heartbeat(beat))).await.is_err() {
                return;
            }
            tokio::time::sleep(heartbeat).await;
        }
    });
    while let Some(message) = orders.message().await.map_err(|e| e.message().to_owned())? {
        tokio::time::sleep(fake.faults.delay).await;
        let (epoch, term) = (message.epoch, message.term);
        let Some(report) = fake.obey(message.body.unwrap()) else { continue };
        let last = report == Report::Left(Left {});
        reports.send(say(incarnation, epoch, term, report)).await.map_err(|e| e.to_string())?;
        if last {
            while let Ok(Some(_)) = orders.message().await {}
            break;
        }
    }
    beating.abort();
    Ok(())
}

struct Fake {
    rank: u32,
    run: Run,
    stage: usize,
    held: Option<Held>,
    faults: Faults,
}

impl Fake {
    fn obey(&mut self, order: Order) -> Option<Report> {
        Some(match order {
            Order::HostStore(_) => Report::StoreReady(StoreReady { address: "127.0.0.1:1".into() }),
            Order::FormEpoch(_) => Report::Formed(Formed { held: self.held, mirrored: false }),
            Order::BeginStage(begin) => {
                self.stage = begin.stage as usize;
                let step = self.held.map_or(0, |held| held.step);
                self.held = Some(Held { stage: begin.stage, step, prepared: None });
                Report::StageReady(StageReady {
                    stage: begin.stage,
                    digest: format!("stage {}", begin.stage),
                    part: None,
                })
            }
            Order::Rollout(rollout) => {
                let sampling = rollout.sampling.unwrap();
                let mut samples: Vec<_> = rollout.samples.iter().map(|s| self.answer(s, &sampling)).collect();
                if self.rank == 1 && self.faults.unreadable_at_step == Some(rollout.step) {
                    samples[0].error = "pictures/x.png: not a picture; expected PNG or JPEG".into();
                }
                Report::RolloutsReady(RolloutsReady { step: rollout.step, attempt: rollout.attempt, samples })
            }
            Order::Update(update) => {
                if self.rank == 1 && self.faults.kill_at_step == Some(update.step) && self.faults.is_due() {
                    eprintln!("about to be killed");
                    // SAFETY: kill takes no pointers; it ends this process, which is the fault's purpose.
                    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                }
                Report::StepReady(StepReady {
                    step: update.step,
                    attempt: update.attempt,
                    loss: update.lr,
                    grad_norm: 1.0,
                    finite: true,
                    metrics: HashMap::from([("tokens".into(), 4.0), ("kl".into(), 0.4)]),
                })
            }
            Order::Commit(commit) => {
                self.held = Some(Held { stage: self.stage as u32, step: commit.step, prepared: None });
                let digest = format!("after {}", commit.step);
                Report::Applied(Applied { step: commit.step, digest, part: None })
            }
            Order::Restore(restore) => {
                let (stage, step) = (restore.stage, restore.step);
                self.stage = stage as usize;
                self.held = Some(Held { stage, step, prepared: None });
                let digest = if step == 0 { format!("stage {stage}") } else { format!("after {step}") };
                Report::Restored(Restored { stage, step, digest, part: None, sent: 0 })
            }
            Order::Evaluate(evaluate) => {
                let sampling = evaluate.sampling.unwrap();
                let samples = evaluate.samples.iter().map(|s| self.answer(s, &sampling)).collect();
                Report::Evaluated(Evaluated { step: evaluate.step, samples })
            }
            Order::WriteCheckpoint(write) => Report::CheckpointWritten(checkpoint(&write)),
            Order::Stop(_) => Report::Left(Left {}),
            _ => return None,
        })
    }

    /// In a vision stage the head's answer, else texts whose scores depend on the sample and the response.
    fn answer(&self, sample: &Sample, sampling: &Sampling) -> SampleRollout {
        let number: u32 = sample.id.bytes().map(u32::from).sum();
        if self.run.stages[self.stage].kind == StageKind::Vision {
            let head = HeadPrediction { quality: 1.0 + f64::from(number % 5), kind: 3, level: number % 6 };
            return SampleRollout {
                sample_id: sample.id.clone(),
                head: Some(head),
                ..SampleRollout::default()
            };
        }
        let response = |index: u32| {
            let score = 1.0 + f64::from((number + index) % 9) / 2.0;
            let text = format!("<think>t</think><answer>\n{}</answer>", format!("{score:.2}\n").repeat(5));
            Response { index, text, completion_ids: vec![1, 2], logprobs: vec![-0.5, -0.25] }
        };
        SampleRollout {
            sample_id: sample.id.clone(),
            responses: (0..sampling.responses).map(response).collect(),
            ..SampleRollout::default()
        }
    }
}

fn checkpoint(write: &WriteCheckpoint) -> CheckpointWritten {
    let folder = Path::new(&write.folder);
    let mut digests = HashMap::new();
    for name in ["config.json", "model.safetensors"] {
        std::fs::write(folder.join(name), format!("{name} of step {}", write.step)).unwrap();
        digests.insert(name.to_owned(), checkpoint::sha256_file(&folder.join(name)).unwrap());
    }
    CheckpointWritten { step: write.step, digests }
}
