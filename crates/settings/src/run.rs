//! The resolved recipe: what the rest of the program sees. Every field is checked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A checked recipe with its stages in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name, seed and output folder.
    pub run: Identity,
    /// Where the first stage's weights come from, and how they compute.
    pub model: Model,
    /// What survives which fault.
    pub recovery: Recovery,
    /// How often weights go to disk, and how many stay.
    pub checkpoint: Checkpoint,
    /// The stages, each with every setting that it may change, already merged.
    pub stages: Vec<Stage>,
    /// Planned faults; empty without `--allow-faults`.
    pub faults: Vec<Fault>,
}

/// One stage: base settings with the stage's own laid over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Unique within the run; names its checkpoints.
    pub name: String,
    /// Optimizer steps.
    pub steps: u64,
    /// What a step does.
    pub kind: StageKind,
    /// Which parameters train.
    pub trainable: Trainable,
    /// Data sets, pixels, prompts.
    pub data: Data,
    /// How responses are drawn.
    pub rollout: Rollout,
    /// How responses are scored.
    pub reward: Reward,
    /// The policy loss.
    pub objective: Objective,
    /// The weights of the supervised losses (`kind: vision` and `kind: sft`).
    pub supervised: Supervised,
    /// AdamW and its schedule.
    pub optimizer: Optimizer,
    /// Batch and sharding.
    pub parallel: Parallel,
    /// Evaluation within the stage.
    pub evaluation: Evaluation,
}

/// What a stage's steps do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// The vision tower with a throw-away head for distortion type, level and quality.
    Vision,
    /// Cross-entropy on answers made from labels.
    Sft,
    /// Rollout, reward, policy update.
    Prpo,
}

/// Which parameters a stage trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trainable {
    /// Vision tower and language model.
    #[default]
    All,
    /// The language model; the vision tower (with its merger) is frozen.
    Language,
    /// The vision tower (with its merger); the language model is frozen.
    Vision,
}

/// `run:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Shown everywhere; part of the run id.
    pub name: String,
    /// Every draw derives from it.
    #[serde(default)]
    pub seed: u64,
    /// The run folder: journal, logs, checkpoints, report.
    pub output: PathBuf,
}

/// `model:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A directory in Hugging Face layout.
    pub path: PathBuf,
    /// Compute type; master weights are always f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// Which parameters train.
    #[serde(default)]
    pub trainable: Trainable,
}

/// Compute type of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bf16 compute over f32 masters.
    #[default]
    Bfloat16,
    /// f32 throughout.
    Float32,
}

/// `data:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Training sets.
    pub train: Vec<DataSource>,
    /// Held out; chooses checkpoints.
    pub validation: Vec<DataSource>,
    /// Held out; touched at the end only.
    pub test: Vec<DataSource>,
    /// Lower bound on a resized picture's area, pixels; the processor's own when absent.
    pub min_pixels: Option<u32>,
    /// Upper bound on a resized picture's area, pixels; the processor's own when absent.
    pub max_pixels: Option<u32>,
    /// How a step's samples are drawn.
    pub sampler: Sampler,
    /// Side of a random square crop at native scale in training, pixels; none when absent.
    pub crop: Option<u32>,
    /// Random horizontal and vertical flips in training.
    pub flip: bool,
    /// Questions to draw from instead of the manifest's; empty: the manifest's own.
    pub prompts: Vec<String>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            min_pixels: None,
            max_pixels: None,
            sampler: Sampler::Mixed,
            crop: None,
            flip: false,
            prompts: Vec::new(),
        }
    }
}

/// One manifest with its media folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Shown in reports; unique within its list.
    pub name: String,
    /// JSON lines (images) in the published format.
    pub manifest: PathBuf,
    /// The folder that the manifest's file names are relative to.
    pub media: PathBuf,
}

/// How a step's samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Every step's samples come from one data set, picked at random.
    Published,
    /// One shuffle over all data sets.
    Mixed,
}

/// `rollout:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// K, responses a sample.
    pub responses: u32,
    /// Length bound of a completion, tokens.
    pub max_new_tokens: u32,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f64,
    /// Tokens kept by rank; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept.
    pub top_p: f64,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { responses: 6, max_new_tokens: 256, temperature: 1.0, top_k: 50, top_p: 1.0 }
    }
}

/// `reward:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reward {
    /// Which reward.
    pub kind: RewardKind,
    /// Whose samples are compared.
    pub scope: Scope,
    /// Samples compared together under `scope: device`.
    pub group_samples: u32,
    /// Demand the published line breaks inside `<answer>`.
    pub strict_format: bool,
    /// Constants of PRPO's parts.
    pub parts: Parts,
}

impl Default for Reward {
    fn default() -> Self {
        Self {
            kind: RewardKind::Prpo,
            scope: Scope::Global,
            group_samples: 8,
            strict_format: true,
            parts: Parts::default(),
        }
    }
}

/// Which reward scores the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// docs/method.md section 2.
    Prpo,
    /// VisualQuality-R1's.
    #[serde(rename = "visualquality_r1")]
    VisualQualityR1,
}

/// Whose samples PRPO compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Groups of `group_samples`, as the published code's devices.
    Device,
    /// The whole batch, as the paper.
    Global,
}

/// Constants of PRPO's parts; the defaults are the published ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parts {
    /// Weight of the pairwise part W.
    pub pairwise: f64,
    /// Weight of the triplet part Y.
    pub triplet: f64,
    /// Weight of the response balance T in the sum.
    pub response_balance: f64,
    /// λ inside the response balance T.
    pub response_balance_lambda: f64,
    /// λ_std of the std penalty P; 0 switches it off.
    pub std_penalty: f64,
    /// `min_std` of the std penalty P.
    pub min_std: f64,
    /// Weight of the score rank S (images only).
    pub score_rank: f64,
    /// Weight of the format F.
    pub format: f64,
    /// Aspects that the response balance looks at, images.
    pub balance_aspects: u32,
    /// What W gives a wrongly ordered pair.
    pub misordered: Misordered,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            pairwise: 0.375,
            triplet: 0.125,
            response_balance: 0.5,
            response_balance_lambda: 0.5,
            std_penalty: 0.5,
            min_std: 0.5,
            score_rank: 1.0,
            format: 1.0,
            balance_aspects: 4,
            misordered: Misordered::Published,
        }
    }
}

/// W of a wrongly ordered pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Misordered {
    /// `sqrt(1 − q)`, as the published code.
    Published,
    /// 0.
    Zero,
}

/// `objective:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// From rewards to advantages.
    pub advantage: Advantage,
    /// How token losses are averaged.
    pub loss: LossForm,
    /// β of the KL term; 0 needs no reference pass.
    pub beta: f64,
    /// Estimator of the KL term.
    pub kl: Kl,
    /// Lower clip of the ratio.
    pub epsilon_low: f64,
    /// Upper clip of the ratio.
    pub epsilon_high: f64,
    /// μ, optimizer steps a rollout.
    pub iterations: u32,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            advantage: Advantage::Std,
            loss: LossForm::SequenceMean,
            beta: 0.04,
            kl: Kl::K3,
            epsilon_low: 0.2,
            epsilon_high: 0.2,
            iterations: 1,
        }
    }
}

/// From a group's rewards to advantages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// `(R − mean) / (std + 1e-4)`, unbiased std.
    Std,
    /// `R − mean` (Dr. GRPO).
    MeanOnly,
}

/// How token losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossForm {
    /// Mean over a completion's tokens, then over completions.
    SequenceMean,
    /// Mean over all tokens (DAPO).
    TokenMean,
    /// Sum over tokens / (completions × max_new_tokens) (Dr. GRPO).
    FixedLength,
}

/// Estimator of KL(π ‖ π_ref) a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kl {
    /// `−Δ`.
    K1,
    /// `Δ² / 2`.
    K2,
    /// `e^Δ − Δ − 1`.
    K3,
}

/// `supervised:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supervised {
    /// Weight of the answer's leading words (kind and severity), against 1 for the rest.
    pub lead_weight: f64,
    /// Weight of the head's distortion-type cross-entropy (`kind: vision`).
    pub kind_weight: f64,
    /// Weight of the head's level cross-entropy.
    pub level_weight: f64,
    /// Weight of the head's squared quality error.
    pub quality_weight: f64,
    /// Share of the stage's steps that see gross levels only (4 and 5, then 3 to 5), before all.
    pub gross_first: f64,
}

impl Default for Supervised {
    fn default() -> Self {
        Self { lead_weight: 6.0, kind_weight: 1.0, level_weight: 0.5, quality_weight: 1.0, gross_first: 0.0 }
    }
}

/// `optimizer:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Peak learning rate.
    pub lr: f64,
    /// AdamW's decay rates.
    pub betas: [f64; 2],
    /// AdamW's ε.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Bound on the global gradient norm; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Learning rate over steps.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Non-finite steps in a row after which the run stops.
    pub max_consecutive_skips: u32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            max_consecutive_skips: 5,
        }
    }
}

/// Learning rate over steps, after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls to 0 in a line.
    Linear,
    /// Falls to 0 in half a cosine.
    Cosine,
}

/// `parallel:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parallel {
    /// How parameters lie over ranks.
    pub sharding: Sharding,
    /// Samples a step, over all ranks.
    pub samples_per_step: u32,
    /// Tokens a micro-batch may hold, prompts and completions.
    pub token_budget: u32,
    /// What the backward pass recomputes.
    pub recompute: Recompute,
}

impl Default for Parallel {
    fn default() -> Self {
        Self {
            sharding: Sharding::Replicate,
            samples_per_step: 32,
            token_budget: 16384,
            recompute: Recompute::None,
        }
    }
}

/// How parameters lie over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharding {
    /// Every rank holds everything.
    Replicate,
}

/// What the backward pass recomputes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing: every activation is kept.
    None,
    /// Every block, from its kept input.
    Blocks,
}

/// `recovery:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// A worker silent for longer is lost, seconds.
    pub lease: u64,
    /// How long the world may take to form, seconds.
    pub forming: u64,
    /// How long one stage of a step may take without progress, seconds.
    pub progress: u64,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { lease: 15, forming: 120, progress: 600 }
    }
}

/// `checkpoint:`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Steps between checkpoints; a stage's end always writes one.
    pub every: u64,
    /// Newest checkpoints that stay, besides stage ends.
    pub keep: u32,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: 50, keep: 3 }
    }
}

/// `evaluation:`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Steps between evaluations on the validation sets; 0: only before and after the stage.
    pub every: u64,
    /// Responses a sample, averaged.
    pub responses: u32,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f64,
    /// Which of an answer's numbers is the prediction.
    pub score: Score,
    /// Samples of each validation set used within a stage; 0: all.
    pub samples: u32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { every: 50, responses: 1, temperature: 0.0, score: Score::Mean, samples: 0 }
    }
}

/// Which of an answer's numbers is the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The mean of the aspects.
    Mean,
    /// The first number.
    First,
}

/// A planned fault: at a rank, step and phase, do something. Refused without `--allow-faults`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// On which rank.
    pub rank: u32,
    /// At which step (1 is the first).
    pub step: u64,
    /// When in the step.
    pub phase: Phase,
    /// What happens.
    #[serde(rename = "do")]
    pub action: FaultAction,
}

/// A moment of a step on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// While responses are drawn.
    Rollout,
    /// Before gradients are reduced.
    Update,
    /// After StepReady, before Commit is applied.
    Commit,
    /// While a checkpoint is written.
    Checkpoint,
}

/// What a planned fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// The process aborts at once (SIGKILL to itself).
    Kill,
}
