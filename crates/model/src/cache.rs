//! One cohort's key-value cache, in the layout that the device decodes from.

use crate::cohort::Cohort;
use crate::cpu::RowCohort;

/// The key-value cache of responses that decode together.
#[derive(Debug)]
pub(crate) enum Cache {
    /// For decoding by tensor operations.
    Tensors(Cohort),
    /// For the CPU's own way of decoding.
    Cpu(RowCohort),
}

impl Cache {
    /// If it is the CPU's.
    pub(crate) fn cpu(&self) -> Option<&RowCohort> {
        match self {
            Self::Cpu(cohort) => Some(cohort),
            Self::Tensors(_) => None,
        }
    }

    /// If it is that of tensor operations.
    pub(crate) fn tensors(&self) -> Option<&Cohort> {
        match self {
            Self::Cpu(_) => None,
            Self::Tensors(cohort) => Some(cohort),
        }
    }

    /// Responses still alive.
    pub(crate) fn rows(&self) -> i64 {
        match self {
            Self::Cpu(cohort) => cohort.rows() as i64,
            Self::Tensors(cohort) => cohort.rows(),
        }
    }

    /// Own tokens that each response has in the cache.
    pub(crate) fn filled(&self) -> i64 {
        match self {
            Self::Cpu(cohort) => cohort.filled() as i64,
            Self::Tensors(cohort) => cohort.filled(),
        }
    }

    /// Begins a step: its keys and values go behind those of the step before.
    pub(crate) fn advance(&mut self) {
        match self {
            Self::Cpu(cohort) => cohort.advance(),
            Self::Tensors(cohort) => cohort.advance(),
        }
    }

    /// Keeps the rows whose flag is true.
    pub(crate) fn keep(&mut self, alive: &[bool]) {
        match self {
            Self::Cpu(cohort) => cohort.keep(alive),
            Self::Tensors(cohort) => cohort.keep(alive),
        }
    }
}
