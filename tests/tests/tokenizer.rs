//! The published tokenizer (151,665 tokens) and the published processor files, read as the trainer reads them and compared
//! with Python's tokenizers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use model::{Config, Part, Processor};
use serde::Deserialize;
use serde_json::{Value, json};
use tests::{cache, root, script, text};
use vision::Grid;

/// The template of Qwen/Qwen2.5-VL-*-Instruct's chat_template.json.
const TEMPLATE: &str = "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in \
    messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
    {% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n\
    {% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in \
    content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif \
    %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}{% set \
    video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif \
    %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor \
    %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn tokenizer() -> PathBuf {
    let path = cache().join("tokenizer/tokenizer.json");
    assert!(path.is_file(), "{}: missing, run `deploy/setup/setup.sh test`", path.display());
    path
}

/// A processor from the files of Qwen/Qwen2.5-VL-3B-Instruct.
fn published() -> Processor {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| fs::write(folder.path().join(name), value.to_string()).unwrap();
    let configs = fs::read(root().join("crates/model/src/published_configs.json")).unwrap();
    write("config.json", &serde_json::from_slice::<Value>(&configs).unwrap()["3B"]);
    write("chat_template.json", &json!({"chat_template": TEMPLATE}));
    let generation = json!({"bos_token_id": 151_643, "pad_token_id": 151_643, "do_sample": true,
        "eos_token_id": [151_645, 151_643], "repetition_penalty": 1.05, "temperature": 0.000_001,
        "transformers_version": "4.49.0"});
    write("generation_config.json", &generation);
    let pictures = json!({"min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11], "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor"});
    write("preprocessor_config.json", &pictures);
    fs::copy(tokenizer(), folder.path().join("tokenizer.json")).unwrap();
    let config = Config::read(folder.path()).unwrap();
    Processor::read(folder.path(), &config).unwrap()
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    ids: Vec<u32>,
    decoded: String,
}

#[test]
fn ten_thousand_strings_are_encoded_and_decoded_as_pythons_tokenizers_does() {
    let processor = published();
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines.jsonl");
    script("tokenizer_strings.py", &[text(&tokenizer()), text(&lines), "--count", "12000"]);
    let mut seen = (0, 0);
    for line in fs::read_to_string(lines).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        if let Some(text) = &line.text {
            assert_eq!(processor.encode(text).unwrap(), line.ids, "{text:?}");
            seen.0 += 1;
        }
        assert_eq!(processor.decode(&line.ids).unwrap(), line.decoded, "{:?}", line.ids);
        seen.1 += 1;
    }
    assert!(seen.0 >= 10_000 && seen.1 >= 10_000, "{seen:?}");
}

#[test]
fn a_prompt_has_the_published_frame_and_special_tokens() {
    let processor = published();
    let prompt = processor.prompt(&[Grid { t: 1, h: 4, w: 6 }], "Rate it.").unwrap();
    let pads = "<|image_pad|>".repeat(6);
    let said = format!(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>\
         Rate it.<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(prompt.ids, processor.encode(&said).unwrap());
    let parts = [Part::Image, Part::Image, Part::Text { text: "Rate it.".into() }];
    let numbered = processor.prompt_of(&parts, &[Grid { t: 1, h: 4, w: 6 }.into(); 2], true).unwrap();
    let picture = |number| format!("Picture {number}: <|vision_start|>{pads}<|vision_end|>");
    let said_numbered = said
        .replace(&format!("<|vision_start|>{pads}<|vision_end|>"), &format!("{}{}", picture(1), picture(2)));
    assert_eq!(numbered.ids, processor.encode(&said_numbered).unwrap());
    assert_eq!(prompt.ids.iter().filter(|&&id| id == 151_655).count(), 6);
    assert_eq!(prompt.ids[..3], [151_644, 8948, 198]);
    assert_eq!(processor.special.end, [151_645, 151_643]);
    assert_eq!((processor.special.pad, processor.special.banned.len()), (Some(151_643), 3));
    assert_eq!((processor.patches.min_pixels, processor.patches.max_pixels), (3136, 12_845_056));
}
