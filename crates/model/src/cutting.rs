//! How a checkpoint has its pictures and videos cut: found where the reference finds it.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use vision::{PatchSettings, VideoSettings};

use crate::config::Config;
use crate::processor::{ProcessorError, json};

/// Holds the settings of all its processors, each as an object.
const NESTED: &str = "processor_config.json";

/// Of pictures, and of videos too in older checkpoints.
const FLAT: &str = "preprocessor_config.json";

/// `image_processor` of `processor_config.json`, else `preprocessor_config.json`.
pub(crate) fn pictures(folder: &Path, config: &Config) -> Result<PatchSettings, ProcessorError> {
    let (path, value) = match nested(folder, "image_processor")? {
        Some(found) => found,
        None => (folder.join(FLAT), json(&folder.join(FLAT))?),
    };
    let settings = read(&path, value)?;
    agree(&settings, config).map_err(|message| ProcessorError::File { path, message })?;
    Ok(settings)
}

/// `video_processor` of `processor_config.json`, else `video_preprocessor_config.json`, else
/// `preprocessor_config.json`, else the reference's own.
pub(crate) fn videos(folder: &Path, config: &Config) -> Result<VideoSettings, ProcessorError> {
    let found = match nested(folder, "video_processor")? {
        Some(found) => Some(found),
        None => {
            let files = ["video_preprocessor_config.json", FLAT].map(|name| folder.join(name));
            let file = files.into_iter().find(|path| path.exists());
            file.map(|path| json(&path).map(|value| (path, value))).transpose()?
        }
    };
    let (path, value) = found.unwrap_or_else(|| (folder.join(NESTED), Json::Object(serde_json::Map::new())));
    let settings: VideoSettings = read(&path, value)?;
    agree(&settings.frames, config).map_err(|message| ProcessorError::File { path, message })?;
    Ok(settings)
}

/// One processor's object of the file that holds all, if it does.
fn nested(folder: &Path, name: &str) -> Result<Option<(PathBuf, Json)>, ProcessorError> {
    let path = folder.join(NESTED);
    let object = if path.exists() { json(&path)?.get_mut(name).map(Json::take) } else { None };
    Ok(object.map(|object| (path, object)))
}

fn read<T: DeserializeOwned>(path: &Path, value: Json) -> Result<T, ProcessorError> {
    let wrong = |message: String| ProcessorError::File { path: path.to_owned(), message };
    for step in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
        if value.get(step).and_then(Json::as_bool) == Some(false) {
            return Err(wrong(format!("{step} is false, expected true: no step can be left out")));
        }
    }
    serde_json::from_value(value).map_err(|e| wrong(e.to_string()))
}

/// Patches must be the model's.
fn agree(settings: &PatchSettings, config: &Config) -> Result<(), String> {
    let vision = &config.vision;
    for (name, found, field, expected) in [
        ("patch_size", settings.patch, "patch_size", vision.patch),
        ("temporal_patch_size", settings.temporal, "temporal_patch_size", vision.temporal_patch),
        ("merge_size", settings.merge, "spatial_merge_size", vision.merge),
        ("channels", 3, "in_channels", vision.channels),
    ] {
        if found as i64 != expected {
            return Err(format!("{name} is {found}, config.json's vision_config.{field} is {expected}"));
        }
    }
    Ok(())
}
