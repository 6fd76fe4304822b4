//! A request's user turn: texts, images and videos in order.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// A part of a user's turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Image(PathBuf),
    Video {
        frames: Vec<PathBuf>,
        /// Frames a second.
        fps: f64,
    },
    /// A video file, of which frames are taken.
    Clip {
        path: PathBuf,
        /// Frames a second that are taken; the model's own when absent.
        fps: Option<f64>,
    },
}

/// Of frames that do not say it; what qwen-vl-utils samples.
const FPS: f64 = 2.0;

/// The turn of a request: `content` as it is, or `images` first and `prompt` after them. An error names the field.
pub(super) fn turn(request: &Map<String, Value>) -> Result<Vec<Part>, String> {
    let short = ["prompt", "images"].into_iter().find(|key| request.contains_key(*key));
    match (request.get("content"), short) {
        (Some(_), Some(short)) => {
            Err(format!("content and {short}: content says it all, expected it without prompt and images"))
        }
        (Some(Value::Array(parts)), None) if !parts.is_empty() => {
            parts.iter().enumerate().map(|(number, value)| part(value, number)).collect()
        }
        (Some(other), None) => Err(format!("content: expected a list of parts, got {}", quoted(other))),
        (None, _) => {
            let images = request.get("images").map_or(Ok(Vec::new()), |value| paths(value, "images"))?;
            let text = match request.get("prompt") {
                Some(value) => text(value, "prompt")?,
                None => return Err("expected prompt (with images before it), or content".to_owned()),
            };
            Ok(images.into_iter().map(Part::Image).chain([Part::Text(text)]).collect())
        }
    }
}

fn part(value: &Value, number: usize) -> Result<Part, String> {
    let at = format!("content[{number}]");
    let field = |name: &str| format!("{at}.{name}");
    let fields =
        value.as_object().ok_or_else(|| format!("{at}: expected {{\"type\": …}}, got {}", quoted(value)))?;
    let kind = fields.get("type").unwrap_or(&Value::Null);
    let known: &[&str] = match kind.as_str() {
        Some("text") => &["type", "text"],
        Some("image") => &["type", "image"],
        Some("video") => &["type", "video", "fps"],
        _ => {
            let got = quoted(kind);
            return Err(format!("{}: expected \"text\", \"image\" or \"video\", got {got}", field("type")));
        }
    };
    if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("{}: is unknown, expected of this part: {}", field(unknown), known.join(", ")));
    }
    let own = fields.get(known[1]).ok_or_else(|| format!("{}: is missing", field(known[1])))?;
    match known[1] {
        "text" => Ok(Part::Text(text(own, &field("text"))?)),
        "image" => Ok(Part::Image(text(own, &field("image"))?.into())),
        _ if own.is_string() => {
            let fps = fields.get("fps").map(|value| rate(value, &field("fps"))).transpose()?;
            Ok(Part::Clip { path: text(own, &field("video"))?.into(), fps })
        }
        _ => {
            if !own.is_array() {
                let got = quoted(own);
                return Err(format!(
                    "{}: expected a video file or a list of picture files, got {got}",
                    field("video")
                ));
            }
            let frames = paths(own, &field("video"))?;
            if frames.is_empty() {
                return Err(format!(
                    "{}: is empty, expected the files of at least one frame",
                    field("video")
                ));
            }
            let fps = fields.get("fps").map_or(Ok(FPS), |value| rate(value, &field("fps")))?;
            Ok(Part::Video { frames, fps })
        }
    }
}

fn text(value: &Value, field: &str) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("{field}: expected a string, got {}", quoted(value)))?;
    Ok(text.to_owned())
}

fn paths(value: &Value, field: &str) -> Result<Vec<PathBuf>, String> {
    let files = value
        .as_array()
        .ok_or_else(|| format!("{field}: expected a list of picture files, got {}", quoted(value)))?;
    let paths =
        files.iter().enumerate().map(|(i, file)| text(file, &format!("{field}[{i}]")).map(PathBuf::from));
    paths.collect()
}

fn rate(value: &Value, field: &str) -> Result<f64, String> {
    let rate = value.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{field}: expected frames a second, above 0, got {}", quoted(value)))
}

/// A value's JSON, its beginning.
fn quoted(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::{Part, turn};
    use serde_json::{Value, json};

    fn of(request: &Value) -> Result<Vec<Part>, String> {
        turn(request.as_object().expect("an object"))
    }

    #[test]
    fn images_come_before_the_prompt_and_content_keeps_its_order() {
        let (text, image) = (|text: &str| Part::Text(text.into()), |path: &str| Part::Image(path.into()));
        let short = json!({"images": ["a.png", "b.png"], "prompt": "p"});
        assert_eq!(of(&short), Ok(vec![image("a.png"), image("b.png"), text("p")]));
        assert_eq!(of(&json!({"prompt": "p"})), Ok(vec![text("p")]));
        let long = json!({"content": [{"type": "text", "text": "x"}, {"type": "image", "image": "a.png"},
            {"type": "video", "video": ["f", "g"]}, {"type": "video", "video": ["f"], "fps": 8}]});
        let video =
            |frames: &[&str], fps| Part::Video { frames: frames.iter().map(Into::into).collect(), fps };
        assert_eq!(
            of(&long),
            Ok(vec![text("x"), image("a.png"), video(&["f", "g"], 2.0), video(&["f"], 8.0)])
        );
    }

    #[test]
    fn a_video_is_a_file_or_its_frames() {
        let clip = |fps: Option<f64>| vec![Part::Clip { path: "a.mp4".into(), fps }];
        assert_eq!(of(&json!({"content": [{"type": "video", "video": "a.mp4"}]})), Ok(clip(None)));
        assert_eq!(
            of(&json!({"content": [{"type": "video", "video": "a.mp4", "fps": 1}]})),
            Ok(clip(Some(1.0)))
        );
        assert!(of(&json!({"content": [{"type": "video", "video": "a.mp4", "fps": "1"}]})).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        for (request, words) in [
            (json!({}), "expected prompt"),
            (json!({"prompt": 1}), "prompt: expected a string, got 1"),
            (
                json!({"prompt": "p", "images": "a.png"}),
                "images: expected a list of picture files, got \"a.png\"",
            ),
            (json!({"prompt": "p", "images": [1]}), "images[0]: expected a string"),
            (json!({"prompt": "p", "content": []}), "content and prompt: content says it all"),
            (json!({"images": [], "content": []}), "content and images: content says it all"),
            (json!({"content": []}), "content: expected a list of parts, got []"),
            (json!({"content": "p"}), "content: expected a list of parts, got \"p\""),
            (json!({"content": ["p"]}), "content[0]: expected {\"type\": …}, got \"p\""),
            (
                json!({"content": [{"text": "p"}]}),
                "content[0].type: expected \"text\", \"image\" or \"video\", got null",
            ),
            (
                json!({"content": [{"type": "audio"}]}),
                "content[0].type: expected \"text\", \"image\" or \"video\", got \"audio\"",
            ),
            (json!({"content": [{"type": "text"}]}), "content[0].text: is missing"),
            (
                json!({"content": [{"type": "image", "image": 1}]}),
                "content[0].image: expected a string, got 1",
            ),
            (
                json!({"content": [{"type": "image", "image": "a", "max_pixels": 9}]}),
                "content[0].max_pixels: is unknown, expected of this part: type, image",
            ),
            (json!({"content": [{"type": "video", "video": []}]}), "content[0].video: is empty"),
            (
                json!({"content": [{"type": "video", "video": 1}]}),
                "content[0].video: expected a video file or a list of picture files, got 1",
            ),
            (
                json!({"content": [{"type": "video", "video": ["a"], "fps": 0}]}),
                "content[0].fps: expected frames a second, above 0, got 0",
            ),
            (
                json!({"content": [{"type": "text", "text": ""}, {"type": "video", "video": ["a", 2]}]}),
                "content[1].video[1]: expected a string, got 2",
            ),
        ] {
            let said = of(&request).expect_err("refused");
            assert!(said.starts_with(words), "{request}: {said}");
        }
    }
}
