//! The elements that one epoch adds to and takes from the groups' collections (distinct values, ordered values).

use std::hash::BuildHasher;

use arrow::array::ArrayRef;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::entry::EntryCodec;
use super::states::GroupedRows;
use crate::error::Result;
use crate::state::{Keys, Rows};

/// Weights of (group, element) pairs, each pair once.
#[derive(Default)]
pub struct EpochEntries {
    /// Indices into the columns below.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    groups: Vec<usize>,
    keys: Keys,
    values: Rows,
    weights: Vec<i64>,
}

impl EpochEntries {
    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        self.keys.data_len() + self.values.data_len() + self.weights.len() * 48
    }

    /// Adds the elements that a batch's rows are.
    pub fn update(&mut self, entries: &EntryCodec, rows: &GroupedRows<'_>) -> Result<()> {
        let batch = entries.encode(rows.args)?;
        for (index, &row) in batch.rows_kept.iter().enumerate() {
            let (group, weight) = (rows.groups[row as usize], rows.weight(row as usize));
            self.add(
                group,
                batch.keys.get(index),
                batch.values.get(index),
                weight,
            );
        }
        Ok(())
    }

    /// Adds the elements of another shard, whose group `g` is `groups[g]` here.
    pub fn merge(&mut self, other: &EpochEntries, groups: &[usize]) {
        for entry in 0..other.len() {
            let (key, value) = (other.keys.get(entry), other.values.get(entry));
            self.add(
                groups[other.groups[entry]],
                key,
                value,
                other.weights[entry],
            );
        }
    }

    fn add(&mut self, group: usize, key: &[u8], value: &[u8], weight: i64) {
        let EpochEntries {
            index,
            hasher,
            groups,
            keys,
            values,
            weights,
        } = self;
        let hash_of =
            |&entry: &u32| hasher.hash_one((groups[entry as usize], keys.get(entry as usize)));
        let is_same =
            |&entry: &u32| groups[entry as usize] == group && keys.get(entry as usize) == key;
        match index.entry(hasher.hash_one((group, key)), is_same, hash_of) {
            Entry::Occupied(found) => weights[*found.get() as usize] += weight,
            Entry::Vacant(vacant) => {
                vacant.insert(weights.len() as u32);
                groups.push(group);
                keys.push(key);
                values.push(value);
                weights.push(weight);
            }
        }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Group, element key, element value and weight of pair `entry`.
    pub fn get(&self, entry: usize) -> (usize, &[u8], &[u8], i64) {
        (
            self.groups[entry],
            self.keys.get(entry),
            self.values.get(entry),
            self.weights[entry],
        )
    }
}

/// Elements that came to be in a collection (+1) or ceased to be (-1), for aggregates of distinct values.
#[derive(Default)]
pub struct Transitions {
    pub groups: Vec<usize>,
    pub values: Rows,
    pub weights: Vec<i64>,
}

impl Transitions {
    /// Their values as argument columns.
    pub fn columns(&self, entries: &EntryCodec) -> Result<Vec<ArrayRef>> {
        entries.decode(self.values.iter())
    }
}
