//! Sums over tokens or samples that a step reports; kept on the device, read once at the step's end.

use std::collections::BTreeMap;
use std::time::Duration;

use collective::{Group, Sent};
use tch::{Kind, Tensor, no_grad_guard};

/// Named sums and maxima.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    counts: BTreeMap<&'static str, f64>,
    sums: BTreeMap<&'static str, Tensor>,
    maxima: BTreeMap<&'static str, Tensor>,
}

impl Sums {
    /// None yet, over so many tokens.
    pub(crate) fn of_tokens(tokens: usize) -> Self {
        let mut sums = Self::default();
        sums.count("tokens", tokens as f64);
        sums
    }

    /// Adds a number that is known already.
    pub(crate) fn count(&mut self, name: &'static str, by: f64) {
        *self.counts.entry(name).or_default() += by;
    }

    /// Adds the sum of `values`, of any shape.
    pub(crate) fn add(&mut self, name: &'static str, values: &Tensor) {
        let _guard = no_grad_guard();
        let sum = values.detach().sum(Kind::Double);
        merge(&mut self.sums, name, sum, |a, b| a + b);
    }

    /// Takes the largest of `values`; an empty tensor adds nothing.
    pub(crate) fn max(&mut self, name: &'static str, values: &Tensor) {
        let _guard = no_grad_guard();
        if values.numel() > 0 {
            merge(&mut self.maxima, name, values.detach().max().to_kind(Kind::Double), Tensor::maximum);
        }
    }

    /// Takes in what another micro-batch or chunk adds.
    pub(crate) fn absorb(&mut self, other: Self) {
        let _guard = no_grad_guard();
        for (name, by) in other.counts {
            self.count(name, by);
        }
        for (name, sum) in other.sums {
            merge(&mut self.sums, name, sum, |a, b| a + b);
        }
        for (name, max) in other.maxima {
            merge(&mut self.maxima, name, max, Tensor::maximum);
        }
    }

    /// The numbers, by name; maxima are named `max_…`, because they cannot be added over ranks.
    pub(crate) fn read(self) -> BTreeMap<String, f64> {
        let counts = self.counts.into_iter().map(|(name, n)| (name.to_owned(), n));
        let sums = self.sums.into_iter().map(|(name, sum)| (name.to_owned(), sum.double_value(&[])));
        let maxima =
            self.maxima.into_iter().map(|(name, max)| (format!("max_{name}"), max.double_value(&[])));
        counts.chain(sums).chain(maxima).collect()
    }
}

fn merge(
    into: &mut BTreeMap<&'static str, Tensor>,
    name: &'static str,
    value: Tensor,
    with: impl Fn(&Tensor, &Tensor) -> Tensor,
) {
    let value = into.get(name).map(|old| with(old, &value)).unwrap_or(value);
    into.insert(name, value);
}

/// What a rank had sent before a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    all: Sent,
    across: Sent,
    wire: Option<u64>,
    waited: Duration,
}

impl Traffic {
    pub(crate) fn from(group: &dyn Group) -> Self {
        let across = group.parts().map(|parts| parts.across.sent()).unwrap_or_default();
        Self { all: group.sent(), across, wire: group.wire_bytes(), waited: group.waited() }
    }

    /// Adds what was sent since: bytes of payload by kind, those that the kernel counts where it does, and of the
    /// payload that to other nodes; and how long the rank that waited most waited for collectives.
    pub(crate) fn report(self, group: &dyn Group, sums: &mut Sums) {
        let now = Self::from(group);
        let all = now.all - self.all;
        sums.count("sent_all_reduce", all.all_reduce as f64);
        sums.count("sent_all_gather", all.all_gather as f64);
        sums.count("sent_reduce_scatter", all.reduce_scatter as f64);
        if all.shift > 0 {
            sums.count("sent_mirror", all.shift as f64);
        }
        if let (Some(now), Some(before)) = (now.wire, self.wire) {
            sums.count("sent_on_the_wire", now.saturating_sub(before) as f64);
        }
        let waited = (now.waited - self.waited).as_secs_f64();
        sums.max("wait_seconds", &Tensor::from(waited));
        if group.parts().is_some() {
            sums.count("sent_across_nodes", (now.across - self.across).total() as f64);
        }
    }
}
