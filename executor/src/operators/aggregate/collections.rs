//! The collections of groups in the state table: applying an epoch's changes, and what follows from them.
//!
//! ```text
//! key:      | group key | call, 2 bytes, BE | element key (aggregates/entry.rs) |
//! value:    | weight signed | element (RowCodec) |
//! ```
//! An element is there while its weight is positive, so its first and last elements are one seek away.

use arrow::array::ArrayRef;
use arrow::compute::cast;

use crate::aggregates::{
    Accumulate, Call, CallKind, EpochEntries, GroupStates, GroupedRows, Outcome, OutcomeStates,
    Pick, Reader, Transitions, put_signed,
};
use crate::error::{ExecutorError, Result};
use crate::state::{KeyRange, Keys, StateTable, TableScan};

/// Applies `elements` of call `index` to the table. The states say what the epoch adds to each group (distinct
/// calls), or the new result of each touched group (ordered ones).
pub fn apply(
    call: &Call,
    index: u16,
    elements: &EpochEntries,
    groups: &Keys,
    table: &mut StateTable,
    group_count: usize,
) -> Result<Box<dyn GroupStates>> {
    let (touched, transitions) = write(index, elements, groups, table)?;
    match &call.kind {
        CallKind::Accumulated(recipe) => Ok(recipe.states()?),
        CallKind::Distinct { entries, recipe } => {
            let mut states: Box<dyn Accumulate> = recipe.states()?;
            states.resize(group_count);
            if !transitions.groups.is_empty() {
                let columns = transitions.columns(entries)?;
                let weights = Some(transitions.weights.as_slice());
                states.update(&GroupedRows {
                    groups: &transitions.groups,
                    args: &columns,
                    weights,
                })?;
            }
            Ok(states)
        }
        CallKind::Ordered {
            entries,
            pick,
            outcomes,
            empty,
        } => {
            let mut states: OutcomeStates = Call::outcome_states(outcomes, empty);
            states.resize(group_count);
            for group in touched {
                let range = KeyRange::prefix(&prefix(groups.get(group), index));
                let first_column = |mut scan: TableScan<'_>| -> Result<Outcome> {
                    if !scan.advance()? {
                        return Ok(empty.clone());
                    }
                    let mut value = Reader::new(scan.value());
                    value.signed()?;
                    let column: ArrayRef = entries
                        .decode(std::iter::once(value.rest()))?
                        .swap_remove(0);
                    outcomes.value(cast(&column, outcomes.data_type())?)
                };
                let outcome = match pick {
                    Pick::First => first_column(table.scan(&range)?)?,
                    Pick::Last => first_column(table.scan_reverse(&range)?)?,
                    Pick::Replay(replay) => replay.run(&mut table.scan(&range)?)?,
                };
                states.set(group, outcome);
            }
            Ok(Box::new(states))
        }
    }
}

fn prefix(group: &[u8], index: u16) -> Vec<u8> {
    [group, &index.to_be_bytes()].concat()
}

/// Adds the weights to the table, in key order. Returns the groups whose collections changed, and the elements that
/// came or went.
fn write(
    index: u16,
    elements: &EpochEntries,
    groups: &Keys,
    table: &mut StateTable,
) -> Result<(Vec<usize>, Transitions)> {
    let mut changed: Vec<usize> = (0..elements.len())
        .filter(|&entry| elements.get(entry).3 != 0)
        .collect();
    changed.sort_unstable_by(|&a, &b| {
        let ((group_a, key_a, _, _), (group_b, key_b, _, _)) = (elements.get(a), elements.get(b));
        (groups.get(group_a), key_a).cmp(&(groups.get(group_b), key_b))
    });
    let mut keys = Keys::with_capacity(changed.len(), changed.len() * 24);
    for &entry in &changed {
        let (group, key, _, _) = elements.get(entry);
        keys.push_with(|out| {
            out.extend_from_slice(groups.get(group));
            out.extend_from_slice(&index.to_be_bytes());
            out.extend_from_slice(key);
        });
    }
    let stored = table.get_many(&keys)?;
    let mut touched = Vec::new();
    let mut transitions = Transitions::default();
    let mut value = Vec::new();
    for (position, &entry) in changed.iter().enumerate() {
        let (group, _, element, change) = elements.get(entry);
        let mut reader = stored.get(position).map(Reader::new);
        let before = reader.as_mut().map_or(Ok(0), Reader::signed)?;
        let after = before + change;
        if after < 0 {
            let message = "a value was retracted from an aggregate that does not have it";
            return Err(ExecutorError::Internal(message.to_string()));
        }
        if after == 0 {
            table.delete(keys.get(position));
        } else {
            value.clear();
            put_signed(after, &mut value);
            value.extend_from_slice(element);
            table.put(keys.get(position), &value);
        }
        if touched.last() != Some(&group) {
            touched.push(group);
        }
        if (before == 0) != (after == 0) {
            transitions.groups.push(group);
            transitions.values.push(element);
            transitions.weights.push(if after > 0 { 1 } else { -1 });
        }
    }
    Ok((touched, transitions))
}
