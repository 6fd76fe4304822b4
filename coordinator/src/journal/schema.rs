//! The journal's tables.

/// Forgets a run without steps.
pub(super) const EMPTY: &str = "
BEGIN EXCLUSIVE;
DELETE FROM run; DELETE FROM epochs; DELETE FROM stages; DELETE FROM rollouts; DELETE FROM evaluations;
COMMIT;
";

/// Creates what is missing. Lists and maps are JSON; times are seconds since 1970.
pub(super) const CREATE: &str = "
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS run (
    id TEXT NOT NULL, recipe_digest TEXT NOT NULL, term INTEGER NOT NULL, version TEXT NOT NULL,
    started REAL NOT NULL, outcome TEXT, ended REAL);
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, members TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS stages (
    stage INTEGER PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS rollouts (
    step INTEGER NOT NULL, attempt INTEGER NOT NULL, sample TEXT NOT NULL, responses TEXT NOT NULL,
    PRIMARY KEY (step, attempt, sample));
CREATE TABLE IF NOT EXISTS steps (
    step INTEGER PRIMARY KEY, stage INTEGER NOT NULL, number INTEGER NOT NULL, attempt INTEGER NOT NULL,
    skip INTEGER NOT NULL, lr REAL NOT NULL, members TEXT NOT NULL, cursor TEXT NOT NULL,
    samples TEXT NOT NULL, metrics TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, stage INTEGER NOT NULL, sets TEXT NOT NULL,
    moment TEXT NOT NULL, metrics TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoints (name TEXT PRIMARY KEY, step INTEGER NOT NULL, at REAL NOT NULL);
COMMIT;
";
