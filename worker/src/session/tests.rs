//! The session against a small coordinator that drops its streams, with a tensor thread that computes nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::run_server::{Run, RunServer};
use proto::v1::worker_message::Body as Report;
use proto::v1::{
    Applied, Commit, CoordinatorMessage, Held, Join, PauseRequest, Prepared, Refused, StatusReply,
    StatusRequest, Stop, StoreReady, Welcome, WorkerMessage,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{Coordinator, Identity};
use crate::failure::Failure;
use crate::work::{Assignment, Task};

const AMPLE: Duration = Duration::from_secs(30);

/// A stream as the coordinator sees it.
struct Session {
    token: Option<String>,
    reports: Streaming<WorkerMessage>,
    orders: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

impl Session {
    async fn report(&mut self) -> WorkerMessage {
        loop {
            let message = timeout(AMPLE, self.reports.message()).await.expect("in time").expect("alive");
            let message = message.expect("a report");
            if !matches!(message.body, Some(Report::Heartbeat(_))) {
                return message;
            }
        }
    }

    async fn join(&mut self) -> (u64, Join) {
        match self.report().await {
            WorkerMessage { term, body: Some(Report::Join(join)), .. } => (term, join),
            other => panic!("expected Join, got {other:?}"),
        }
    }

    async fn order(&self, term: u64, epoch: u64, body: Order) {
        let message = CoordinatorMessage { term, epoch, body: Some(body) };
        self.orders.send(Ok(message)).await.expect("the stream is open");
    }

    async fn welcome(&self, term: u64, incarnation: u64, run_id: &str, grace: u64) {
        let grace = format!("recovery.coordinator_grace={grace}");
        self.welcome_to((term, incarnation, run_id), &[grace], "").await;
    }

    /// To a run of these settings, whose folder holds `mark`.
    async fn welcome_to(&self, (term, incarnation, run_id): (u64, u64, &str), set: &[String], mark: &str) {
        let run = settings::default_run(set).expect("defaults");
        let welcome = Welcome {
            run_id: run_id.into(),
            incarnation,
            heartbeat_ms: 50,
            run_json: serde_json::to_string(&run).expect("settings are JSON"),
            mark: mark.into(),
        };
        self.order(term, 0, Order::Welcome(welcome)).await;
    }

    async fn commit(&self, term: u64, step: u64) {
        self.order(term, 1, Order::Commit(Commit { step, skip: false, attempt: 1 })).await;
    }

    async fn stop(mut self, term: u64) {
        self.order(term, 1, Order::Stop(Stop { reason: "done".into() })).await;
        while !matches!(self.report().await.body, Some(Report::Left(_))) {}
    }
}

struct Service(mpsc::Sender<Session>);

#[tonic::async_trait]
impl Run for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map(|value| value.to_str().expect("ASCII").to_owned());
        let (orders, outgoing) = mpsc::channel(64);
        let session = Session { token, reports: request.into_inner(), orders };
        self.0.send(session).await.map_err(|_| Status::unavailable("over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("a test"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("a test"))
    }
}

/// A coordinator's server; aborted when dropped, which breaks its streams.
struct Server {
    sessions: mpsc::Receiver<Session>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (sender, sessions) = mpsc::channel(4);
        let serving = tonic::transport::Server::builder()
            .add_service(RunServer::new(Service(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener).map(|s| s));
        let task = tokio::spawn(async move { serving.await.expect("serves") });
        (Self { sessions, task }, address)
    }

    async fn session(&mut self) -> Session {
        timeout(AMPLE, self.sessions.recv()).await.expect("in time").expect("a worker")
    }
}

/// What the tensor threads of all tests have been told, by run: they share one, being plain functions.
static TOLD: Mutex<Vec<(String, u64)>> = Mutex::new(Vec::new());

fn told(run_id: &str) -> Vec<u64> {
    let told = TOLD.lock().expect("no panic");
    told.iter().filter(|(run, _)| run == run_id).map(|(_, step)| *step).collect()
}

/// Holds what it is told to commit; an abort of step 100 it waits for, as for a collective. HostStore is answered.
fn work(assignment: Assignment) {
    let Assignment { mut run_id, shared, tasks, reports, .. } = assignment;
    while let Ok(task) = tasks.recv() {
        let (number, stamp, order) = match task {
            Task::Begin { run_id: begun, .. } => {
                run_id = begun;
                continue;
            }
            Task::Adopt { .. } => continue,
            Task::Order { number, stamp, order } => (number, stamp, *order),
        };
        if shared.control.is_forgotten(number) {
            continue;
        }
        shared.control.set_running(true);
        let report = match order {
            Order::Commit(commit) => {
                TOLD.lock().expect("no panic").push((run_id.clone(), commit.step));
                if commit.step == 100 {
                    while !shared.control.is_aborted(number) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                let prepared = Some(Prepared { step: commit.step + 1, attempt: 1 });
                shared.control.hold(Some(Held { stage: 0, step: commit.step, prepared, ..Held::default() }));
                Some(Report::Applied(Applied { step: commit.step, ..Applied::default() }))
            }
            Order::HostStore(_) => Some(Report::StoreReady(StoreReady { address: "here".into() })),
            _ => None,
        };
        shared.control.set_running(false);
        if let Some(report) = report {
            let _ = reports.send((stamp, report));
        }
    }
}

fn worker(coordinator: Coordinator) -> tokio::task::JoinHandle<Result<(), Failure>> {
    let identity = Identity {
        rank: 3,
        device: "cpu".into(),
        address: "127.0.0.1".into(),
        threads: 1,
        host: "here".into(),
    };
    tokio::spawn(async move { super::run(identity, &coordinator, tch::Device::Cpu, work).await })
}

fn at(address: &str) -> Coordinator {
    Coordinator::at(address).expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_stream_broke_tells_what_it_holds_and_forgets_old_orders_and_reports() {
    let (mut server, address) = Server::start().await;
    let worker = worker(at(&address));
    let mut first = server.session().await;
    let (term, join) = first.join().await;
    assert_eq!((term, join.run_id.as_str(), join.held), (0, "", None));
    first.welcome(1, 7, "a", 60).await;
    first.commit(1, 4).await;
    let applied = first.report().await;
    assert_eq!((applied.incarnation, applied.epoch, applied.term), (7, 1, 1));
    // This one waits for peers; the one behind it is still in the queue when the stream breaks.
    first.commit(1, 100).await;
    first.commit(1, 101).await;
    while !told("a").contains(&100) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(first);

    let mut second = server.session().await;
    let (term, join) = second.join().await;
    assert_eq!((term, join.run_id.as_str()), (1, "a"));
    let prepared = Some(Prepared { step: 101, attempt: 1 });
    assert_eq!(join.held, Some(Held { stage: 0, step: 100, prepared, ..Held::default() }));
    second.welcome(1, 8, "a", 60).await;
    second.order(1, 1, Order::HostStore(proto::v1::HostStore {})).await;
    let report = second.report().await;
    assert!(matches!(report.body, Some(Report::StoreReady(_))), "a report of the old stream: {report:?}");
    assert_eq!(report.incarnation, 8);
    second.stop(1).await;
    assert_eq!(worker.await.expect("no panic"), Ok(()));
    assert_eq!(told("a"), [4, 100], "an order of the old stream was carried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_of_a_lower_term_is_refused_and_the_address_file_is_read_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("address");
    let ((mut old, old_address), (mut new, new_address)) = (Server::start().await, Server::start().await);
    std::fs::write(&file, &new_address).expect("written");
    let worker = worker(at(file.to_str().expect("UTF-8")));
    let mut session = new.session().await;
    session.join().await;
    session.welcome(5, 1, "b", 60).await;
    session.commit(5, 1).await;
    session.report().await;
    // An order of a lower term on the same stream is dropped as well.
    session.commit(4, 2).await;
    std::fs::write(&file, &old_address).expect("written");
    drop((session, new));

    let mut session = old.session().await;
    assert_eq!(session.join().await.0, 5);
    session.welcome(4, 9, "b", 60).await;
    let end = timeout(AMPLE, session.reports.message()).await.expect("in time");
    assert!(matches!(end, Ok(None) | Err(_)), "it stays with a coordinator of a lower term: {end:?}");
    let mut session = old.session().await;
    session.join().await;
    session.welcome(6, 2, "b", 60).await;
    session.commit(6, 3).await;
    session.report().await;
    session.stop(6).await;
    assert_eq!(worker.await.expect("no panic"), Ok(()));
    assert_eq!(told("b"), [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_run_finds_nothing_held() {
    let (mut server, address) = Server::start().await;
    let worker = worker(at(&address));
    let mut session = server.session().await;
    session.join().await;
    session.welcome(1, 1, "c", 60).await;
    session.commit(1, 4).await;
    session.report().await;
    drop(session);
    let mut session = server.session().await;
    assert_eq!(session.join().await.1.run_id, "c");
    session.welcome(1, 1, "d", 60).await;
    drop(session);
    let mut session = server.session().await;
    let (_, join) = session.join().await;
    assert_eq!((join.run_id.as_str(), join.held), ("d", None));
    session.welcome(1, 1, "d", 60).await;
    session.stop(1).await;
    assert_eq!(worker.await.expect("no panic"), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_tries_again_where_the_reason_may_pass() {
    let (mut server, address) = Server::start().await;
    let fresh = worker(at(&address));
    for _ in 0..3 {
        let mut session = server.session().await;
        session.join().await;
        let refused = Refused { reason: "the rank is taken".into(), again: true };
        session.order(1, 0, Order::Refused(refused)).await;
    }
    let mut session = server.session().await;
    session.join().await;
    session.welcome(1, 1, "f", 60).await;
    session.stop(1).await;
    assert_eq!(fresh.await.expect("no panic"), Ok(()));
}

/// A disk that is not mounted there: it would write its logs beside the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sees_another_run_folder_says_so_and_ends() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let set = [format!("run.output={}", folder.path().display())];
    let (mut server, address) = Server::start().await;
    std::fs::write(folder.path().join(proto::MARK), "of this run\n").expect("written");
    let (right, mut session) = (worker(at(&address)), server.session().await);
    session.join().await;
    session.welcome_to((1, 1, "m"), &set, "of this run").await;
    session.stop(1).await;
    assert_eq!(right.await.expect("no panic"), Ok(()));

    let (wrong, mut session) = (worker(at(&address)), server.session().await);
    session.join().await;
    session.welcome_to((1, 2, "m"), &set, "of another").await;
    let Some(Report::WorkFailed(failed)) = session.report().await.body else { panic!("it goes on") };
    assert!(failed.wrong_input && failed.reason.contains("sees another run folder"), "{}", failed.reason);
    drop(session);
    assert_eq!(wrong.await.expect("no panic").expect_err("nothing to do").exit_code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_a_new_process_at_once_and_a_returning_one_when_its_grace_is_over() {
    let refused = || Order::Refused(Refused { reason: "the rank is taken".into(), again: false });
    let (mut server, address) = Server::start().await;
    let fresh = worker(at(&address));
    let mut session = server.session().await;
    session.join().await;
    session.order(1, 0, refused()).await;
    let failure = fresh.await.expect("no panic").expect_err("refused");
    assert_eq!(failure.exit_code, 1);
    assert!(failure.message.contains("the rank is taken"), "{failure}");

    let returning = worker(at(&address));
    let mut session = server.session().await;
    session.join().await;
    session.welcome(1, 1, "e", 1).await;
    session.commit(1, 1).await;
    session.report().await;
    drop(session);
    let refusals = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&refusals);
    let refusing = tokio::spawn(async move {
        while let Some(mut session) = server.sessions.recv().await {
            session.join().await;
            session.order(1, 0, refused()).await;
            *counted.lock().expect("no panic") += 1;
        }
    });
    let failure = timeout(AMPLE, returning).await.expect("in time").expect("no panic").expect_err("refused");
    refusing.abort();
    assert_eq!(failure.exit_code, 75);
    assert!(failure.message.contains("no coordinator took it in for 1 s"), "{failure}");
    assert!(failure.message.contains("the rank is taken"), "{failure}");
    assert!(*refusals.lock().expect("no panic") > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_with_the_request() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let (mut server, address) = Server::start().await;
    let worker = worker(at(&address).with_token(&file).expect("a token"));
    let mut session = server.session().await;
    assert_eq!(session.token.as_deref(), Some("Bearer s3cret"));
    session.join().await;
    session.welcome(1, 1, "f", 60).await;
    session.stop(1).await;
    assert_eq!(worker.await.expect("no panic"), Ok(()));
}
