//! LoRA (Hu et al., arXiv 2106.09685): low-rank adapters beside frozen weights, chosen, named and shaped as PEFT does.
//!
//! The adapter of module `model.layers.0.self_attn.q_proj` are two weights of its block,
//! `model.layers.0.self_attn.q_proj.lora_A.weight` `[rank, in]` and `….lora_B.weight` `[out, rank]`; of the patch
//! filters, which are a convolution, `[rank, channels, time, patch, patch]` and `[out, rank, 1, 1, 1]`.

use std::collections::{BTreeMap, BTreeSet};

use settings::Lora;
use tch::{Kind, Tensor, no_grad_guard};
use vision::Draws;

use crate::config::Config;
use crate::keys;
use crate::names::{EMBEDDING, HEAD, expected, in_transformers};
use crate::params::Params;

const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Which modules have adapters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapters {
    /// Canonical names, `model.layers.0.self_attn.q_proj`.
    modules: BTreeSet<String>,
    scale: f64,
}

/// The names of a module's two weights.
pub(crate) fn names_of(module: &str) -> [String; 2] {
    [A, B].map(|end| format!("{module}{end}"))
}

/// Whether a weight belongs to an adapter.
#[must_use]
pub fn is_adapter(name: &str) -> bool {
    name.ends_with(A) || name.ends_with(B)
}

impl Adapters {
    /// No adapters.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those that `lora` asks for.
    ///
    /// # Errors
    /// If its targets are no module, or one that can have no adapter.
    pub fn choose(config: &Config, lora: &Lora) -> Result<Self, String> {
        let modules: BTreeMap<String, String> = expected(config)
            .keys()
            .filter_map(|name| name.strip_suffix(".weight"))
            .map(|module| (in_transformers(module), module.to_owned()))
            .collect();
        let shapes = expected(config);
        let linear = |module: &str| shapes[&format!("{module}.weight")].len() > 1;
        let targets = &lora.targets;
        let all = |module: &str| {
            let module = &modules[module];
            shapes[&format!("{module}.weight")].len() == 2 && !is_end(module)
        };
        let chosen = targets.choose(modules.keys().map(String::as_str), all);
        if chosen.is_empty() {
            let linear = |name: &&str| name.contains(".0.") && all(name);
            let some: Vec<&str> = modules.keys().map(String::as_str).filter(linear).collect();
            return Err(format!(
                "model.lora.targets {targets} match no module, expected ends of names such as {}, all-linear, or a \
                 pattern for whole names",
                some.join(", ")
            ));
        }
        if let Some(module) =
            chosen.iter().find(|module| is_end(&modules[**module]) || !linear(&modules[**module]))
        {
            return Err(format!(
                "model.lora.targets {targets} match {module}, expected linear maps within the vision tower and the \
                 layers: embeddings, norms and the head get no adapters"
            ));
        }
        let modules = chosen.into_iter().map(|module| modules[module].clone()).collect();
        Ok(Self { modules, scale: lora.scale() })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Whether `module` has one.
    #[must_use]
    pub fn holds(&self, module: &str) -> bool {
        self.modules.contains(module)
    }

    /// What an adapter's output is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Names of the weights of all adapters of modules that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> impl Iterator<Item = String> {
        let within = self.modules.iter().filter(move |module| module.starts_with(prefix));
        within.flat_map(|module| names_of(module))
    }

    /// Name and shape of every weight of adapters of this `rank`.
    #[must_use]
    pub fn shapes(&self, config: &Config, rank: u32) -> BTreeMap<String, Vec<i64>> {
        let (weights, rank) = (expected(config), i64::from(rank));
        let of = |module: &String| {
            let weight = weights.get(&format!("{module}.weight")).cloned().unwrap_or_default();
            let (out, inputs) = weight.split_first().map_or((0, &[][..]), |(out, inputs)| (*out, inputs));
            let mut wide = vec![out, rank];
            wide.resize(inputs.len() + 1, 1);
            let [a, b] = names_of(module);
            [(a, [&[rank], inputs].concat()), (b, wide)]
        };
        self.modules.iter().flat_map(of).collect()
    }

    /// Fresh weights, f32, the same for a seed: A uniform within ±1 / √inputs (PEFT's Kaiming initialisation), B 0.
    pub fn fresh(&self, config: &Config, rank: u32, seed: u64) -> Params {
        let draw = |(name, shape): (String, Vec<i64>)| {
            let count = shape.iter().product::<i64>();
            if name.ends_with(B) {
                return (name, Tensor::zeros(&shape, (Kind::Float, tch::Device::Cpu)));
            }
            let bound = 1.0 / (count as f64 / f64::from(rank)).sqrt();
            let mut draws = Draws::new(seed, [0x6c_6f_72_61, keys::name(&name), 0]);
            let values: Vec<f32> =
                (0..count).map(|_| (bound * (2.0 * draws.uniform() - 1.0)) as f32).collect();
            (name, Tensor::from_slice(&values).view(shape.as_slice()))
        };
        self.shapes(config, rank).into_iter().map(draw).collect()
    }

    /// The weight called `name` with its adapter's product added, f32, if `adapters` has one for it.
    #[must_use]
    pub fn merged(&self, name: &str, weight: &Tensor, adapters: &Params) -> Option<Tensor> {
        let module = name.strip_suffix(".weight").filter(|module| self.holds(module))?;
        let [a, b] = names_of(module).map(|name| adapters.find(&name).map(|t| wide(t).flatten(1, -1)));
        let _guard = no_grad_guard();
        Some(wide(weight) + b?.matmul(&a?).view(weight.size().as_slice()) * self.scale)
    }
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.detach().to_kind(Kind::Float)
}

/// Whether a module is at an end of the language model.
fn is_end(module: &str) -> bool {
    [EMBEDDING, HEAD].iter().any(|end| end.strip_suffix(".weight") == Some(module))
}

#[cfg(test)]
#[path = "lora_tests.rs"]
pub(crate) mod tests;
