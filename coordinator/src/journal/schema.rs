//! The journal's tables.

/// Forgets a run without steps.
pub(super) const EMPTY: &str = "
DELETE FROM run; DELETE FROM records; DELETE FROM epochs; DELETE FROM stages; DELETE FROM rollouts;
DELETE FROM evaluations; DELETE FROM checkpoints; DELETE FROM restorations; DELETE FROM quarantine;
DELETE FROM discards;
";

/// Creates what is missing. Lists and maps are JSON; times are seconds since 1970. `records` is what a coordinator goes
/// on by; the other tables say the same for people and scripts. What a restoration voided stays, marked.
pub(super) const CREATE: &str = "
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS run (
    id TEXT NOT NULL, recipe_digest TEXT NOT NULL, recipe TEXT NOT NULL, version TEXT NOT NULL,
    started REAL NOT NULL, outcome TEXT, ended REAL);
CREATE TABLE IF NOT EXISTS terms (term INTEGER PRIMARY KEY, owner TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS records (seq INTEGER PRIMARY KEY, record TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, members TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS stages (
    id INTEGER PRIMARY KEY, stage INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS rollouts (
    step INTEGER NOT NULL, attempt INTEGER NOT NULL, sample TEXT NOT NULL, responses TEXT NOT NULL,
    PRIMARY KEY (step, attempt, sample));
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, stage INTEGER NOT NULL, number INTEGER NOT NULL,
    attempt INTEGER NOT NULL, skip INTEGER NOT NULL, lr REAL NOT NULL, members TEXT NOT NULL, cursor TEXT NOT NULL,
    samples TEXT NOT NULL, metrics TEXT NOT NULL, at REAL NOT NULL, voided INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX IF NOT EXISTS surviving_steps ON steps (step) WHERE voided = 0;
CREATE TABLE IF NOT EXISTS discards (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, attempt INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY, sample TEXT NOT NULL, step INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS restorations (
    id INTEGER PRIMARY KEY, from_step INTEGER NOT NULL, to_step INTEGER NOT NULL, source TEXT NOT NULL,
    at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, stage INTEGER NOT NULL, sets TEXT NOT NULL,
    moment TEXT NOT NULL, metrics TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoints (name TEXT PRIMARY KEY, step INTEGER NOT NULL, at REAL NOT NULL);
COMMIT;
";
