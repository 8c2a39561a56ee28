//! The entries of one table's cache: a hash table over a log of chunks. See the parent module for the policy.
//!
//! ```text
//! entry:  | key length u32 | value length u32, FFFFFFFFh: no such key | room for the value u32 | was read u8 | key | value |
//! ```

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

pub(super) const MIN_CHUNK: usize = 4 << 10;
const MAX_CHUNK: usize = 256 << 10;
/// Entries above this are not worth their place.
const MAX_ENTRY: usize = 1 << 20;
/// key length, value length, room for the value, flag: was read.
const HEADER: usize = 13;
/// As value length: the table has no such key.
const ABSENT: u32 = u32::MAX;

/// Where an entry is.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    hash: u64,
    chunk: u64,
    offset: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Entries {
    index: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    chunks: VecDeque<Vec<u8>>,
    /// Number of the chunk at the front.
    first_chunk: u64,
    chunk_bytes: usize,
    /// Counts changes of what is allocated.
    pub(super) allocations: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
}

fn word(chunk: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]])
}

fn entry_key(chunk: &[u8], offset: u32) -> &[u8] {
    let start = offset as usize + HEADER;
    &chunk[start..start + word(chunk, offset as usize) as usize]
}

impl Entries {
    /// Bytes allocated.
    pub(super) fn allocated(&self) -> usize {
        self.chunk_bytes + self.index.allocation_size()
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no chunk left to drop.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Forgets the keys for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let Self {
            index,
            chunks,
            first_chunk,
            ..
        } = self;
        index.retain(|slot| {
            keep(entry_key(
                &chunks[(slot.chunk - *first_chunk) as usize],
                slot.offset,
            ))
        });
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<Slot> {
        let hash = self.hasher.hash_one(key);
        let chunk = |slot: &Slot| &self.chunks[(slot.chunk - self.first_chunk) as usize];
        self.index
            .find(hash, |slot| {
                slot.hash == hash && entry_key(chunk(slot), slot.offset) == key
            })
            .copied()
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        let Some(slot) = self.find(key) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let chunk = &mut self.chunks[(slot.chunk - self.first_chunk) as usize];
        let at = slot.offset as usize;
        chunk[at + 12] = 1;
        let len = word(chunk, at + 4);
        let start = at + HEADER + key.len();
        Some((len != ABSENT).then(|| &chunk[start..start + len as usize]))
    }

    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let bytes = value.unwrap_or(&[]);
        let found = self.find(key);
        if let Some(slot) = found {
            let chunk = &mut self.chunks[(slot.chunk - self.first_chunk) as usize];
            let at = slot.offset as usize;
            if bytes.len() <= word(chunk, at + 8) as usize {
                let len = value.map_or(ABSENT, |value| value.len() as u32);
                chunk[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
                let start = at + HEADER + key.len();
                chunk[start..start + bytes.len()].copy_from_slice(bytes);
                return;
            }
        }
        let hash = self.hasher.hash_one(key);
        if HEADER + key.len() + bytes.len() > MAX_ENTRY {
            if let Some(slot) = found {
                self.unlink(slot);
            }
            return;
        }
        let (chunk, offset) = self.append(key, value);
        match found {
            Some(old) => {
                let is_old = |slot: &Slot| slot.chunk == old.chunk && slot.offset == old.offset;
                if let Some(slot) = self.index.find_mut(hash, is_old) {
                    *slot = Slot {
                        hash,
                        chunk,
                        offset,
                    };
                }
            }
            None => {
                let capacity = self.index.capacity();
                self.index.insert_unique(
                    hash,
                    Slot {
                        hash,
                        chunk,
                        offset,
                    },
                    |slot| slot.hash,
                );
                self.allocations += u64::from(capacity != self.index.capacity());
            }
        }
    }

    /// Forgets one key.
    pub(super) fn forget(&mut self, key: &[u8]) {
        if let Some(slot) = self.find(key) {
            self.unlink(slot);
        }
    }

    fn unlink(&mut self, old: Slot) {
        let is_old = |slot: &Slot| slot.chunk == old.chunk && slot.offset == old.offset;
        if let Ok(entry) = self.index.find_entry(old.hash, is_old) {
            entry.remove();
        }
    }

    fn append(&mut self, key: &[u8], value: Option<&[u8]>) -> (u64, u32) {
        let bytes = value.unwrap_or(&[]);
        let needed = HEADER + key.len() + bytes.len();
        if self
            .chunks
            .back()
            .is_none_or(|chunk| chunk.capacity() - chunk.len() < needed)
        {
            let size = (self.chunk_bytes / 8)
                .clamp(MIN_CHUNK, MAX_CHUNK)
                .max(needed);
            let chunk = Vec::with_capacity(size);
            self.chunk_bytes += chunk.capacity();
            self.allocations += 1;
            self.chunks.push_back(chunk);
        }
        let number = self.first_chunk + self.chunks.len() as u64 - 1;
        let chunk = self
            .chunks
            .back_mut()
            .expect("a chunk was added if there was none");
        let offset = chunk.len() as u32;
        chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
        chunk.extend_from_slice(
            &value
                .map_or(ABSENT, |value| value.len() as u32)
                .to_le_bytes(),
        );
        chunk.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        chunk.push(0);
        chunk.extend_from_slice(key);
        chunk.extend_from_slice(bytes);
        (number, offset)
    }

    /// Frees the oldest chunk. Entries that were read since they were written move to the end of the log, as long
    /// as they are less than half of the chunk.
    pub(super) fn drop_oldest_chunk(&mut self, second_chance: bool) {
        let Some(chunk) = self.chunks.pop_front() else {
            return;
        };
        let number = self.first_chunk;
        self.first_chunk += 1;
        self.chunk_bytes -= chunk.capacity();
        self.allocations += 1;
        let mut saved = 0;
        let mut at = 0;
        while at < chunk.len() {
            let key = entry_key(&chunk, at as u32);
            let capacity = word(&chunk, at + 8) as usize;
            let (offset, len, was_read) = (at as u32, word(&chunk, at + 4), chunk[at + 12] == 1);
            let start = at + HEADER + key.len();
            at = start + capacity;
            let hash = self.hasher.hash_one(key);
            let is_this = |slot: &Slot| slot.chunk == number && slot.offset == offset;
            let Ok(entry) = self.index.find_entry(hash, is_this) else {
                continue;
            };
            entry.remove();
            if second_chance && was_read && saved + capacity + key.len() < chunk.len() / 2 {
                saved += HEADER + key.len() + capacity;
                self.put(
                    key,
                    (len != ABSENT).then(|| &chunk[start..start + len as usize]),
                );
            }
        }
        // Without this a table that shrank would keep its largest index for ever.
        if self.index.capacity() > 4 * self.index.len() + 64 {
            self.index.shrink_to(2 * self.index.len(), |slot| slot.hash);
        }
    }
}
