use super::*;
use crate::testing::tiny_config;
use serde_json::json;
use std::fs;

const TEMPLATE: &str = "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image_pad|>\
    {% elif c['type'] == 'video' %}<|video_pad|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}|{% endif %}";

/// A tokenizer of single characters (a is 0, … z is 25, blank 26, `|` 27) with `special` beside them.
fn tokenizer(special: &[(&str, u32)]) -> Json {
    let mut vocab: serde_json::Map<String, Json> =
        ('a'..='z').chain([' ', '|']).enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    vocab.extend(special.iter().map(|(token, id)| ((*token).to_owned(), json!(id))));
    let added: Vec<Json> = special
        .iter()
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": null}})
}

const SPECIAL: [(&str, u32); 4] =
    [("<|im_end|>", 80), ("<|vision_pad|>", 81), ("<|image_pad|>", 90), ("<|video_pad|>", 91)];

/// A folder with all files that a processor reads.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(&folder, "tokenizer.json", &tokenizer(&SPECIAL));
    write(
        &folder,
        "generation_config.json",
        &json!({"eos_token_id": [80, 3], "pad_token_id": 4, "temperature": 0.01}),
    );
    write(
        &folder,
        "preprocessor_config.json",
        &json!({"patch_size": 2, "min_pixels": 16, "max_pixels": 4096}),
    );
    write(&folder, "chat_template.json", &json!({"chat_template": TEMPLATE}));
    folder
}

fn write(folder: &tempfile::TempDir, name: &str, value: &Json) {
    fs::write(folder.path().join(name), value.to_string()).expect("writable");
}

fn read(folder: &tempfile::TempDir) -> Result<Processor, ProcessorError> {
    Processor::read(folder.path(), &tiny_config())
}

fn refusal(folder: &tempfile::TempDir) -> String {
    read(folder).expect_err("refused").to_string()
}

#[test]
fn a_picture_stands_for_as_many_placeholders_as_it_has_tokens() {
    let processor = read(&folder()).expect("whole");
    let prompt = processor.prompt(&[Grid { t: 1, h: 4, w: 6 }], "abc").expect("fits");
    assert_eq!(prompt.ids, [&[90; 6][..], &[0, 1, 2, 27]].concat());
    assert_eq!(prompt.slots, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn parts_keep_their_order() {
    let processor = read(&folder()).expect("whole");
    let small: Medium = Grid { t: 1, h: 2, w: 2 }.into();
    let text = |text: &str| Part::Text { text: text.to_owned() };
    let parts = [text("a"), Part::Image, text("b"), Part::Image];
    let prompt = processor.prompt_of(&parts, &[small, small], false).expect("fits");
    assert_eq!(prompt.ids, [0, 90, 1, 90, 27]);
}

#[test]
fn a_video_stands_for_as_many_placeholders_as_its_groups_of_frames_have_tokens() {
    let processor = read(&folder()).expect("whole");
    let text = |text: &str| Part::Text { text: text.to_owned() };
    let video = Medium { grid: Grid { t: 2, h: 2, w: 4 }, seconds_per_group: Some(1.0) };
    let parts = [text("a"), Part::Video, text("b"), Part::Image];
    let media = [video, Grid { t: 1, h: 2, w: 2 }.into()];
    let prompt = processor.prompt_of(&parts, &media, false).expect("fits");
    assert_eq!(prompt.ids, [0, 91, 91, 91, 91, 1, 90, 27]);
    assert_eq!(prompt.slots, [1, 2, 3, 4, 6]);
}

#[test]
fn a_template_without_a_place_for_videos_is_named_as_the_reason() {
    let folder = folder();
    write(&folder, "chat_template.json", &json!({"chat_template": "a"}));
    let video = Medium { grid: Grid { t: 1, h: 2, w: 2 }, seconds_per_group: Some(1.0) };
    let processor = read(&folder).expect("whole");
    let error = processor.prompt_of(&[Part::Video], &[video], false).expect_err("no place");
    assert!(error.to_string().contains("1 pictures and videos were given"), "{error}");
    assert!(error.to_string().contains("chat template"), "{error}");
}

#[test]
fn video_settings_are_found_in_any_of_their_places() {
    let folder = folder();
    let least = || read(&folder).expect("whole").videos.frames.min_pixels;
    let file = |pixels: usize| json!({"patch_size": 2, "min_pixels": pixels});
    assert_eq!(least(), 16, "older checkpoints have one file for both");
    write(&folder, "video_preprocessor_config.json", &file(40));
    assert_eq!(least(), 40);
    let both = json!({"image_processor": file(50), "video_processor": file(60)});
    write(&folder, "processor_config.json", &both);
    assert_eq!(least(), 60);
    assert_eq!(read(&folder).expect("whole").patches.min_pixels, 50);
}

#[test]
fn a_placeholder_in_the_text_is_an_error_and_not_a_picture() {
    let processor = read(&folder()).expect("whole");
    let error = processor.prompt(&[], "a<|image_pad|>").expect_err("no picture for it").to_string();
    assert!(error.contains("placeholder"), "{error}");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let processor = read(&folder()).expect("whole");
    let error = processor.prompt(&[], &"a".repeat(600)).expect_err("too long").to_string();
    assert_eq!(error, "the prompt has 601 tokens, the model's context (max_position_embeddings) is 512");
}

#[test]
fn only_end_and_pad_tokens_are_taken_from_the_generation_settings() {
    let special = read(&folder()).expect("whole").special;
    assert_eq!(special, SpecialTokens { end: vec![80, 3], pad: Some(4), banned: vec![90, 91, 81] });
}

#[test]
fn a_completion_ends_with_its_turn_and_knows_where_its_tokens_began() {
    let processor = read(&folder()).expect("whole");
    assert_eq!(processor.completion("ab").expect("encodes"), [0, 1, 80]);
    assert_eq!(processor.completion_places("ab").expect("encodes"), [(0, 0), (1, 1), (80, 2)]);
    assert_eq!(processor.decode(&[26, 0, 80, 1, 26]).expect("decodes"), " ab ");
}

#[test]
fn the_template_is_found_in_any_of_its_places() {
    let folder = folder();
    let says = |folder: &tempfile::TempDir| read(folder).expect("whole").prompt(&[], "x").expect("fits").ids;
    fs::remove_file(folder.path().join("chat_template.json")).expect("there");
    assert!(refusal(&folder).contains("expected a chat template"));
    write(
        &folder,
        "tokenizer_config.json",
        &json!({"chat_template": [{"name": "tool", "template": "b"}, {"name": "default", "template": "a"}]}),
    );
    assert_eq!(says(&folder), [0]);
    write(&folder, "chat_template.json", &json!({"chat_template": "c"}));
    assert_eq!(says(&folder), [2]);
    fs::write(folder.path().join("chat_template.jinja"), "d").expect("writable");
    assert_eq!(says(&folder), [3]);
}

#[test]
fn a_tokenizer_that_is_not_the_models_is_refused() {
    let folder = folder();
    write(&folder, "tokenizer.json", &tokenizer(&SPECIAL[..2]));
    assert!(refusal(&folder).contains("has no token <|image_pad|>"));
    write(&folder, "tokenizer.json", &tokenizer(&[SPECIAL[0], ("<|image_pad|>", 89), SPECIAL[3]]));
    assert!(refusal(&folder).contains("<|image_pad|> is 89, config.json's image_token_id is 90"));
    write(&folder, "tokenizer.json", &tokenizer(&[&SPECIAL[..], &[("<|more|>", 96)]].concat()));
    assert!(refusal(&folder).contains("has a token 96, config.json's vocab_size is 96"));
    fs::write(folder.path().join("tokenizer.json"), "{").expect("writable");
    assert!(refusal(&folder).contains("tokenizer.json: "));
}

#[test]
fn settings_that_contradict_the_model_are_refused() {
    let folder = folder();
    write(&folder, "preprocessor_config.json", &json!({"patch_size": 14}));
    assert!(refusal(&folder).contains("patch_size is 14, config.json's vision_config.patch_size is 2"));
    let both = json!({"image_processor": {"patch_size": 2}, "video_processor": {"patch_size": 2}});
    write(&folder, "processor_config.json", &both);
    assert!(read(&folder).is_ok(), "the newer file wins");
    write(
        &folder,
        "processor_config.json",
        &json!({"image_processor": {"patch_size": 2, "do_resize": false}}),
    );
    assert!(refusal(&folder).contains("processor_config.json: do_resize is false, expected true"));
    write(&folder, "processor_config.json", &both);
    write(&folder, "generation_config.json", &json!({"eos_token_id": 96}));
    assert!(refusal(&folder).contains("eos_token_id: expected token ids below 96"));
}
