//! Splitting one operator's work among threads.

use rayon::prelude::*;

use crate::delta::Delta;
use crate::error::Result;
use crate::operator::{EpochContext, Failure};
use crate::pieces::most_rows;

/// Below this many rows a fork costs more than it saves. Tests fork for little, to see that it changes nothing.
pub fn parallel_rows() -> usize {
    most_rows(if cfg!(test) { 16 } else { 4096 })
}

/// At most `shards` contiguous parts of `delta`, each worth a thread; `delta` itself if it is small.
pub fn split(delta: Delta, shards: usize) -> Vec<Delta> {
    let worth = (delta.num_rows() / parallel_rows() * 2).min(delta.num_rows());
    let parts = shards.min(worth).max(1);
    if parts == 1 {
        return vec![delta];
    }
    let count = delta.num_rows();
    let bound = |part: usize| count * part / parts;
    (0..parts)
        .map(|part| delta.slice(bound(part), bound(part + 1) - bound(part)))
        .collect()
}

/// Applies a stateless operator's function to all rows, on several threads if there are many. Deltas without rows are
/// left out.
pub fn map(
    delta: Delta,
    context: &mut EpochContext,
    apply: impl Fn(Delta, &mut Vec<Failure>) -> Result<Delta> + Sync,
) -> Result<Vec<Delta>> {
    let mut parts = split(delta, context.shards);
    let results: Vec<Result<(Delta, Vec<Failure>)>> = if parts.len() == 1 {
        parts
            .drain(..)
            .map(|part| with_failures(part, &apply))
            .collect()
    } else {
        parts
            .into_par_iter()
            .map(|part| with_failures(part, &apply))
            .collect()
    };
    let mut output = Vec::with_capacity(results.len());
    for result in results {
        let (delta, failures) = result?;
        context.failures.extend(failures);
        if !delta.is_empty() {
            output.push(delta);
        }
    }
    Ok(output)
}

fn with_failures(
    part: Delta,
    apply: &(impl Fn(Delta, &mut Vec<Failure>) -> Result<Delta> + Sync),
) -> Result<(Delta, Vec<Failure>)> {
    let mut failures = Vec::new();
    Ok((apply(part, &mut failures)?, failures))
}
