//! A light worker: the whole protocol, no tensors.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coordinator::security::{HEADER, Token, client_tls};
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
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// What goes wrong with a light worker; from the environment where it is a process.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) version: String,
    /// On rank 1, at this step's update.
    pub(crate) kill_at_step: Option<u64>,
    /// A file that is made when it strikes: it strikes once.
    pub(crate) once: Option<PathBuf>,
    /// On rank 1, at this step's rollout.
    pub(crate) unreadable_at_step: Option<u64>,
    /// Before every answer.
    pub(crate) delay: Duration,
    /// Before it answers such an order, for as long as there is such a file.
    pub(crate) hold: Option<PathBuf>,
    /// Which order; an update where nothing is said.
    pub(crate) hold_at: fn(&Order) -> bool,
    /// Says everything again, too early, and in others' names.
    pub(crate) noise: bool,
    /// What it shows: a token file, a folder of certificates.
    pub(crate) shows: (Option<PathBuf>, Option<PathBuf>),
    /// Who is told what it hears and says, and when.
    pub(crate) watch: Option<mpsc::UnboundedSender<Seen>>,
}

/// What a light worker heard or said.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the benchmark of the control plane reads it")]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) epoch: u64,
    pub(crate) what: What,
}

/// What of it is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Welcomed,
    Abort,
    Stop,
    /// It answers nothing until it is let go.
    Held,
    Answered,
    Formed,
    StepReady(u64),
    Commit(u64),
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            version: proto::VERSION.into(),
            kill_at_step: None,
            once: None,
            unreadable_at_step: None,
            delay: Duration::ZERO,
            hold: None,
            hold_at: |order| matches!(order, Order::Update(_)),
            noise: false,
            shows: (None, None),
            watch: None,
        }
    }
}

impl Faults {
    /// Whether the fault has not struck yet, where it is to strike once.
    fn is_due(&self) -> bool {
        self.once.as_ref().is_none_or(|mark| std::fs::File::create_new(mark).is_ok())
    }

    fn tell(&self, epoch: u64, what: What) {
        if let Some(watch) = &self.watch {
            // Nobody listens once enough was seen.
            let _ = watch.send(Seen { at: Instant::now(), epoch, what });
        }
    }
}

/// Serves until told to stop; a refusal is an error.
pub(crate) async fn serve(rank: u32, address: &str, faults: Faults) -> Result<(), String> {
    serve_on("here", rank, address, faults).await
}

pub(crate) async fn serve_on(host: &str, rank: u32, address: &str, faults: Faults) -> Result<(), String> {
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
    let mut client = RunClient::new(connect(address, faults.shows.1.as_deref()).await?);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    if let Some(file) = &faults.shows.0 {
        request.metadata_mut().insert(HEADER, Token::read(file).unwrap().value());
    }
    let stream = client.session(request).await.map_err(|e| e.message().to_owned())?;
    let mut orders = stream.into_inner();
    let first = orders.message().await.map_err(|e| e.message().to_owned())?.ok_or("the stream ended")?;
    let welcome = match first.body {
        Some(Order::Welcome(welcome)) => welcome,
        Some(Order::Refused(refused)) => return Err(refused.reason),
        other => return Err(format!("unexpected {other:?}")),
    };
    let (incarnation, term) = (welcome.incarnation, first.term);
    faults.tell(0, What::Welcomed);
    let mut fake =
        Fake { rank, run: serde_json::from_str(&welcome.run_json).unwrap(), stage: 0, held: None, faults };
    let (beats, mut now) = (reports.clone(), 0);
    let heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms));
    // Its heart stops with it.
    let mut beating = JoinSet::new();
    beating.spawn(async move {
        loop {
            now += 1;
            let beat = Heartbeat { phase: "light".into(), progress: now };
            if beats.send(say(incarnation, 0, term, Report::Heartbeat(beat))).await.is_err() {
                return;
            }
            tokio::time::sleep(heartbeat).await;
        }
    });
    let mut before = None;
    while let Some(message) = orders.message().await.map_err(|e| e.message().to_owned())? {
        tokio::time::sleep(fake.faults.delay).await;
        let (epoch, term) = (message.epoch, message.term);
        let order = message.body.unwrap();
        let is_held = || fake.faults.hold.as_ref().is_some_and(|file| file.exists());
        let was_held = (fake.faults.hold_at)(&order) && is_held();
        if was_held {
            fake.faults.tell(epoch, What::Held);
        }
        while was_held && is_held() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match &order {
            Order::Commit(commit) => fake.faults.tell(epoch, What::Commit(commit.step)),
            Order::AbortCollectives(_) => fake.faults.tell(epoch, What::Abort),
            Order::Stop(_) => fake.faults.tell(epoch, What::Stop),
            _ => {}
        }
        let Some(report) = fake.obey(order) else { continue };
        let last = report == Report::Left(Left {});
        if fake.faults.noise && !last {
            let join = Report::Join(Join::default());
            let noise = [
                say(incarnation, epoch, term, early(&report)),
                say(incarnation, epoch + 7, term, report.clone()),
                say(incarnation, epoch, term + 1, report.clone()),
                say(incarnation + 1, epoch, term, report.clone()),
                WorkerMessage { rank: 1 - rank, ..say(incarnation, epoch, term, report.clone()) },
                say(incarnation, epoch, term, join),
                WorkerMessage { body: None, ..say(incarnation, epoch, term, report.clone()) },
                say(incarnation, epoch, term, report.clone()),
            ];
            for message in
                noise.into_iter().chain(before.replace(say(incarnation, epoch, term, report.clone())))
            {
                reports.send(message).await.map_err(|e| e.to_string())?;
            }
        }
        let told = match &report {
            Report::StepReady(ready) if !was_held => Some(What::StepReady(ready.step)),
            Report::Formed(_) => Some(What::Formed),
            _ => was_held.then_some(What::Answered),
        };
        reports.send(say(incarnation, epoch, term, report)).await.map_err(|e| e.to_string())?;
        told.into_iter().for_each(|what| fake.faults.tell(epoch, what));
        if last {
            while let Ok(Some(_)) = orders.message().await {}
            break;
        }
    }
    Ok(())
}

/// A channel to the coordinator; with a folder of certificates by TLS.
pub(crate) async fn connect(address: &str, certificates: Option<&Path>) -> Result<Channel, String> {
    let scheme = if certificates.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
    if let Some(folder) = certificates {
        endpoint = endpoint.tls_config(client_tls(folder).unwrap()).unwrap();
    }
    endpoint.connect().await.map_err(|e| format!("{e:?}"))
}

/// What a report would be one step later.
fn early(report: &Report) -> Report {
    let mut report = report.clone();
    match &mut report {
        Report::RolloutsReady(ready) => ready.step += 1,
        Report::StepReady(ready) => ready.step += 1,
        Report::Applied(applied) => applied.step += 1,
        Report::Evaluated(evaluated) => evaluated.step += 1,
        Report::CheckpointWritten(written) => written.step += 1,
        Report::StageReady(ready) => ready.stage += 1,
        _ => return Report::Heartbeat(Heartbeat::default()),
    }
    report
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
                let held = self.held.unwrap_or_default();
                self.held = Some(Held { stage: begin.stage, prepared: None, ..held });
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
                let (stage, step, attempt) = (self.stage as u32, commit.step, commit.attempt);
                self.held = Some(Held { stage, step, prepared: None, attempt });
                let digest = format!("after {}", commit.step);
                Report::Applied(Applied { step: commit.step, digest, part: None })
            }
            Order::Restore(restore) => {
                let (stage, step, attempt) = (restore.stage, restore.step, restore.attempt);
                self.stage = stage as usize;
                self.held = Some(Held { stage, step, prepared: None, attempt });
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
