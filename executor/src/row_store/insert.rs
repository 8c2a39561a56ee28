//! New rows of a table, from a handful to the millions of a COPY.
//!
//! Semantics: `rows := rows + delta`; where there is a key, if none of the keys is taken and none comes twice.
//! Cost: keys in order are compared with their neighbours only, and with nothing stored where that has no row; else one sort
//! and one batched read.

use super::RowStore;
use crate::delta::Delta;
use crate::error::Result;
use crate::rows::multiplicity;
use crate::state::Keys;

/// From so many rows on a look at their whole range is worth it.
const RANGE_ROWS: usize = 512;

/// Keys in order.
enum Order {
    /// As they came.
    Given,
    /// The place of each.
    Sorted(Vec<u32>),
}

impl RowStore {
    /// Adds rows, or changes nothing: the error is about the first whose key is taken.
    pub(super) fn insert_keyed(&mut self, rows: &Delta, name: &str) -> Result<()> {
        let keys = self.format.storage_keys(rows.columns())?;
        let (order, twice) = Order::of(&keys);
        let taken = self.first_taken(&keys, &order)?;
        if let Some(row) = taken.into_iter().chain(twice).min() {
            return Err(self.format.unique_violation(rows.batch(), row, name));
        }
        let entries = self.indexes.entries(rows.columns(), &keys)?;
        let values = self.format.rows.encode(rows.columns())?;
        if !self.indexes.is_empty() {
            (0..keys.len()).for_each(|row| self.indexes.put(&entries, row));
        }
        self.rows += keys.len() as u64;
        match order {
            Order::Given => self.put_in_order(keys, values),
            Order::Sorted(order) => {
                let values = values.gather(&order);
                self.put_in_order(keys.gather(&order), values);
            }
        }
        Ok(())
    }

    /// Adds rows that have no key, each as often as it comes.
    pub(super) fn insert_bag(&mut self, rows: &Delta) -> Result<()> {
        let keys = self.format.storage_keys(rows.columns())?;
        let entries = self.indexes.entries(rows.columns(), &keys)?;
        let (order, _) = Order::of(&keys);
        // the place of the first of equal rows, and how many they are
        let mut groups: Vec<(u32, i64)> = Vec::with_capacity(keys.len());
        for row in order.rows(keys.len()) {
            match groups.last_mut() {
                Some((first, copies)) if keys.get(*first as usize) == keys.get(row as usize) => {
                    *copies += 1;
                }
                _ => groups.push((row, 1)),
            }
        }
        let firsts: Vec<u32> = groups.iter().map(|(first, _)| *first).collect();
        let distinct = keys.gather(&firsts);
        if !self.is_free(&distinct, &Order::Given)? {
            let stored = self.state.get_many(&distinct)?;
            for (at, (_, copies)) in groups.iter_mut().enumerate() {
                *copies += stored.get(at).map_or(Ok(0), multiplicity)?;
            }
        }
        let mut values = Keys::with_capacity(groups.len(), groups.len() * 8);
        for (first, copies) in &groups {
            values.push(&copies.to_be_bytes());
            self.indexes.put(&entries, *first as usize);
        }
        self.put_in_order(distinct, values);
        self.rows += keys.len() as u64;
        Ok(())
    }

    /// Few rows are not worth a run, and more likely to be asked for soon: runs stay out of the cache.
    fn put_in_order(&mut self, keys: Keys, values: Keys) {
        if keys.len() >= RANGE_ROWS {
            return self.state.put_ascending(keys, values);
        }
        let entries = keys.iter().zip(values.iter());
        entries.for_each(|(key, value)| self.state.put(key, value));
    }

    fn first_taken(&mut self, keys: &Keys, order: &Order) -> Result<Option<usize>> {
        if self.is_free(keys, order)? {
            return Ok(None);
        }
        let stored = self.state.get_many(keys)?;
        Ok((0..keys.len()).find(|row| stored.get(*row).is_some()))
    }

    /// True if nothing is stored in the whole range of the keys; where these are few, nobody looks.
    fn is_free(&self, keys: &Keys, order: &Order) -> Result<bool> {
        match order.ends(keys) {
            Some((first, last)) if keys.len() >= RANGE_ROWS => {
                Ok(self.state.is_empty_between(first, last)?)
            }
            _ => Ok(false),
        }
    }
}

impl Order {
    /// The order of `keys`, and the first that was there before.
    fn of(keys: &Keys) -> (Order, Option<usize>) {
        if keys.iter().is_sorted_by(|a, b| a < b) {
            return (Order::Given, None);
        }
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        let key = |row: &u32| keys.get(*row as usize);
        order.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.cmp(b)));
        let pairs = order.windows(2);
        let twice = pairs.filter(|pair| key(&pair[0]) == key(&pair[1]));
        let twice = twice.map(|pair| pair[1] as usize).min();
        (Order::Sorted(order), twice)
    }

    /// The places of so many keys, in order.
    fn rows(&self, count: usize) -> impl Iterator<Item = u32> {
        (0..count as u32).map(|at| match self {
            Order::Given => at,
            Order::Sorted(order) => order[at as usize],
        })
    }

    /// The first and the last key.
    fn ends<'a>(&self, keys: &'a Keys) -> Option<(&'a [u8], &'a [u8])> {
        let last = keys.len().checked_sub(1)?;
        Some(match self {
            Order::Given => (keys.get(0), keys.get(last)),
            Order::Sorted(order) => (keys.get(order[0] as usize), keys.get(order[last] as usize)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_repeated_key_is_found_in_any_order() {
        for (keys, order, twice) in [
            (&["a", "b", "c"][..], None, None),
            (&["b", "a"], Some(vec![1, 0]), None),
            (&["b", "a", "b", "a"], Some(vec![1, 3, 0, 2]), Some(2)),
            (&["a", "a"], Some(vec![0, 1]), Some(1)),
            (&[], None, None),
        ] {
            let keys: Keys = keys.iter().map(|key| key.as_bytes()).collect();
            let (found, first) = Order::of(&keys);
            assert_eq!(first, twice);
            match found {
                Order::Given => assert_eq!(order, None),
                Order::Sorted(found) => assert_eq!(Some(found), order),
            }
        }
    }
}
