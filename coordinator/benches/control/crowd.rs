//! One coordinator and its crowd: registration, steps, a pause, deaths.

use std::time::{Duration, Instant};

use proto::v1::PauseRequest;
use proto::v1::run_client::RunClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::figures::{Figures, Spread};
use crate::ground::{Ground, HEARTBEAT, host_of};
use crate::light::{Faults, Seen, What, connect, serve_on};

/// Commits that are timed, after the first few.
const STEPS: u64 = 200;
const WARM: u64 = 5;
/// Deaths that are timed.
const DEATHS: u32 = 5;
/// Time in which nothing but heartbeats comes.
const QUIET: Duration = Duration::from_secs(8);
/// How long nothing may come before this says that it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Crowd {
    ground: Ground,
    address: String,
    workers: Vec<JoinHandle<()>>,
    watch: mpsc::UnboundedSender<Seen>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

pub(crate) async fn measure(workers: u32) -> Figures {
    let mut crowd = Crowd::gather(workers).await;
    let begin = Instant::now();
    crowd.workers = (0..workers).map(|rank| crowd.worker(rank)).collect();
    let registered = crowd.all(|seen| seen.what == What::Welcomed).await - begin;
    let formed = crowd.all(|seen| seen.what == What::Formed).await - begin;
    let commit = crowd.commits().await;
    let heartbeat = crowd.heartbeats().await;
    let mut known = Vec::new();
    let mut next = Vec::new();
    for death in 0..DEATHS {
        let (told, epoch) = crowd.death(workers / 2 + death % (workers - workers / 2)).await;
        known.push(told);
        next.push(epoch);
    }
    let memory = crowd.ground.peak_memory();
    for worker in &crowd.workers {
        worker.abort();
    }
    Figures {
        workers,
        registered,
        formed,
        commit,
        known: Spread::of(known),
        next: Spread::of(next),
        heartbeat,
        memory,
    }
}

impl Crowd {
    async fn gather(workers: u32) -> Self {
        let mut ground = Ground::of(workers);
        let address = ground.address().await;
        let (watch, seen) = mpsc::unbounded_channel();
        Self { ground, address, workers: Vec::new(), watch, seen }
    }

    fn worker(&self, rank: u32) -> JoinHandle<()> {
        let (address, watch) = (self.address.clone(), Some(self.watch.clone()));
        tokio::spawn(async move {
            let faults = Faults { watch, ..Faults::default() };
            while let Err(why) = serve_on(&host_of(rank), rank, &address, faults.clone()).await {
                // The one before is gone, and the coordinator has not heard of it yet.
                assert!(why.contains("is taken by"), "rank {rank}: {why}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }

    /// The next thing that any worker hears or says.
    async fn next(&mut self) -> Seen {
        match tokio::time::timeout(PATIENCE, self.seen.recv()).await {
            Ok(seen) => seen.expect("this holds a sender"),
            Err(_) => panic!("nothing happens for {} s:\n{}", PATIENCE.as_secs(), self.ground.said()),
        }
    }

    /// When the last of all workers came to something.
    async fn all(&mut self, mut is_it: impl FnMut(&Seen) -> bool) -> Instant {
        let mut left = self.workers.len();
        loop {
            let seen = self.next().await;
            left -= usize::from(is_it(&seen));
            if left == 0 {
                return seen.at;
            }
        }
    }

    /// From the last StepReady said to the last Commit heard, over many steps.
    async fn commits(&mut self) -> Spread {
        let mut times = Vec::new();
        let workers = self.workers.len();
        let (mut ready, mut heard) = ((0, None), 0);
        while times.len() < STEPS as usize {
            let seen = self.next().await;
            match seen.what {
                What::StepReady(step) => ready = (step, Some(seen.at)),
                What::Commit(step) if step > WARM => {
                    heard += 1;
                    if heard == workers {
                        let (said, at) = ready;
                        assert_eq!(said, step, "a commit follows its own step's reports");
                        times.push(seen.at - at.unwrap());
                        heard = 0;
                    }
                }
                _ => {}
            }
        }
        Spread::of(times)
    }

    /// Processor time of the coordinator for a heartbeat, while the run is held.
    async fn heartbeats(&mut self) -> Duration {
        self.pause(true).await;
        // What is under way ends first: then nobody hears or says anything that is worth telling.
        while tokio::time::timeout(Duration::from_secs(2), self.seen.recv()).await.is_ok() {}
        let before = self.ground.computed();
        tokio::time::sleep(QUIET).await;
        let computed = self.ground.computed() - before;
        self.pause(false).await;
        let beats = QUIET.as_secs_f64() / HEARTBEAT.as_secs_f64() * self.workers.len() as f64;
        computed.div_f64(beats)
    }

    async fn pause(&self, pause: bool) {
        let channel = connect(&self.address, None).await.unwrap();
        RunClient::new(channel).pause(PauseRequest { pause }).await.unwrap();
    }

    /// A worker dies within a step, and its host starts another at once: when somebody first heard of it, and when all
    /// had formed the next epoch.
    async fn death(&mut self, rank: u32) -> (Duration, Duration) {
        let epoch = loop {
            let seen = self.next().await;
            if let What::StepReady(_) = seen.what {
                break seen.epoch;
            }
        };
        let died = Instant::now();
        self.workers[rank as usize].abort();
        self.workers[rank as usize] = self.worker(rank);
        let told = loop {
            let seen = self.next().await;
            if seen.what == What::Abort && seen.epoch == epoch {
                break seen.at;
            }
        };
        let formed = self.all(|seen| seen.what == What::Formed && seen.epoch == epoch + 1).await;
        (told - died, formed - died)
    }
}
