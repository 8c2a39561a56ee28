//! The changes of one epoch to one table: a hash table over bump-allocated keys and values, so that a million puts
//! are a few hundred allocations. `key_order.rs` has the order over it that scans need.
//!
//! A range delete forgets what this epoch wrote in the range and hides what the database has there; later puts are
//! visible again. When the overlay is written, its range deletes come first and its entries after them.
//!
//! Many keys that come in order, as from a COPY, are taken as they are: a run, which is searched instead of hashed.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::arena::Keys;

const FIRST_CHUNK: usize = 4 << 10;
const MAX_CHUNK: usize = 1 << 20;

/// What an overlay knows of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Put(&'a [u8]),
    Deleted,
    /// The epoch did not touch the key.
    Untouched,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    chunk: u32,
    offset: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Put,
    Deleted,
    /// Written in this epoch and then forgotten by a range delete.
    Forgotten,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Span,
    value: Span,
    /// Bytes at `value` that may be overwritten.
    value_capacity: u32,
    state: State,
}

/// See the module.
#[derive(Default)]
pub(super) struct Overlay {
    chunks: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    /// So many first entries are a run: in key order, and not in `index`.
    run: usize,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// From (inclusive), to (exclusive, `None`: the end of the table).
    deleted_ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Overlay {
    /// Empty, with room for about `entries` keys.
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self {
            index: HashTable::with_capacity(entries),
            entries: Vec::with_capacity(entries),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.deleted_ranges.is_empty()
    }

    /// Number of keys touched.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in memory, about, bookkeeping included.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.entries.len() * (size_of::<Entry>() + 16)
    }

    /// What is known of keys goes to the overlay returned, range deletes stay.
    pub(super) fn take_entries(&mut self) -> Self {
        let deleted_ranges = std::mem::take(&mut self.deleted_ranges);
        let next = Self {
            bytes: deleted_ranges
                .iter()
                .map(|(from, to)| from.len() + to.as_ref().map_or(0, Vec::len))
                .sum(),
            deleted_ranges,
            ..Self::default()
        };
        std::mem::replace(self, next)
    }

    /// Bytes of keys and values, without bookkeeping.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn deleted_ranges(&self) -> &[(Vec<u8>, Option<Vec<u8>>)] {
        &self.deleted_ranges
    }

    /// Bytes of the keys and values that came as a run.
    pub(super) fn run_bytes(&self) -> usize {
        let of = |entry: &Entry| (entry.key.len + entry.value.len) as usize;
        self.entries[..self.run].iter().map(of).sum()
    }

    /// The entry of a key.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        let found = self.index.find(hash, |&id| self.key(id) == key).copied();
        found.or_else(|| self.find_in_run(key))
    }

    fn find_in_run(&self, key: &[u8]) -> Option<u32> {
        let run = &self.entries[..self.run];
        let at = run.partition_point(|entry| self.slice(entry.key) < key);
        let entry = run.get(at)?;
        (self.slice(entry.key) == key).then_some(at as u32)
    }

    /// [`Self::memory`] of a run.
    pub(super) fn memory_of_run(keys: &Keys, values: &Keys) -> usize {
        keys.data_len() + values.data_len() + keys.len() * (size_of::<Entry>() + 16)
    }

    /// Whether keys and values of these sizes can be a run here.
    pub(super) fn takes_run(&self, keys: &Keys, values: &Keys) -> bool {
        let fits = |strings: &Keys| u32::try_from(strings.data_len()).is_ok();
        self.entries.is_empty() && fits(keys) && fits(values)
    }

    /// Sets the values of keys in strictly ascending order, without copying them; only if [`Self::takes_run`].
    pub(super) fn put_run(&mut self, keys: Keys, values: Keys) {
        debug_assert!(self.takes_run(&keys, &values));
        self.bytes += keys.data_len() + values.data_len();
        self.run = keys.len();
        let chunk = self.chunks.len() as u32;
        let span = |strings: &Keys, chunk, at| {
            let range = strings.span(at);
            Span {
                chunk,
                offset: range.start as u32,
                len: range.len() as u32,
            }
        };
        let entries = (0..keys.len()).map(|at| {
            let value = span(&values, chunk + 1, at);
            Entry {
                key: span(&keys, chunk, at),
                value,
                value_capacity: value.len,
                state: State::Put,
            }
        });
        self.entries = entries.collect();
        self.chunks.extend([keys.into_data(), values.into_data()]);
    }

    /// What the overlay's entries say of a key. It may be range deleted all the same.
    pub(super) fn entry(&self, key: &[u8]) -> Change<'_> {
        match self.find(key) {
            Some(id) => self.change(id),
            None => Change::Untouched,
        }
    }

    /// Whether a range delete hides what the database has at `key`.
    pub(super) fn is_range_deleted(&self, key: &[u8]) -> bool {
        self.range_deleted_until(key).is_some()
    }

    /// The range delete that hides `key`.
    pub(super) fn range_deleted_until(&self, key: &[u8]) -> Option<&(Vec<u8>, Option<Vec<u8>>)> {
        self.deleted_ranges.iter().find(|(from, to)| {
            key >= from.as_slice() && to.as_ref().is_none_or(|to| key < to.as_slice())
        })
    }

    pub(super) fn key(&self, id: u32) -> &[u8] {
        self.slice(self.entries[id as usize].key)
    }

    /// What entry `id` says. A forgotten entry is deleted: its key lies in a deleted range.
    pub(super) fn change(&self, id: u32) -> Change<'_> {
        let entry = &self.entries[id as usize];
        match entry.state {
            State::Put => Change::Put(self.slice(entry.value)),
            State::Deleted | State::Forgotten => Change::Deleted,
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.chunks[span.chunk as usize][span.offset as usize..(span.offset + span.len) as usize]
    }

    /// Sets a value. Returns the id of the entry if the key is new to the overlay.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Option<u32> {
        match self.find(key) {
            Some(id) => {
                self.overwrite(id, value);
                None
            }
            None => {
                let value = self.append(value);
                Some(self.insert(key, value, State::Put))
            }
        }
    }

    /// Deletes a key. Returns the id of the entry if the key is new to the overlay.
    pub(super) fn delete(&mut self, key: &[u8]) -> Option<u32> {
        match self.find(key) {
            Some(id) => {
                self.entries[id as usize].state = State::Deleted;
                None
            }
            None => Some(self.insert(
                key,
                Span {
                    chunk: 0,
                    offset: 0,
                    len: 0,
                },
                State::Deleted,
            )),
        }
    }

    /// Deletes all keys from `from` up to but without `to`.
    pub(super) fn delete_range(&mut self, from: &[u8], to: Option<&[u8]>) {
        if to.is_some_and(|to| to <= from) {
            return;
        }
        for id in 0..self.entries.len() as u32 {
            let key = self.key(id);
            if key >= from && to.is_none_or(|to| key < to) {
                self.entries[id as usize].state = State::Forgotten;
            }
        }
        let range = (from.to_vec(), to.map(<[u8]>::to_vec));
        if !self.deleted_ranges.contains(&range) {
            self.bytes += from.len() + to.map_or(0, <[u8]>::len);
            self.deleted_ranges.push(range);
        }
    }

    fn overwrite(&mut self, id: u32, value: &[u8]) {
        let Entry {
            value: old,
            value_capacity,
            ..
        } = self.entries[id as usize];
        if value.len() <= value_capacity as usize {
            let start = old.offset as usize;
            self.chunks[old.chunk as usize][start..start + value.len()].copy_from_slice(value);
            let entry = &mut self.entries[id as usize];
            entry.value.len = value.len() as u32;
            entry.state = State::Put;
        } else {
            let value = self.append(value);
            let entry = &mut self.entries[id as usize];
            entry.value = value;
            entry.value_capacity = value.len;
            entry.state = State::Put;
        }
    }

    fn insert(&mut self, key: &[u8], value: Span, state: State) -> u32 {
        let key_span = self.append(key);
        let id = u32::try_from(self.entries.len())
            .expect("an epoch touches fewer than 2^32 keys of one table");
        self.entries.push(Entry {
            key: key_span,
            value,
            value_capacity: value.len,
            state,
        });
        let hash = self.hasher.hash_one(key);
        let Self {
            index,
            entries,
            chunks,
            hasher,
            ..
        } = self;
        index.insert_unique(hash, id, |&id| {
            let span = entries[id as usize].key;
            let start = span.offset as usize;
            hasher.hash_one(&chunks[span.chunk as usize][start..start + span.len as usize])
        });
        id
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let len = u32::try_from(bytes.len()).expect("a key or value is below 4 GiB");
        let fits = self
            .chunks
            .last()
            .is_some_and(|chunk| chunk.capacity() - chunk.len() >= bytes.len());
        if !fits {
            let size = (FIRST_CHUNK << self.chunks.len().min(8))
                .min(MAX_CHUNK)
                .max(bytes.len());
            self.chunks.push(Vec::with_capacity(size));
        }
        let chunk = self.chunks.len() - 1;
        let data = &mut self.chunks[chunk];
        let offset = data.len() as u32;
        data.extend_from_slice(bytes);
        self.bytes += bytes.len();
        Span {
            chunk: chunk as u32,
            offset,
            len,
        }
    }

    /// The entries that must be written, in any order: key and new value, or `None` to delete.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().filter_map(|entry| match entry.state {
            State::Put => Some((self.slice(entry.key), Some(self.slice(entry.value)))),
            State::Deleted => Some((self.slice(entry.key), None)),
            State::Forgotten => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_order::KeyOrder;
    use super::*;

    fn get<'a>(overlay: &'a Overlay, key: &[u8]) -> Change<'a> {
        match overlay.entry(key) {
            Change::Untouched if overlay.is_range_deleted(key) => Change::Deleted,
            change => change,
        }
    }

    #[test]
    fn last_change_wins_and_ranges_hide() {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.put(b"b", b"1"), Some(0));
        assert_eq!(overlay.put(b"b", b"longer"), None);
        assert_eq!(get(&overlay, b"b"), Change::Put(b"longer"));
        overlay.put(b"b", b"x");
        overlay.delete(b"c");
        assert_eq!(get(&overlay, b"c"), Change::Deleted);
        overlay.delete_range(b"a", Some(b"c"));
        assert_eq!(get(&overlay, b"b"), Change::Deleted);
        assert_eq!(get(&overlay, b"bb"), Change::Deleted);
        assert_eq!(get(&overlay, b"d"), Change::Untouched);
        overlay.put(b"b", b"again");
        assert_eq!(get(&overlay, b"b"), Change::Put(b"again"));
        let mut changes: Vec<_> = overlay.changes().collect();
        changes.sort();
        assert_eq!(changes, [(&b"b"[..], Some(&b"again"[..])), (b"c", None)]);
    }

    #[test]
    fn a_run_is_like_single_puts() {
        let strings = |strings: &[&str]| -> Keys { strings.iter().map(|s| s.as_bytes()).collect() };
        let mut overlay = Overlay::default();
        overlay.put_run(strings(&["b", "d", "f"]), strings(&["1", "", "3"]));
        assert_eq!(overlay.run_bytes(), 5);
        assert_eq!(get(&overlay, b"d"), Change::Put(b""));
        for other in [b"a", b"c", b"g"] {
            assert_eq!(get(&overlay, other), Change::Untouched);
        }
        assert_eq!(overlay.put(b"f", b"longer"), None);
        assert_eq!(overlay.put(b"c", b"new"), Some(3));
        assert_eq!(overlay.delete(b"d"), None);
        overlay.delete_range(b"a", Some(b"c"));
        assert_eq!(get(&overlay, b"b"), Change::Deleted);
        assert_eq!(get(&overlay, b"c"), Change::Put(b"new"));
        let order = KeyOrder::new(&overlay);
        let first = order.get(order.seek(&overlay, b"c"));
        assert_eq!(first.map(|id| overlay.key(id)), Some(&b"c"[..]));
        let mut changes: Vec<_> = overlay.changes().collect();
        changes.sort();
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"c", Some(b"new")), (b"d", None), (b"f", Some(b"longer"))];
        assert_eq!(changes, expected);
        assert!(!overlay.takes_run(&Keys::new(), &Keys::new()));
    }

    #[test]
    fn large_values_get_their_own_chunk() {
        let mut overlay = Overlay::default();
        let large = vec![7u8; 3 << 20];
        overlay.put(b"k", &large);
        overlay.put(b"s", b"small");
        assert_eq!(get(&overlay, b"k"), Change::Put(&large));
        assert_eq!(get(&overlay, b"s"), Change::Put(b"small"));
    }
}
