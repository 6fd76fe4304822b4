//! The forward pass as a chain of blocks, so that training can run it block by block.
//!
//! ```text
//! pixel values → visual.patch_embed → visual.blocks.I … → visual.merger → image tokens
//! image tokens → model.embed_tokens → model.layers.I … → model.norm → hidden states → head
//! ```

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::cpu;
use crate::dropout::Dropout;
use crate::linear::Parts;
use crate::lora::Adapters;
use crate::names::{self, EMBEDDING, HEAD, Shapes, under};
use crate::ops::rms_norm;
use crate::packed::Packed;
use crate::params::Params;
use crate::text::{Layer, rotation};
use crate::tower::{VisionBatch, VisionPass};

/// A Qwen2.5-VL without its weights, which are handed in as [`Params`].
#[derive(Clone, Debug)]
pub struct Qwen {
    /// Shapes and constants.
    pub config: Config,
    /// Compute type: of activations, and of weights where they are used.
    pub kind: Kind,
    /// Type in which training holds and exchanges weights.
    pub weights: Kind,
    /// Where weights and activations lie.
    pub device: Device,
    /// Which modules have adapters beside their weights.
    pub adapters: Adapters,
}

/// What a block computes from its weights and its input.
pub type Forward<'a> = Box<dyn Fn(&Params, &Tensor) -> Tensor + 'a>;

/// One block of the forward pass.
pub struct Link<'a> {
    /// The published prefix of its weights, `visual.blocks.3`.
    pub name: String,
    /// Canonical names of the weights that it uses, sorted.
    pub params: Vec<String>,
    /// Computes it. The same weights and input give the same output, so it can be recomputed.
    pub forward: Forward<'a>,
}

impl std::fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("name", &self.name).field("params", &self.params).finish_non_exhaustive()
    }
}

/// Runs the links one after the other.
pub fn run(chain: &[Link<'_>], params: &Params, input: &Tensor) -> Tensor {
    chain.iter().fold(input.shallow_clone(), |x, link| (link.forward)(params, &x))
}

impl Qwen {
    /// A model without adapters that computes as `kind` on `device`, with weights of that type.
    #[must_use]
    pub fn new(config: Config, kind: Kind, device: Device) -> Self {
        Self { config, kind, weights: kind, device, adapters: Adapters::none() }
    }

    /// With weights of type `weights`, and the arithmetic that `device` does fastest without loss to them: f32 where a
    /// CPU multiplies it faster than bf16, else their own type.
    #[must_use]
    pub fn fastest(config: Config, weights: Kind, device: Device) -> Self {
        let kind = if device == Device::Cpu && !cpu::prefers_bf16() { Kind::Float } else { weights };
        Self { weights, ..Self::new(config, kind, device) }
    }

    /// Pixel values `[patches, channels · time · patch · patch]` (compute type) to merged image tokens
    /// `[n, hidden]`, in the order of the batch. Empty for a batch without pictures.
    #[must_use]
    pub fn vision_chain(&self, batch: &VisionBatch) -> Vec<Link<'_>> {
        self.vision_chain_with(batch, None)
    }

    /// As [`Qwen::vision_chain`], a training pass with `dropout` (a row a patch) before the adapters.
    #[must_use]
    pub fn vision_chain_with(&self, batch: &VisionBatch, dropout: Option<&Dropout>) -> Vec<Link<'_>> {
        if batch.grids.is_empty() {
            return Vec::new();
        }
        let vision = &self.config.vision;
        let pass = Rc::new(VisionPass::new(batch, &self.config, self.device, &self.adapters, dropout));
        let mut chain: Vec<Link<'_>> = Vec::new();
        let embed = Rc::clone(&pass);
        chain.push(Link {
            name: "visual.patch_embed".to_owned(),
            params: self.params("visual.patch_embed.", &vec![("proj.weight", Vec::new())]),
            forward: Box::new(move |params, pixels| embed.embed(params, pixels)),
        });
        for index in 0..vision.depth {
            let name = format!("visual.blocks.{index}");
            let prefix = format!("{name}.");
            let full = vision.full_attention.contains(&index);
            let pass = Rc::clone(&pass);
            chain.push(Link {
                params: self.params(&prefix, &names::vision_block(&self.config)),
                forward: Box::new(move |params, x| pass.block(params, &prefix, full, x)),
                name,
            });
        }
        chain.push(Link {
            name: "visual.merger".to_owned(),
            params: self.params("visual.merger.", &names::merger(&self.config)),
            forward: Box::new(move |params, x| pass.merge(params, x)),
        });
        chain
    }

    /// Merged image tokens `[n, hidden]` (n may be 0) to final, normed hidden states `[T, hidden]`. The first link
    /// puts the image tokens in their slots, so that the gradient there goes to the merger, not to a placeholder's
    /// row of the embedding.
    #[must_use]
    pub fn text_chain<'a>(&'a self, packed: &'a Packed) -> Vec<Link<'a>> {
        self.text_chain_with(packed, None)
    }

    /// As [`Qwen::text_chain`], a training pass with `dropout` (a row a token) before the adapters.
    #[must_use]
    pub fn text_chain_with<'a>(&'a self, packed: &'a Packed, dropout: Option<&Dropout>) -> Vec<Link<'a>> {
        let text = &self.config.text;
        let turn = Rc::new(rotation(&packed.positions, text, self.kind));
        let mut chain: Vec<Link<'a>> = Vec::new();
        chain.push(Link {
            name: "model.embed_tokens".to_owned(),
            params: vec![EMBEDDING.to_owned()],
            forward: Box::new(move |params, images| {
                self.embed(params, &packed.ids, &packed.image_slots, images)
            }),
        });
        for index in 0..text.layers {
            let name = format!("model.layers.{index}");
            let (turn, dropout) = (Rc::clone(&turn), dropout.cloned());
            chain.push(Link {
                params: self.params(&format!("{name}."), &names::text_layer(&self.config)),
                forward: Box::new(move |params, x| {
                    let attend = |qkv| packed.plan.attend(&qkv, &turn);
                    let parts = Parts { params, adapters: &self.adapters, dropout: dropout.as_ref() };
                    Layer::of(&parts, index, text).forward(x, attend)
                }),
                name,
            });
        }
        chain.push(Link {
            name: "model.norm".to_owned(),
            params: vec!["model.norm.weight".to_owned()],
            forward: Box::new(move |params, x| self.final_norm(params, x)),
        });
        chain
    }

    /// Canonical names of all weights, adapters' among them.
    pub fn weight_names(&self) -> impl Iterator<Item = String> {
        names::expected(&self.config).into_keys().chain(self.adapters.names(""))
    }

    /// Names of a link's weights, its adapters' among them.
    fn params(&self, prefix: &str, own: &Shapes) -> Vec<String> {
        let mut names = under(prefix, own);
        names.extend(self.adapters.names(prefix));
        names.sort_unstable();
        names
    }

    /// Name of the head's weight: the embedding's where they are tied.
    #[must_use]
    pub fn head_name(&self) -> &'static str {
        if self.config.tied { EMBEDDING } else { HEAD }
    }

    /// No image tokens, `[0, hidden]`: the text chain's input for a batch without pictures.
    pub fn no_images(&self) -> Tensor {
        Tensor::zeros([0, self.config.text.hidden], (self.kind, self.device))
    }

    /// Image tokens of a batch, or none: the whole vision chain.
    pub fn encode(&self, params: &Params, batch: &VisionBatch, pixels: &Tensor) -> Tensor {
        if batch.grids.is_empty() { self.no_images() } else { run(&self.vision_chain(batch), params, pixels) }
    }

    /// Token embeddings with `images` in their slots, `[tokens, hidden]`.
    pub(crate) fn embed(&self, params: &Params, ids: &Tensor, slots: &Tensor, images: &Tensor) -> Tensor {
        // torch.nn.Embedding keeps the pad row's gradient at zero.
        let pad = self.config.text.pad_token.map_or(-1, i64::from);
        let text = Tensor::embedding(params.get(EMBEDDING), ids, pad, false, false);
        text.index_copy(0, slots, images)
    }

    pub(crate) fn final_norm(&self, params: &Params, x: &Tensor) -> Tensor {
        rms_norm(x, params.get("model.norm.weight"), self.config.text.norm_eps)
    }
}
