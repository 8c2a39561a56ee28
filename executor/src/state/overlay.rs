//! The changes of one epoch to one table: a hash table over bump-allocated keys and values, so that a million puts
//! are a few hundred allocations, and an order over it that is made only when somebody scans.
//!
//! A range delete forgets what this epoch wrote in the range and hides what the database has there; later puts are
//! visible again. When the overlay is written, its range deletes come first and its entries after them.

use std::cmp::Ordering;

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

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

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&id| self.key(id) == key).copied()
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

const MAX_BLOCK: usize = 512;

/// The ids of an overlay's entries in key order, in blocks, so that a put after a scan costs a short move.
#[derive(Default)]
pub(super) struct KeyOrder {
    blocks: Vec<Vec<u32>>,
}

/// A place in a [`KeyOrder`]: the entry there, or behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    block: usize,
    index: usize,
}

impl KeyOrder {
    pub(super) fn new(overlay: &Overlay) -> Self {
        let mut ids: Vec<u32> = (0..overlay.len() as u32).collect();
        ids.sort_unstable_by(|&a, &b| overlay.key(a).cmp(overlay.key(b)));
        Self {
            blocks: ids.chunks(MAX_BLOCK / 2).map(<[u32]>::to_vec).collect(),
        }
    }

    /// Adds an entry that is new to the overlay.
    pub(super) fn insert(&mut self, overlay: &Overlay, id: u32) {
        let Place { block, index } = self.seek(overlay, overlay.key(id));
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        // Behind the last block means at its end.
        let (block, index) = match self.blocks.get(block) {
            Some(_) => (block, index),
            None => (
                self.blocks.len() - 1,
                self.blocks[self.blocks.len() - 1].len(),
            ),
        };
        let ids = &mut self.blocks[block];
        ids.insert(index, id);
        if ids.len() > MAX_BLOCK {
            let upper = ids.split_off(MAX_BLOCK / 2);
            self.blocks.insert(block + 1, upper);
        }
    }

    /// The first entry whose key is at or above `key`.
    pub(super) fn seek(&self, overlay: &Overlay, key: &[u8]) -> Place {
        let is_below = |&id: &u32| overlay.key(id).cmp(key) == Ordering::Less;
        let block = self
            .blocks
            .partition_point(|ids| ids.last().is_some_and(is_below));
        let index = self
            .blocks
            .get(block)
            .map_or(0, |ids| ids.partition_point(is_below));
        Place { block, index }
    }

    /// Behind the last entry.
    pub(super) fn end(&self) -> Place {
        Place {
            block: self.blocks.len(),
            index: 0,
        }
    }

    pub(super) fn get(&self, place: Place) -> Option<u32> {
        self.blocks.get(place.block)?.get(place.index).copied()
    }

    pub(super) fn next(&self, place: Place) -> Place {
        match self.blocks.get(place.block) {
            Some(ids) if place.index + 1 < ids.len() => Place {
                block: place.block,
                index: place.index + 1,
            },
            Some(_) => Place {
                block: place.block + 1,
                index: 0,
            },
            None => place,
        }
    }

    /// The place before, or `None` at the first.
    pub(super) fn previous(&self, place: Place) -> Option<Place> {
        if place.index > 0 {
            return Some(Place {
                block: place.block,
                index: place.index - 1,
            });
        }
        let block = place.block.checked_sub(1)?;
        Some(Place {
            block,
            index: self.blocks[block].len() - 1,
        })
    }
}

#[cfg(test)]
mod tests {
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
    fn large_values_get_their_own_chunk() {
        let mut overlay = Overlay::default();
        let large = vec![7u8; 3 << 20];
        overlay.put(b"k", &large);
        overlay.put(b"s", b"small");
        assert_eq!(get(&overlay, b"k"), Change::Put(&large));
        assert_eq!(get(&overlay, b"s"), Change::Put(b"small"));
    }

    #[test]
    fn order_stays_sorted_under_inserts() {
        let mut overlay = Overlay::default();
        let mut order = KeyOrder::new(&overlay);
        for n in 0..5000u32 {
            let key = (n.wrapping_mul(2_654_435_761) % 3000).to_be_bytes();
            if let Some(id) = overlay.put(&key, b"") {
                order.insert(&overlay, id);
            }
        }
        let mut place = order.seek(&overlay, &[]);
        let mut keys = Vec::new();
        while let Some(id) = order.get(place) {
            keys.push(overlay.key(id).to_vec());
            place = order.next(place);
        }
        assert_eq!(place, order.end());
        assert_eq!(keys.len(), overlay.len());
        assert!(keys.is_sorted());
        let mut backwards = Vec::new();
        let mut place = order.end();
        while let Some(previous) = order.previous(place) {
            place = previous;
            backwards.push(overlay.key(order.get(place).unwrap()).to_vec());
        }
        backwards.reverse();
        assert_eq!(backwards, keys);
        assert_eq!(
            order.get(order.seek(&overlay, &keys[700])),
            overlay.find(&keys[700])
        );
    }
}
