//! Work that views have in common: what equal prefixes of their plans give is computed once per epoch.
//!
//! The first view that gets to a shared prefix in an epoch computes it and keeps the output until the epoch ends, with
//! the rows that failed; the others take both. Nothing of it is stored, and operators without state do not know of it.
//! Only views that are live on the scanned object take part: a view that backfills reads rows of its own. What would
//! need too much memory is not kept, and each view computes it for itself.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef};
use rivermark_planner::catalog::ObjectId;
use rivermark_planner::prefix::Prefix;

use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{Emit, EpochContext, Failure};
use crate::operator_stats::OperatorStats;

/// Stands for a prefix; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixId(usize);

/// Which views have which prefixes.
#[derive(Debug, Clone, Default)]
pub struct SharedPrefixes {
    known: HashMap<Prefix, Known>,
    /// How many operators have the prefix, by id.
    uses: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Known {
    id: PrefixId,
    /// Per view, how often it has the prefix.
    views: BTreeMap<ObjectId, usize>,
}

impl SharedPrefixes {
    /// `view` has the prefix (once more).
    pub fn add(&mut self, view: ObjectId, prefix: &Prefix) -> PrefixId {
        let next = PrefixId(self.uses.len());
        let known = self.known.entry(prefix.clone()).or_insert_with(|| Known {
            id: next,
            views: BTreeMap::new(),
        });
        *known.views.entry(view).or_default() += 1;
        if known.id == next {
            self.uses.push(0);
        }
        self.uses[known.id.0] += 1;
        known.id
    }

    /// The view is gone.
    pub fn remove(&mut self, view: ObjectId) {
        let uses = &mut self.uses;
        self.known.retain(|_, known| {
            uses[known.id.0] -= known.views.remove(&view).unwrap_or(0);
            !known.views.is_empty()
        });
    }

    /// Views that have the same prefix. Of a scan alone all that read the object, whatever columns they use: it is read
    /// and decoded once for all of them.
    pub fn views_with(&self, prefix: &Prefix) -> Vec<ObjectId> {
        let mut views: Vec<ObjectId> = if prefix.operators() == 0 {
            let of_object = |known: &&Prefix| known.object() == prefix.object();
            let same = self.known.keys().filter(of_object);
            same.flat_map(|known| self.known[known].views.keys().copied())
                .collect()
        } else {
            let known = self.known.get(prefix);
            known
                .into_iter()
                .flat_map(|known| known.views.keys().copied())
                .collect()
        };
        views.sort();
        views.dedup();
        views
    }

    /// Whether it pays to keep what a prefix gives: others want it, and do not all want what the same view makes of
    /// it next (`above`), too.
    pub fn is_shared(&self, id: PrefixId, above: Option<PrefixId>) -> bool {
        let uses = self.uses[id.0];
        uses > above.map_or(0, |above| self.uses[above.0]).max(1)
    }
}

/// What shared prefixes gave in one epoch.
#[derive(Default)]
pub struct EpochShares {
    /// `None`: too large to be kept.
    outputs: HashMap<PrefixId, Option<Shared>>,
    bytes: usize,
}

/// The output of a prefix, as one view computed it.
pub struct Shared {
    deltas: Vec<Delta>,
    failures: Vec<Failure>,
    /// The id of the prefix's first operator in that view.
    first_operator: u32,
    /// Rows in and out of each operator, from the top down.
    counts: Vec<OperatorStats>,
}

impl EpochShares {
    /// What a view that had the prefix before has left; `Some(None)` if that was too large.
    pub fn get(&self, id: PrefixId) -> Option<Option<&Shared>> {
        self.outputs.get(&id).map(Option::as_ref)
    }

    /// Keeps the output of a prefix for the rest of the epoch.
    pub fn keep(
        &mut self,
        id: PrefixId,
        recorded: Option<Recorded>,
        failures: &[Failure],
        first_operator: u32,
        counts: Vec<OperatorStats>,
    ) {
        let shared = recorded.map(|recorded| {
            self.bytes += recorded.bytes;
            Shared {
                deltas: recorded.deltas,
                failures: failures.to_vec(),
                first_operator,
                counts,
            }
        });
        self.outputs.insert(id, shared);
    }

    /// How many outputs others could take.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.outputs.values().flatten().count()
    }

    /// Starts to record an output, which may have what is left of `max_bytes`.
    pub fn recording(&self, max_bytes: usize) -> Recording {
        Recording {
            deltas: Vec::new(),
            bytes: 0,
            max_bytes: max_bytes.saturating_sub(self.bytes),
            is_too_large: false,
        }
    }
}

impl Shared {
    pub fn counts(&self) -> &[OperatorStats] {
        &self.counts
    }

    /// Hands the output over as if the view had computed it, whose first operator of the prefix has the id
    /// `first_operator`.
    pub fn replay(
        &self,
        first_operator: u32,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let own = |failure: &Failure| failure.for_operator(self.first_operator, first_operator);
        context.failures.extend(self.failures.iter().map(own));
        for delta in &self.deltas {
            emit(delta.clone(), context)?;
        }
        Ok(())
    }
}

/// Collects an output, until it gets too large.
pub struct Recording {
    deltas: Vec<Delta>,
    bytes: usize,
    max_bytes: usize,
    is_too_large: bool,
}

/// A whole output.
pub struct Recorded {
    deltas: Vec<Delta>,
    bytes: usize,
}

impl Recording {
    /// One more piece of the output. When it gets too large all goes on to `emit`, from then on at once.
    pub fn add(
        &mut self,
        delta: Delta,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        if self.is_too_large {
            return emit(delta, context);
        }
        self.bytes += bytes(&delta);
        self.deltas.push(delta);
        if self.bytes > self.max_bytes {
            self.is_too_large = true;
            for delta in std::mem::take(&mut self.deltas) {
                emit(delta, context)?;
            }
        }
        Ok(())
    }

    /// The output, if it is not too large. Nothing of it has gone on then.
    pub fn finish(self) -> Option<Recorded> {
        (!self.is_too_large).then_some(Recorded {
            deltas: self.deltas,
            bytes: self.bytes,
        })
    }
}

impl Recorded {
    pub fn deltas(&self) -> &[Delta] {
        &self.deltas
    }
}

/// What keeping a delta costs at most; columns that it shares with others are counted, too.
fn bytes(delta: &Delta) -> usize {
    let of_column = |column: &ArrayRef| {
        let data = column.to_data();
        data.get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    };
    delta.num_rows() * size_of::<i64>() + delta.columns().iter().map(of_column).sum::<usize>()
}
