//! The order over an overlay's entries, made when somebody scans them and kept up to date from then on.

use std::cmp::Ordering;

use super::overlay::Overlay;

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
