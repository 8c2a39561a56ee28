//! The states of all calls for the groups of an epoch, and how a group's row in the state table is laid out.
//!
//! ```text
//! key:      KeyCodec of the group columns; empty for a global aggregate
//! value:    | version 1 byte = 1 | row count signed | state of call 1 | state of call 2 | ... |
//! state:    as the call's family stores it (aggregates/*.rs); each ends by itself
//! ```
//! A group without rows has no entry.

use super::collections;
use super::partial::{Change, Changes};
use super::spec::Spec;
use crate::aggregates::{Call, CallKind, GroupStates, Output, Reader, damaged, put_signed};
use crate::error::{ExecutorError, Result};
use crate::state::{Keys, StateTable, Values};

/// First byte of every group row.
const VERSION: u8 = 1;

/// What is stored of the groups of an epoch.
pub struct StoredGroups {
    /// The groups in the order of their keys.
    pub order: Vec<u32>,
    /// In that order.
    rows: Values,
}

impl StoredGroups {
    /// `keys`: of the groups.
    pub fn read(keys: &Keys, table: &mut StateTable) -> Result<Self> {
        let key = |group: u32| keys.get(group as usize);
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| key(a).cmp(key(b)));
        let sorted: Keys = order.iter().map(|&group| key(group)).collect();
        let rows = table.get_many(&sorted)?;
        Ok(StoredGroups { order, rows })
    }

    /// By group; `None` has no rows.
    pub fn readers(&self) -> Vec<Option<Reader<'_>>> {
        let mut readers = vec![None; self.order.len()];
        for (&group, row) in self.order.iter().zip(self.rows.iter()) {
            readers[group as usize] = row.map(Reader::new);
        }
        readers
    }
}

/// Row counts and states, by group.
pub struct GroupTable {
    counts: Vec<i64>,
    calls: Vec<Box<dyn GroupStates>>,
}

impl GroupTable {
    /// Groups without rows.
    pub fn empty(spec: &Spec, group_count: usize) -> Result<Self> {
        let calls = spec
            .calls
            .iter()
            .map(|call| -> Result<Box<dyn GroupStates>> {
                let mut states: Box<dyn GroupStates> = match &call.kind {
                    CallKind::Accumulated(recipe) | CallKind::Distinct { recipe, .. } => {
                        recipe.states()?
                    }
                    CallKind::Ordered {
                        outcomes, empty, ..
                    } => Box::new(Call::outcome_states(outcomes, empty)),
                };
                states.resize(group_count);
                Ok(states)
            });
        Ok(GroupTable {
            counts: vec![0; group_count],
            calls: calls.collect::<Result<_>>()?,
        })
    }

    /// What the epoch adds to the groups; applies the changes of collections to their table on the way.
    pub fn of_changes(
        spec: &Spec,
        changes: Changes,
        keys: &Keys,
        table: &mut StateTable,
    ) -> Result<Self> {
        let group_count = keys.len();
        let mut calls: Vec<Box<dyn GroupStates>> = Vec::with_capacity(spec.calls.len());
        for (index, (call, change)) in spec.calls.iter().zip(changes.calls).enumerate() {
            let index = u16::try_from(index).map_err(|_| {
                ExecutorError::Internal("more than 65,536 aggregates in one SELECT".to_string())
            })?;
            calls.push(match change {
                Change::Accumulated(states) => states,
                Change::Collected(elements) => {
                    collections::apply(call, index, &elements, keys, table, group_count)?
                }
            });
        }
        Ok(GroupTable {
            counts: changes.row_counts,
            calls,
        })
    }

    /// What the epoch adds to groups whose calls all have states.
    pub fn of_states(changes: Changes) -> Result<Self> {
        let calls = changes.calls.into_iter().map(|change| match change {
            Change::Accumulated(states) => Ok(states as Box<dyn GroupStates>),
            Change::Collected(_) => Err(ExecutorError::Internal(
                "a collection among states".to_string(),
            )),
        });
        Ok(GroupTable {
            counts: changes.row_counts,
            calls: calls.collect::<Result<_>>()?,
        })
    }

    /// Makes room for more groups, which have no rows.
    pub fn resize(&mut self, group_count: usize) {
        self.counts.resize(group_count, 0);
        for call in &mut self.calls {
            call.resize(group_count);
        }
    }

    pub fn group_count(&self) -> usize {
        self.counts.len()
    }

    /// Sum of the weights of each group's rows.
    pub fn counts(&self) -> &[i64] {
        &self.counts
    }

    /// Adds each group's stored row.
    pub fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        for (count, reader) in self.counts.iter_mut().zip(readers.iter_mut()) {
            if let Some(reader) = reader {
                if reader.byte()? != VERSION {
                    return Err(damaged());
                }
                *count += reader.signed()?;
            }
        }
        for call in &mut self.calls {
            call.merge_stored(readers)?;
        }
        match readers.iter().flatten().all(Reader::is_empty) {
            true => Ok(()),
            false => Err(damaged()),
        }
    }

    /// Appends a group's row.
    pub fn store(&self, group: usize, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_signed(self.counts[group], out);
        for call in &self.calls {
            call.store(group, out);
        }
    }

    /// One column per call.
    pub fn outputs(&self) -> Result<Vec<Output>> {
        self.calls.iter().map(|call| call.output()).collect()
    }
}
