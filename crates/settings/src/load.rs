//! From a file to settings: parse, check, lay over, check the ranges.

use std::path::Path as FilePath;

use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};

use crate::check::{Finding, check};
use crate::error::{Error, Problem};
use crate::hosts::Hosts;
use crate::layers::{Layers, Place};
use crate::limits::{host_limits, run_limits};
use crate::origin::Origins;
use crate::position::{Path, Step};
use crate::raw::{RawRun, recipe_shape, stage_shape};
use crate::run::Run;
use crate::shape::Shape;

/// Reads a recipe and lays `overrides` (`key=value`, as after `--set`) over it.
///
/// The layers, each over the one before: the defaults, the recipe's sections, a stage's own keys. An override
/// changes the recipe at the place that it names: `optimizer.lr=1e-5` the base section (a stage's own `lr`
/// still wins), `stages.0.optimizer.lr=1e-5` or `stages.NAME.optimizer.lr=1e-5` that stage. Values are YAML.
/// Nothing comes from the environment: a run's settings are in its recipe and on its command line.
///
/// Every key of a stage but its name may stand at the top, as the default of all stages. A recipe without
/// `stages` is one stage "prpo" of `steps` steps. Relative paths are relative to the current directory.
///
/// # Errors
/// If the file cannot be read, or with everything that is wrong in it: unknown keys, values of the wrong kind
/// or out of range, required keys that are missing. Whether files exist is [`Run::check_files`]'s.
pub fn load_run(path: impl AsRef<FilePath>, overrides: &[String]) -> Result<Run, Error> {
    let path = path.as_ref();
    parse_run(&path.display().to_string(), &read(path)?, overrides)
}

/// [`load_run`] of a recipe's text; `file` is its name in messages.
///
/// # Errors
/// As [`load_run`].
pub fn parse_run(file: &str, text: &str, overrides: &[String]) -> Result<Run, Error> {
    let shape = recipe_shape();
    let mut origins = Origins { file, text, overrides: Vec::new() };
    let document = document(&shape, &origins)?;
    let mut layers = Layers::new(&document).map_err(|e| wrong(file, &e))?;
    let mut problems = Vec::new();
    for argument in overrides {
        match read_override(argument, &layers, &shape) {
            Ok(Some((path, value))) => {
                layers = layers.set(&path, &value).map_err(|e| wrong(&format!("--set {argument}"), &e))?;
                origins.overrides.push((path, argument));
            }
            Ok(None) => {}
            Err(texts) => problems
                .extend(texts.into_iter().map(|text| Problem { at: format!("--set {argument}"), text })),
        }
    }
    if !problems.is_empty() {
        return Err(Error::Wrong(problems));
    }
    let stage = stage_shape();
    let laid = layers.into_stages(&stage, &["model"]).map_err(|e| wrong(file, &e))?;
    let run: RawRun = resolved(laid, &Shape::of::<RawRun>(), &origins)?;
    let run = Run::from(run);
    none_of(&run_limits(&run), &origins)?;
    Ok(run)
}

/// The defaults with `overrides` laid over, for commands that need settings but no recipe: one stage "prpo" of
/// one step, named and put out as "settings", its model at ".".
///
/// # Errors
/// As [`load_run`].
pub fn default_run(overrides: &[String]) -> Result<Run, Error> {
    parse_run("defaults", "{run: {name: settings, output: settings}, model: {path: .}, steps: 1}", overrides)
}

/// Reads a host file.
///
/// # Errors
/// If the file cannot be read, or with everything that is wrong in it.
pub fn load_hosts(path: impl AsRef<FilePath>) -> Result<Hosts, Error> {
    let path = path.as_ref();
    parse_hosts(&path.display().to_string(), &read(path)?)
}

/// [`load_hosts`] of a host file's text; `file` is its name in messages.
///
/// # Errors
/// As [`load_hosts`].
pub fn parse_hosts(file: &str, text: &str) -> Result<Hosts, Error> {
    let shape = Shape::of::<Hosts>();
    let origins = Origins { file, text, overrides: Vec::new() };
    let document = document(&shape, &origins)?;
    let layers = Layers::new(&document).map_err(|e| wrong(file, &e))?;
    let hosts: Hosts = resolved(layers, &shape, &origins)?;
    none_of(&host_limits(&hosts), &origins)?;
    Ok(hosts)
}

fn read(path: &FilePath) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn wrong(at: &str, what: &impl ToString) -> Error {
    Error::Wrong(vec![Problem { at: at.into(), text: what.to_string() }])
}

fn none_of(findings: &[Finding], origins: &Origins<'_>) -> Result<(), Error> {
    if findings.is_empty() { Ok(()) } else { Err(Error::Wrong(origins.problems(findings))) }
}

/// The file's YAML, checked against `shape`.
fn document(shape: &Shape, origins: &Origins<'_>) -> Result<Value, Error> {
    let mut document: Value = serde_yaml_ng::from_str(origins.text).map_err(|e| {
        let at =
            e.location().map_or_else(|| origins.file.into(), |at| format!("{}:{}", origins.file, at.line()));
        wrong(&at, &format!("{e}; expected YAML"))
    })?;
    let mut findings = Vec::new();
    check(&mut document, shape, &Path::default(), &mut findings);
    none_of(&findings, origins)?;
    Ok(document)
}

fn resolved<T: DeserializeOwned>(layers: Layers, shape: &Shape, origins: &Origins<'_>) -> Result<T, Error> {
    let missing =
        layers.missing(shape).into_iter().map(|path| Finding { text: format!("{path} is missing"), path });
    none_of(&missing.collect::<Vec<_>>(), origins)?;
    layers.into().map_err(|e| wrong(origins.file, &e))
}

/// The place and value of a `key=value`; `None` if it says what this version does anyway.
fn read_override(
    argument: &str,
    layers: &Layers,
    shape: &Shape,
) -> Result<Option<(Path, Value)>, Vec<String>> {
    let Some((key, text)) = argument.split_once('=') else {
        return Err(vec!["expected key=value, e.g. optimizer.lr=1e-5".into()]);
    };
    let place = layers.resolve(key.trim(), shape).map_err(|text| vec![text])?;
    let mut value: Value =
        serde_yaml_ng::from_str(text).map_err(|e| vec![format!("the value is not YAML: {e}")])?;
    if *place.shape.inner() == Shape::Text && !value.is_string() {
        value = Value::String(text.trim().into());
    }
    let mut findings = Vec::new();
    let value = match &place.last {
        Step::Key(key) => {
            let mut section = Value::Mapping(Mapping::from_iter([(Value::String(key.clone()), value)]));
            check(&mut section, &place.container, &place.within, &mut findings);
            section.as_mapping_mut().and_then(|section| section.remove(key.as_str()))
        }
        Step::Index(index) => {
            check(&mut value, &place.shape, &place.within.index(*index), &mut findings);
            Some(value)
        }
    };
    if !findings.is_empty() {
        return Err(findings.into_iter().map(|finding| finding.text).collect());
    }
    let Place { within: mut path, last, .. } = place;
    path.0.push(last);
    Ok(value.map(|value| (path, value)))
}
