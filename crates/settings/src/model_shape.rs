//! The shape of a Qwen2.5-VL as plain numbers: its blocks and linear maps, for plans that are made without it.

use serde_json::Value;

use crate::sections::Published;

/// Qwen2.5-VL's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Width of a token.
    pub hidden: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Width inside a decoder layer's MLP.
    pub intermediate: u64,
    /// Tokens that there are.
    pub vocab: u64,
    /// The head is the embedding.
    pub tied: bool,
    /// The vision tower.
    pub vision: VisionShape,
}

/// The vision tower's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionShape {
    /// Width of a patch.
    pub hidden: u64,
    /// Blocks.
    pub depth: u64,
    /// Width inside a block's MLP.
    pub intermediate: u64,
    /// Colour channels.
    pub channels: u64,
    /// Side of a patch, pixels.
    pub patch: u64,
    /// Frames a patch.
    pub frames: u64,
    /// Patches along a side of a token.
    pub merge: u64,
}

/// Parameters that are gathered, reduced and stepped together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// How many there are.
    pub parameters: u64,
    /// It belongs to the vision tower, its merger included.
    pub vision: bool,
}

/// A linear map, as transformers names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearMap {
    /// `model.language_model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Values in and out.
    pub sides: [u64; 2],
    /// It has a bias.
    pub bias: bool,
}

impl LinearMap {
    fn parameters(&self) -> u64 {
        self.sides[0] * self.sides[1] + if self.bias { self.sides[1] } else { 0 }
    }
}

impl ModelShape {
    /// The numbers in the published models' config.json.
    #[must_use]
    pub fn published(model: Published) -> Self {
        let vision = VisionShape {
            hidden: 1280,
            depth: 32,
            intermediate: 3420,
            channels: 3,
            patch: 14,
            frames: 2,
            merge: 2,
        };
        match model {
            Published::Quickstart => Self {
                hidden: 192,
                layers: 4,
                heads: 4,
                kv_heads: 2,
                head_dim: 48,
                intermediate: 512,
                vocab: 640,
                tied: true,
                vision: VisionShape { hidden: 128, depth: 3, intermediate: 256, ..vision },
            },
            Published::Qwen3B => Self {
                hidden: 2048,
                layers: 36,
                heads: 16,
                kv_heads: 2,
                head_dim: 128,
                intermediate: 11_008,
                vocab: 151_936,
                tied: true,
                vision,
            },
            Published::Qwen7B => Self {
                hidden: 3584,
                layers: 28,
                heads: 28,
                kv_heads: 4,
                head_dim: 128,
                intermediate: 18_944,
                vocab: 152_064,
                tied: false,
                vision,
            },
        }
    }

    /// The numbers of a config.json, flat as on the Hub or nested as transformers writes it.
    ///
    /// # Errors
    /// If a number is missing: which.
    pub fn of_config(config: &Value) -> Result<Self, String> {
        let text = if config["text_config"].is_object() { &config["text_config"] } else { config };
        let number = |from: &Value, key: &str| {
            from[key]
                .as_u64()
                .filter(|n| *n > 0)
                .ok_or_else(|| format!("{key} is missing or no whole number"))
        };
        let vision = &config["vision_config"];
        let (hidden, heads) = (number(text, "hidden_size")?, number(text, "num_attention_heads")?);
        let channels = number(vision, "in_channels").or_else(|_| number(vision, "in_chans"));
        let tied = [config, text].iter().find_map(|at| at["tie_word_embeddings"].as_bool());
        Ok(Self {
            hidden,
            layers: number(text, "num_hidden_layers")?,
            heads,
            kv_heads: number(text, "num_key_value_heads")?,
            head_dim: number(text, "head_dim").unwrap_or(hidden / heads),
            intermediate: number(text, "intermediate_size")?,
            vocab: number(text, "vocab_size")?,
            tied: tied.unwrap_or(false),
            vision: VisionShape {
                hidden: number(vision, "hidden_size")?,
                depth: number(vision, "depth")?,
                intermediate: number(vision, "intermediate_size")?,
                channels: channels.unwrap_or(3),
                patch: number(vision, "patch_size")?,
                frames: number(vision, "temporal_patch_size").unwrap_or(2),
                merge: number(vision, "spatial_merge_size").unwrap_or(2),
            },
        })
    }

    /// Every block, in the order of the forward pass: embedding, patches, vision blocks, merger, decoder layers,
    /// last norm with the head where it is not the embedding.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockSize> {
        let vision = &self.vision;
        let block = |parameters, vision| BlockSize { parameters, vision };
        let maps = |maps: &[LinearMap]| maps.iter().map(LinearMap::parameters).sum::<u64>();
        let embedding = self.vocab * self.hidden;
        let patches = vision.hidden * vision.channels * vision.frames * vision.patch * vision.patch;
        let mut blocks = vec![block(embedding, false), block(patches, true)];
        let vision_block = maps(&self.vision_maps(0)) + 2 * vision.hidden;
        blocks.extend((0..vision.depth).map(|_| block(vision_block, true)));
        blocks.push(block(maps(&self.merger_maps()) + vision.hidden, true));
        let layer = maps(&self.layer_maps(0)) + 2 * self.hidden;
        blocks.extend((0..self.layers).map(|_| block(layer, false)));
        blocks.push(block(self.hidden + if self.tied { 0 } else { embedding }, false));
        blocks
    }

    /// All parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.blocks().iter().map(|block| block.parameters).sum()
    }

    /// Every linear map but the head.
    #[must_use]
    pub fn linear_maps(&self) -> Vec<LinearMap> {
        let vision = (0..self.vision.depth).flat_map(|i| self.vision_maps(i)).chain(self.merger_maps());
        vision.chain((0..self.layers).flat_map(|i| self.layer_maps(i))).collect()
    }

    fn vision_maps(&self, i: u64) -> Vec<LinearMap> {
        let (wide, inner) = (self.vision.hidden, self.vision.intermediate);
        let map = |name: &str, sides| LinearMap {
            name: format!("model.visual.blocks.{i}.{name}"),
            sides,
            bias: true,
        };
        vec![
            map("attn.qkv", [wide, 3 * wide]),
            map("attn.proj", [wide, wide]),
            map("mlp.gate_proj", [wide, inner]),
            map("mlp.up_proj", [wide, inner]),
            map("mlp.down_proj", [inner, wide]),
        ]
    }

    fn merger_maps(&self) -> Vec<LinearMap> {
        let wide = self.vision.hidden * self.vision.merge * self.vision.merge;
        let map =
            |name: &str, sides| LinearMap { name: format!("model.visual.merger.{name}"), sides, bias: true };
        vec![map("mlp.0", [wide, wide]), map("mlp.2", [wide, self.hidden])]
    }

    fn layer_maps(&self, i: u64) -> Vec<LinearMap> {
        let (wide, inner) = (self.hidden, self.intermediate);
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let map = |name: &str, sides, bias| LinearMap {
            name: format!("model.language_model.layers.{i}.{name}"),
            sides,
            bias,
        };
        vec![
            map("self_attn.q_proj", [wide, queries], true),
            map("self_attn.k_proj", [wide, keys], true),
            map("self_attn.v_proj", [wide, keys], true),
            map("self_attn.o_proj", [queries, wide], false),
            map("mlp.gate_proj", [wide, inner], false),
            map("mlp.up_proj", [wide, inner], false),
            map("mlp.down_proj", [inner, wide], false),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_models_have_the_published_numbers_of_parameters() {
        // safetensors metadata of the published checkpoints on the Hub.
        assert_eq!(ModelShape::published(Published::Qwen7B).parameters(), 8_292_166_656);
        assert_eq!(ModelShape::published(Published::Qwen3B).parameters(), 3_754_622_976);
    }

    #[test]
    fn the_quickstarts_shape_is_that_of_its_config() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../configs/quickstart/model/config.json");
        let config =
            serde_json::from_slice(&std::fs::read(file).expect("the quickstart's config")).expect("JSON");
        assert_eq!(ModelShape::of_config(&config), Ok(ModelShape::published(Published::Quickstart)));
    }

    #[test]
    fn a_config_is_read_flat_or_nested_and_a_missing_number_is_named() {
        let vision =
            serde_json::json!({"depth": 3, "hidden_size": 128, "intermediate_size": 256, "patch_size": 14});
        let text = serde_json::json!({"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 640, "tie_word_embeddings": true});
        let nested = serde_json::json!({"text_config": text, "vision_config": vision});
        let mut flat = text.clone();
        flat["vision_config"] = vision;
        let shape = ModelShape::of_config(&nested).expect("nested");
        assert_eq!(ModelShape::of_config(&flat), Ok(shape.clone()));
        assert_eq!((shape.head_dim, shape.tied, shape.vision.channels), (48, true, 3));
        flat["vocab_size"] = "many".into();
        assert_eq!(ModelShape::of_config(&flat), Err("vocab_size is missing or no whole number".into()));
    }

    #[test]
    fn linear_maps_have_the_names_that_adapters_are_told_by() {
        let shape = ModelShape::published(Published::Qwen7B);
        let maps = shape.linear_maps();
        assert_eq!(maps.len(), 32 * 5 + 2 + 28 * 7);
        let targets = crate::Targets::Names(vec!["q_proj".into(), "v_proj".into()]);
        let chosen = targets.choose(maps.iter().map(|map| map.name.as_str()), |_| true);
        assert_eq!(chosen.len(), 2 * 28);
    }
}
