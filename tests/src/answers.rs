//! What the tools on one model, and their references, write a line a request.

use std::path::Path;

use serde::Deserialize;

/// A line of `worker logprobs` or of the reference.
#[derive(Debug, Deserialize)]
pub struct Scored {
    /// The request's.
    pub id: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the completion.
    pub completion_ids: Vec<u32>,
    /// Of each completion token.
    pub logprobs: Vec<f64>,
    /// What the reference generates greedily, where it was asked to.
    #[serde(default)]
    pub greedy_ids: Vec<u32>,
}

/// A line of `worker generate`.
#[derive(Debug, Deserialize)]
pub struct Generated {
    /// The request's.
    pub id: String,
    /// Its responses.
    pub completions: Vec<Completion>,
}

/// A response.
#[derive(Debug, Deserialize)]
pub struct Completion {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Of each token.
    pub logprobs: Vec<f64>,
}

/// The lines of a file of JSON lines.
pub fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).expect("the file was written");
    text.lines().map(|line| serde_json::from_str(line).expect("a line as expected")).collect()
}
