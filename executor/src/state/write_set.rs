//! Everything one epoch writes: overlays of tables, entries of the engine, meta entries. Nothing is copied until it
//! is written, and a write set survives a failed commit, so that the commit can be repeated.

use std::sync::Arc;

use super::error::StateError;
use super::layout::{Family, PREFIX_LEN, TableId, table_prefix};
use super::overlay::Overlay;
use super::scan::KeyRange;
use super::spill::{Spill, spilled_value};

/// Takes a whole key and its newest value (`None`: it is deleted).
type WriteOne<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Result<(), StateError> + 'a;

/// The writes of one epoch. Range deletes are applied first, then keys; of several writes to one key the last wins.
#[derive(Default)]
pub struct WriteSet {
    tables: Vec<TableWrites>,
    meta: Overlay,
    spilled: Vec<SpilledWrites>,
    dropped: Vec<(Family, TableId)>,
}

/// Older changes of a table than those of its overlay.
struct SpilledWrites {
    family: Family,
    id: TableId,
    spill: Arc<Spill>,
    bytes: usize,
}

/// The writes to one table, or to the meta family with an empty prefix.
struct TableWrites {
    family: Family,
    id: TableId,
    writes: Arc<Overlay>,
    /// Made by this write set itself, so that it may still be changed.
    is_own: bool,
}

/// A key with its table prefix apart, in the order of whole keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SplitKey<'a> {
    pub(super) prefix: [u8; PREFIX_LEN],
    pub(super) key: &'a [u8],
}

/// One key to write: its new value, or `None` to delete it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) key: SplitKey<'a>,
    pub(super) value: Option<&'a [u8]>,
}

impl WriteSet {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
            && self.spilled.is_empty()
            && self.tables.iter().all(|table| table.writes.is_empty())
    }

    /// Whether not everything is in memory.
    pub(super) fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// Number of keys, without those that were spilled.
    pub fn len(&self) -> usize {
        self.meta.len()
            + self
                .tables
                .iter()
                .map(|table| table.writes.len())
                .sum::<usize>()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.meta.bytes()
            + self
                .tables
                .iter()
                .map(|table| table.writes.bytes())
                .sum::<usize>()
            + self.spilled.iter().map(|table| table.bytes).sum::<usize>()
    }

    /// Bytes of keys and values that came in the order of keys.
    pub(super) fn run_bytes(&self) -> usize {
        self.tables.iter().map(|t| t.writes.run_bytes()).sum()
    }

    /// Sets an entry of the meta family.
    pub fn put_meta(&mut self, name: &[u8], value: &[u8]) {
        self.meta.put(name, value);
    }

    /// Deletes an entry of the meta family.
    pub fn delete_meta(&mut self, name: &[u8]) {
        self.meta.delete(name);
    }

    /// Sets a key (without table prefix) of a table that no [`super::StateTable`] writes in this epoch.
    pub fn put(&mut self, family: Family, id: TableId, key: &[u8], value: &[u8]) {
        self.own(family, id).put(key, value);
    }

    /// Deletes a key (without table prefix).
    pub fn delete(&mut self, family: Family, id: TableId, key: &[u8]) {
        self.own(family, id).delete(key);
    }

    /// Deletes a range of a table.
    pub fn delete_range(&mut self, family: Family, id: TableId, range: &KeyRange) {
        self.own(family, id)
            .delete_range(&range.from, range.to.as_deref());
    }

    /// Deletes a whole table, as when its object is dropped. Its space comes back with compaction.
    pub fn delete_table(&mut self, family: Family, id: TableId) {
        self.delete_range(family, id, &KeyRange::all());
        self.dropped.push((family, id));
    }

    /// The tables that are deleted.
    pub(super) fn dropped(&self) -> &[(Family, TableId)] {
        &self.dropped
    }

    fn own(&mut self, family: Family, id: TableId) -> &mut Overlay {
        let found = self
            .tables
            .iter()
            .position(|table| table.is_own && (table.family, table.id) == (family, id));
        let index = found.unwrap_or_else(|| {
            self.tables.push(TableWrites {
                family,
                id,
                writes: Arc::default(),
                is_own: true,
            });
            self.tables.len() - 1
        });
        Arc::get_mut(&mut self.tables[index].writes)
            .expect("an overlay of the write set itself is not shared")
    }

    pub(super) fn add_overlay(&mut self, family: Family, id: TableId, writes: Arc<Overlay>) {
        self.tables.push(TableWrites {
            family,
            id,
            writes,
            is_own: false,
        });
    }

    /// Adds what a table has spilled, which its overlay overrides.
    pub(super) fn add_spilled(
        &mut self,
        family: Family,
        id: TableId,
        spill: Arc<Spill>,
        bytes: usize,
    ) {
        let is_same = |s: &&mut SpilledWrites| (s.family, s.id) == (family, id);
        match self.spilled.iter_mut().find(is_same) {
            Some(known) => known.bytes += bytes,
            None => self.spilled.push(SpilledWrites {
                family,
                id,
                spill,
                bytes,
            }),
        }
    }

    /// Hands over every key of a family that is written, in the order of whole keys, with its newest value (`None`: it
    /// is deleted).
    pub(super) fn for_each(
        &self,
        family: Family,
        write: &mut WriteOne<'_>,
    ) -> Result<(), StateError> {
        let sorted = self.sorted(family);
        let mut in_memory = sorted.iter().peekable();
        let mut whole = Vec::new();
        let mut write_one = |next: &Write<'_>| {
            whole.clear();
            whole.extend_from_slice(&next.key.prefix);
            whole.extend_from_slice(next.key.key);
            write(&whole, next.value)
        };
        let mut tables: Vec<&SpilledWrites> =
            self.spilled.iter().filter(|t| t.family == family).collect();
        tables.sort_by_key(|table| table.id);
        for table in tables {
            let mut spilled = table.spill.whole_table(family, table.id);
            while let Some((key, value)) = spilled.item() {
                let (prefix, key) = key.split_at(PREFIX_LEN);
                let prefix = prefix.try_into().unwrap_or_default();
                let key = SplitKey { prefix, key };
                while let Some(next) = in_memory.next_if(|next| next.key < key) {
                    write_one(next)?;
                }
                match in_memory.next_if(|next| next.key == key) {
                    Some(newer) => write_one(newer)?,
                    None => write_one(&Write {
                        key,
                        value: spilled_value(value),
                    })?,
                }
                spilled.raw().next();
            }
            spilled.status()?;
        }
        in_memory.try_for_each(write_one)
    }

    pub(super) fn meta(&self) -> &Overlay {
        &self.meta
    }

    /// The range deletes of a family other than meta, as whole keys.
    pub(super) fn ranges(&self, family: Family) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut ranges = Vec::new();
        for table in self.tables.iter().filter(|table| table.family == family) {
            for (from, to) in table.writes.deleted_ranges() {
                ranges.push(
                    KeyRange {
                        from: from.clone(),
                        to: to.clone(),
                    }
                    .prefixed(&table_prefix(table.id)),
                );
            }
        }
        ranges
    }

    /// The keys of a family other than meta, each once, in key order.
    pub(super) fn sorted(&self, family: Family) -> Vec<Write<'_>> {
        let tables = || {
            self.tables
                .iter()
                .filter(move |table| table.family == family)
        };
        let mut writes = Vec::with_capacity(tables().map(|table| table.writes.len()).sum());
        // Later writes in front of earlier ones: a stable sort keeps them there, and dedup keeps the first.
        for table in self
            .tables
            .iter()
            .rev()
            .filter(|table| table.family == family)
        {
            let prefix = table_prefix(table.id);
            let changes = table.writes.changes();
            writes.extend(changes.map(|(key, value)| Write {
                key: SplitKey { prefix, key },
                value,
            }));
        }
        writes.sort_by(|a, b| a.key.cmp(&b.key));
        writes.dedup_by(|later, first| later.key == first.key);
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_over_tables_and_last_write_wins() {
        let mut writes = WriteSet::new();
        writes.put(Family::State, TableId(2), b"a", b"own");
        writes.put(Family::State, TableId(1), b"z", b"1");
        writes.delete(Family::Views, TableId(1), b"v");
        let mut shard = Overlay::default();
        shard.put(b"a", b"shard");
        shard.put(b"b", b"2");
        writes.add_overlay(Family::State, TableId(2), Arc::new(shard));
        writes.put_meta(b"epoch", b"7");
        let sorted: Vec<_> = writes
            .sorted(Family::State)
            .iter()
            .map(|w| (w.key.prefix[3], w.key.key, w.value.unwrap()))
            .collect();
        assert_eq!(
            sorted,
            [
                (1, &b"z"[..], &b"1"[..]),
                (2, b"a", b"shard"),
                (2, b"b", b"2")
            ]
        );
        assert_eq!(writes.len(), 6);
        assert!(writes.sorted(Family::Windowed).is_empty());
    }

    #[test]
    fn ranges_get_the_table_prefix() {
        let mut writes = WriteSet::new();
        writes.delete_table(Family::Views, TableId(1));
        writes.delete_range(Family::Views, TableId(2), &KeyRange::prefix(b"x"));
        let expected = vec![
            (vec![0, 0, 0, 1, 0, 0], Some(vec![0, 0, 0, 1, 0, 1])),
            (
                vec![0, 0, 0, 2, 0, 0, b'x'],
                Some(vec![0, 0, 0, 2, 0, 0, b'y']),
            ),
        ];
        assert_eq!(writes.ranges(Family::Views), expected);
        assert!(!writes.is_empty());
    }
}
