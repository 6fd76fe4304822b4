//! The ranges that settings must lie in, and what must fit together.

mod video;

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::check::Finding;
use crate::hosts::{Hosts, Launcher};
use crate::position::Path;
use crate::run::{Run, Stage, StageKind};
use crate::sections::{DataSource, Fault, Lora, Phase, Reference, Sampler, Scope, Trainable};

/// Collects what does not hold.
#[derive(Default)]
struct Limits(Vec<Finding>);

impl Limits {
    /// Notes that the value at `path` is not as expected, unless it is.
    fn demand(&mut self, holds: bool, path: &Path, value: impl Display, expected: &str) {
        if !holds {
            let text = format!("{} {value} must be {expected}", path.base());
            self.0.push(Finding { path: path.clone(), text });
        }
    }

    fn positive(&mut self, value: f64, path: &Path) {
        self.demand(value > 0.0, path, value, "above 0");
    }

    fn not_negative(&mut self, value: f64, path: &Path) {
        self.demand(value >= 0.0, path, value, "at least 0");
    }

    fn at_least(&mut self, value: u64, least: u64, path: &Path) {
        self.demand(value >= least, path, value, &format!("at least {least}"));
    }

    /// A name that is also a file name, unique in its list.
    fn name<'a>(&mut self, name: &'a str, path: &Path, seen: &mut BTreeSet<&'a str>) {
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        let fits = name.chars().all(plain) && name.starts_with(char::is_alphanumeric) && name.len() <= 100;
        let quoted = format!("\"{name}\"");
        self.demand(
            fits,
            path,
            &quoted,
            "letters, digits, '.', '_' and '-', a letter or digit first, 100 at most",
        );
        self.demand(seen.insert(name), path, &quoted, "unique in its list");
    }
}

/// What is out of range in a recipe.
pub(crate) fn run_limits(run: &Run) -> Vec<Finding> {
    let mut limits = Limits::default();
    let at = |key: &str| Path::dotted(key);
    limits.name(&run.run.name, &at("run.name"), &mut BTreeSet::new());
    limits.demand(!run.run.output.as_os_str().is_empty(), &at("run.output"), "\"\"", "a folder");
    limits.demand(!run.model.path.as_os_str().is_empty(), &at("model.path"), "\"\"", "a folder");
    // A worker's heartbeat is a fifth of the lease, in whole milliseconds.
    limits.at_least(run.recovery.lease, 1, &at("recovery.lease"));
    limits.at_least(run.recovery.forming, 1, &at("recovery.forming"));
    limits.at_least(run.recovery.progress, 1, &at("recovery.progress"));
    limits.at_least(u64::from(run.recovery.max_discards), 1, &at("recovery.max_discards"));
    limits.at_least(run.checkpoint.every, 1, &at("checkpoint.every"));
    limits.at_least(run.checkpoint.keep.into(), 1, &at("checkpoint.keep"));
    for (i, fault) in run.faults.iter().enumerate() {
        fault_limits(fault, &at("faults").index(i), &mut limits);
    }
    limits.at_least(run.stages.len() as u64, 1, &at("stages"));
    let mut names = BTreeSet::new();
    for (i, stage) in run.stages.iter().enumerate() {
        let at = at("stages").index(i);
        limits.name(&stage.name, &at.key("name"), &mut names);
        stage_limits(stage, &at, &mut limits);
    }
    limits.0
}

/// A fault strikes at a rank and step, or at a sample.
fn fault_limits(fault: &Fault, at: &Path, limits: &mut Limits) {
    let Fault { rank, step, sample, phase, .. } = fault;
    let placed = rank.is_some() && step.is_some() && sample.is_none();
    let named = rank.is_none() && step.is_none() && sample.is_some();
    let found = format!("{fault:?}");
    limits.demand(placed || named, at, &found, "rank and step, or sample");
    limits.at_least(step.unwrap_or(1), 1, &at.key("step"));
    if named {
        let expected = "rollout or update, where a sample is named";
        let fits = matches!(phase, Phase::Rollout | Phase::Update);
        limits.demand(fits, &at.key("phase"), format!("{phase:?}"), expected);
    }
}

fn stage_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let frozen = stage.kind == StageKind::Vision && stage.trainable == Trainable::Language;
    let expected = "all or vision in a stage of kind vision";
    limits.demand(!frozen, &at.key("model").key("trainable"), "language", expected);
    lora_limits(stage, &at.key("model").key("lora"), limits);
    if stage.data.epochs.is_none() {
        let expected = "at least 1, or absent where data.epochs is given";
        limits.demand(stage.steps > 0, &at.key("steps"), stage.steps, expected);
    }
    data_limits(stage, &at.key("data"), limits);
    rollout_limits(stage, at, limits);
    reward_limits(stage, &at.key("reward"), limits);
    loss_limits(stage, at, limits);
    optimizer_limits(stage, &at.key("optimizer"), limits);
    let parallel = at.key("parallel");
    limits.at_least(stage.parallel.samples_per_step.into(), 1, &parallel.key("samples_per_step"));
    limits.at_least(stage.parallel.token_budget.into(), 1, &parallel.key("token_budget"));
}

/// No layer is wider.
const MOST_RANK: u32 = 1 << 16;

fn lora_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let Lora { rank, alpha, dropout, targets, .. } = &stage.lora;
    let fits = (1..=MOST_RANK).contains(rank);
    limits.demand(fits, &at.key("rank"), rank, &format!("from 1 to {MOST_RANK}"));
    limits.positive(*alpha, &at.key("alpha"));
    limits.demand((0.0..1.0).contains(dropout), &at.key("dropout"), dropout, "at least 0 and below 1");
    let misfit = targets.misfit().unwrap_or_default();
    let expected = "a list of module names (the ends of them), all-linear, or a pattern for whole names";
    limits.demand(misfit.is_empty(), &at.key("targets"), format!("{targets} {misfit}: it"), expected);
}

/// A visual token covers 28 × 28 pixels: 2 × 2 patches of 14 × 14.
const TOKEN_SIDE: u32 = 28;

fn source_limits(source: &DataSource, at: &Path, limits: &mut Limits) {
    let (manifests, folders) = (DataSource::split(&source.manifest), DataSource::split(&source.media));
    let expected = format!("as many folders as manifests ({}), joined by ':'", manifests.len());
    let media = format!("\"{}\"", source.media.display());
    limits.demand(manifests.len() == folders.len(), &at.key("media"), media, &expected);
    if let Some([low, high]) = source.range {
        let range = format!("[{low}, {high}]");
        limits.demand(
            low < high,
            &at.key("range"),
            &range,
            "[least, greatest] MOS of the scale, in this order",
        );
        let expected = "absent where found_range is true: the scale is given or found";
        limits.demand(!source.found_range, &at.key("range"), &range, expected);
    }
    if let Some(shares) = source.split {
        let expected = "three shares for train, validation and test, each at most 1000000, the first above 0";
        let fits = shares[0] > 0 && shares.iter().all(|share| *share <= 1_000_000);
        limits.demand(fits, &at.key("split"), format!("{shares:?}"), expected);
    }
    if let Some(declared) = source.declared {
        let under = at.key("declared");
        limits.at_least(declared.samples.into(), 1, &under.key("samples"));
        limits.at_least(declared.width.into(), 1, &under.key("width"));
        limits.at_least(declared.height.into(), 1, &under.key("height"));
    }
}

fn data_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let data = &stage.data;
    if let Some(epochs) = data.epochs {
        limits.at_least(epochs.into(), 1, &at.key("epochs"));
        let expected = "absent where the stage has steps: one of them says how long it is";
        limits.demand(stage.steps == 0, &at.key("epochs"), epochs, expected);
    }
    let group = stage.reward.group_samples.max(1);
    if data.sampler == Sampler::Published && stage.reward.scope == Scope::Device {
        let samples = stage.parallel.samples_per_step;
        let expected = format!("a divisor of samples_per_step {samples}: a step is whole device batches");
        limits.demand(
            samples.is_multiple_of(group),
            &at.key("sampler"),
            format!("published with group_samples {group}: it"),
            &expected,
        );
    }
    for (list, sources) in [("train", &data.train), ("validation", &data.validation), ("test", &data.test)] {
        let mut names = BTreeSet::new();
        for (i, source) in sources.iter().enumerate() {
            let at = at.key(list).index(i);
            limits.name(&source.name, &at.key("name"), &mut names);
            source_limits(source, &at, limits);
        }
    }
    if let Some(crop) = data.crop {
        let expected = format!("a multiple of {TOKEN_SIDE}, the side of a visual token, above 0");
        limits.demand(crop > 0 && crop.is_multiple_of(TOKEN_SIDE), &at.key("crop"), crop, &expected);
    }
    if let Some(side) = data.longest_side {
        let expected = format!("at least {TOKEN_SIDE}, the side of a visual token");
        limits.demand(side >= TOKEN_SIDE, &at.key("longest_side"), side, &expected);
    }
    video::check(stage, at, limits);
    let least = TOKEN_SIDE * TOKEN_SIDE;
    for (key, value) in [("min_pixels", data.min_pixels), ("max_pixels", data.max_pixels)] {
        let expected = format!("at least {least}, the area of a visual token");
        limits.demand(
            value.is_none_or(|pixels| pixels >= least),
            &at.key(key),
            value.unwrap_or(0),
            &expected,
        );
    }
    if let (Some(min), Some(max)) = (data.min_pixels, data.max_pixels) {
        limits.demand(min <= max, &at.key("min_pixels"), min, &format!("at most max_pixels {max}"));
    }
    for (i, prompt) in data.prompts.iter().enumerate() {
        limits.demand(!prompt.trim().is_empty(), &at.key("prompts").index(i), "\"\"", "a question");
    }
}

fn rollout_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let (rollout, under) = (&stage.rollout, at.key("rollout"));
    limits.at_least(rollout.responses.into(), 1, &under.key("responses"));
    limits.at_least(rollout.max_new_tokens.into(), 1, &under.key("max_new_tokens"));
    limits.not_negative(rollout.temperature, &under.key("temperature"));
    let top_p = rollout.top_p;
    limits.demand(top_p > 0.0 && top_p <= 1.0, &under.key("top_p"), top_p, "above 0 and at most 1");
    let (evaluation, under) = (&stage.evaluation, at.key("evaluation"));
    limits.at_least(evaluation.responses.into(), 1, &under.key("responses"));
    limits.not_negative(evaluation.temperature, &under.key("temperature"));
    if let Some(tokens) = evaluation.max_new_tokens {
        limits.at_least(tokens.into(), 1, &under.key("max_new_tokens"));
    }
    if let Some(question) = &evaluation.question {
        limits.demand(!question.trim().is_empty(), &under.key("question"), "\"\"", "a question");
    }
    if let Some(stop) = evaluation.early_stop {
        let under = under.key("early_stop");
        limits.at_least(stop.patience.into(), 1, &under.key("patience"));
        limits.not_negative(stop.min_gain, &under.key("min_gain"));
    }
}

fn reward_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    limits.at_least(stage.reward.group_samples.into(), 1, &at.key("group_samples"));
    let (parts, at) = (&stage.reward.parts, at.key("parts"));
    for (key, value) in [
        ("pairwise", parts.pairwise),
        ("triplet", parts.triplet),
        ("response_balance", parts.response_balance),
        ("response_balance_lambda", parts.response_balance_lambda),
        ("std_penalty", parts.std_penalty),
        ("min_std", parts.min_std),
        ("score_rank", parts.score_rank),
        ("format", parts.format),
    ] {
        limits.not_negative(value, &at.key(key));
    }
    limits.positive(parts.divisor, &at.key("divisor"));
    let aspects = parts.balance_aspects;
    limits.demand((1..=5).contains(&aspects), &at.key("balance_aspects"), aspects, "from 1 to 5");
}

fn loss_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let (objective, under) = (&stage.objective, at.key("objective"));
    limits.not_negative(objective.beta, &under.key("beta"));
    let low = objective.epsilon_low;
    limits.demand((0.0..=1.0).contains(&low), &under.key("epsilon_low"), low, "from 0 to 1");
    limits.not_negative(objective.epsilon_high, &under.key("epsilon_high"));
    limits.at_least(objective.iterations.into(), 1, &under.key("iterations"));
    limits.at_least(objective.sync_every, 1, &under.key("sync_every"));
    let alone = objective.reference != Reference::Base || stage.trainable == Trainable::Lora;
    let expected =
        "initial or synced where model.trainable is not lora: without adapters the base is what trains";
    limits.demand(alone, &under.key("reference"), "base", expected);
    let mixture = objective.sync_mixture;
    let expected = "above 0 and at most 1";
    limits.demand(mixture > 0.0 && mixture <= 1.0, &under.key("sync_mixture"), mixture, expected);
    if let Some(cap) = objective.importance_cap {
        let path = under.key("importance_cap");
        limits.positive(cap, &path);
        // With more, the ratio is taken against the rollout's log-probabilities: nothing is left to correct.
        limits.demand(objective.iterations <= 1, &path, cap, "absent where objective.iterations is above 1");
    }
    let (supervised, under) = (&stage.supervised, at.key("supervised"));
    for (key, value) in [
        ("lead_weight", supervised.lead_weight),
        ("kind_weight", supervised.kind_weight),
        ("level_weight", supervised.level_weight),
        ("quality_weight", supervised.quality_weight),
    ] {
        limits.not_negative(value, &under.key(key));
    }
    let gross = supervised.gross_first;
    limits.demand((0.0..=1.0).contains(&gross), &under.key("gross_first"), gross, "from 0 to 1");
}

fn optimizer_limits(stage: &Stage, at: &Path, limits: &mut Limits) {
    let optimizer = &stage.optimizer;
    limits.positive(optimizer.lr, &at.key("lr"));
    for (i, beta) in optimizer.betas.into_iter().enumerate() {
        limits.demand((0.0..1.0).contains(&beta), &at.key("betas").index(i), beta, "at least 0 and below 1");
    }
    limits.positive(optimizer.eps, &at.key("eps"));
    limits.not_negative(optimizer.weight_decay, &at.key("weight_decay"));
    limits.not_negative(optimizer.max_grad_norm, &at.key("max_grad_norm"));
    let (warmup, steps) = (optimizer.warmup_steps, stage.steps);
    limits.demand(
        warmup <= steps || stage.data.epochs.is_some(),
        &at.key("warmup_steps"),
        warmup,
        &format!("at most the stage's steps {steps}"),
    );
    limits.at_least(optimizer.max_consecutive_skips.into(), 1, &at.key("max_consecutive_skips"));
}

/// More workers than any one run has; a bound, so that a mistyped number allocates nothing.
const MOST_WORKERS: u32 = 4096;

/// What is out of range in a host file.
pub(crate) fn host_limits(hosts: &Hosts) -> Vec<Finding> {
    let mut limits = Limits::default();
    let listen = &hosts.coordinator.listen;
    let fits =
        listen.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let at = Path::dotted("coordinator.listen");
    limits.demand(fits, &at, format!("\"{listen}\""), "host:port, port 0 where the system may choose");
    if hosts.launcher != Launcher::Slurm {
        limits.at_least(hosts.hosts.len() as u64, 1, &Path::dotted("hosts"));
    }
    if hosts.launcher == Launcher::Ssh && hosts.coordinator.interface.is_none() && is_loopback(listen) {
        let away = hosts.hosts.iter().find(|host| !is_loopback(&host.address));
        let expected = away.map_or_else(String::new, |host| {
            format!("an address of this host that host \"{}\" ({}) reaches", host.name, host.address)
        });
        limits.demand(away.is_none(), &at, format!("\"{listen}\""), &expected);
    }
    let options = hosts.slurm.partition.iter().chain(&hosts.slurm.time).chain(&hosts.slurm.extra);
    for option in options.filter(|option| option.is_empty() || option.contains(char::is_control)) {
        limits.demand(false, &Path::dotted("slurm"), format!("{option:?}"), "a word or option on one line");
    }
    let security = &hosts.security;
    for (key, path, expected) in [
        ("security.certificates", &security.certificates, "a folder that \"coordinator certificates\" wrote"),
        ("security.token_file", &security.token_file, "a file that holds the join token"),
    ] {
        let empty = path.as_ref().is_some_and(|path| path.as_os_str().is_empty());
        limits.demand(!empty, &Path::dotted(key), "\"\"", expected);
    }
    let mut names = BTreeSet::new();
    let mut world = 0u64;
    for (i, host) in hosts.hosts.iter().enumerate() {
        let at = Path::dotted("hosts").index(i);
        limits.name(&host.name, &at.key("name"), &mut names);
        limits.demand(
            !host.address.trim().is_empty(),
            &at.key("address"),
            "\"\"",
            "a host name or IP address",
        );
        if let Some(user) = &host.user {
            let fits = !user.is_empty() && !user.starts_with('-') && !user.contains(char::is_whitespace);
            limits.demand(fits, &at.key("user"), format!("\"{user}\""), "the name of a user");
        }
        let fits = !host.address.starts_with('-') && !host.address.contains(char::is_whitespace);
        limits.demand(fits, &at.key("address"), format!("\"{}\"", host.address), "a host name or IP address");
        limits.at_least(host.workers.into(), 1, &at.key("workers"));
        world += u64::from(host.workers);
        let expected = format!("at most {MOST_WORKERS} with the hosts before it");
        limits.demand(world <= MOST_WORKERS.into(), &at.key("workers"), host.workers, &expected);
        for key in host.environment.keys() {
            let fits = !key.is_empty() && !key.contains(['=', '\0']);
            limits.demand(fits, &at.key("environment").key(key), "", "the name of an environment variable");
        }
    }
    limits.0
}

/// Whether an address, with or without a port, is one that only its own host reaches.
fn is_loopback(address: &str) -> bool {
    ["127.", "localhost", "::1", "[::1]"].iter().any(|start| address.starts_with(start))
}
