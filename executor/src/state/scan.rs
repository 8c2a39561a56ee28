//! Ordered reads of one table: the epoch's overlay merged over the committed database, forwards or backwards.

use std::cell::{Ref, RefCell};

use super::error::StateError;
use super::layout::{PREFIX_LEN, prefix_end};
use super::open_db::OwnedIterator;
use super::overlay::{Change, KeyOrder, Overlay, Place};

/// A range of keys of a table, without table prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key, inclusive.
    pub from: Vec<u8>,
    /// The end, exclusive; `None` is the end of the table.
    pub to: Option<Vec<u8>>,
}

impl KeyRange {
    /// The whole table.
    pub fn all() -> Self {
        Self::default()
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            from: prefix.to_vec(),
            to: prefix_end(prefix),
        }
    }

    /// From `from` (inclusive) to `to` (exclusive, `None`: the end of the table).
    pub fn new(from: impl Into<Vec<u8>>, to: Option<Vec<u8>>) -> Self {
        Self {
            from: from.into(),
            to,
        }
    }

    /// The same range with the table's prefix in front.
    pub(super) fn prefixed(&self, prefix: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let to = match &self.to {
            Some(to) => Some([prefix, to].concat()),
            None => prefix_end(prefix),
        };
        ([prefix, &self.from].concat(), to)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    Nothing,
    Overlay(u32),
    Database,
}

/// An ordered read in progress. Either call [`Self::advance`] and look at [`Self::key`] and [`Self::value`], which
/// copies nothing, or use it as an iterator of owned pairs.
pub struct TableScan<'a> {
    overlay: &'a Overlay,
    order: Ref<'a, KeyOrder>,
    /// Where the scan's iterator goes when it is done, for the next scan.
    pool: &'a RefCell<Option<OwnedIterator>>,
    iterator: Option<OwnedIterator>,
    range: KeyRange,
    is_reverse: bool,
    /// Forwards: the next entry. Backwards: the entry after the next.
    place: Option<Place>,
    current: Current,
}

impl<'a> TableScan<'a> {
    pub(super) fn new(
        overlay: &'a Overlay,
        order: Ref<'a, KeyOrder>,
        pool: &'a RefCell<Option<OwnedIterator>>,
        mut iterator: OwnedIterator,
        prefix: &[u8; PREFIX_LEN],
        range: &KeyRange,
        is_reverse: bool,
    ) -> Self {
        let place = match (is_reverse, &range.to) {
            (false, _) => order.seek(overlay, &range.from),
            (true, Some(to)) => order.seek(overlay, to),
            (true, None) => order.end(),
        };
        let (from, to) = range.prefixed(prefix);
        let raw = iterator.raw();
        match (is_reverse, to) {
            (false, _) => raw.seek(&from),
            (true, Some(to)) => {
                raw.seek_for_prev(&to);
                if raw.key() == Some(to.as_slice()) {
                    raw.prev();
                }
            }
            (true, None) => raw.seek_to_last(),
        }
        let range = range.clone();
        let (iterator, place, current) = (Some(iterator), Some(place), Current::Nothing);
        Self {
            overlay,
            order,
            pool,
            iterator,
            range,
            is_reverse,
            place,
            current,
        }
    }

    /// Moves to the next entry in scan order; false at the end.
    pub fn advance(&mut self) -> Result<bool, StateError> {
        if self.current == Current::Database {
            self.step_database();
        }
        loop {
            self.skip_deleted_ranges();
            let from_overlay = self.overlay_entry();
            let ordering = match (from_overlay, self.database_key()) {
                (None, None) => {
                    self.current = Current::Nothing;
                    self.iterator
                        .as_ref()
                        .map_or(Ok(()), OwnedIterator::status)?;
                    return Ok(false);
                }
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((id, _)), Some(key)) if self.is_reverse => key.cmp(self.overlay.key(id)),
                (Some((id, _)), Some(key)) => self.overlay.key(id).cmp(key),
            };
            let Some((id, place)) = from_overlay.filter(|_| ordering.is_le()) else {
                self.current = Current::Database;
                return Ok(true);
            };
            // The overlay's entry comes first, or replaces the database's.
            if ordering.is_eq() {
                self.step_database();
            }
            self.place = if self.is_reverse {
                Some(place)
            } else {
                Some(self.order.next(place))
            };
            if matches!(self.overlay.change(id), Change::Put(_)) {
                self.current = Current::Overlay(id);
                return Ok(true);
            }
        }
    }

    /// The next entry of the overlay in the range, and its place.
    fn overlay_entry(&self) -> Option<(u32, Place)> {
        let place = self.place?;
        let place = if self.is_reverse {
            self.order.previous(place)?
        } else {
            place
        };
        let id = self.order.get(place)?;
        self.is_in_range(self.overlay.key(id))
            .then_some((id, place))
    }

    fn is_in_range(&self, key: &[u8]) -> bool {
        if self.is_reverse {
            key >= self.range.from.as_slice()
        } else {
            self.range.to.as_ref().is_none_or(|to| key < to.as_slice())
        }
    }

    fn database_key(&self) -> Option<&[u8]> {
        let (key, _) = self.iterator.as_ref()?.item()?;
        let key = &key[PREFIX_LEN..];
        self.is_in_range(key).then_some(key)
    }

    fn step_database(&mut self) {
        if let Some(iterator) = &mut self.iterator {
            if self.is_reverse {
                iterator.raw().prev()
            } else {
                iterator.raw().next()
            }
        }
    }

    /// Moves the database's side out of ranges that this epoch deleted.
    fn skip_deleted_ranges(&mut self) {
        while let Some(key) = self.database_key() {
            let Some((from, to)) = self.overlay.range_deleted_until(key) else {
                return;
            };
            let Some(iterator) = &mut self.iterator else {
                return;
            };
            let Some(prefix) = iterator.item().map(|(key, _)| key[..PREFIX_LEN].to_vec()) else {
                return;
            };
            let raw = iterator.raw();
            if self.is_reverse {
                let from = [&prefix, from.as_slice()].concat();
                raw.seek_for_prev(&from);
                if raw.key() == Some(from.as_slice()) {
                    raw.prev();
                }
            } else {
                match to {
                    Some(to) => raw.seek([&prefix, to.as_slice()].concat()),
                    None => self.iterator = None,
                }
            }
        }
    }

    /// The current key, without table prefix. Empty before the first and after the last entry.
    pub fn key(&self) -> &[u8] {
        match self.current {
            Current::Nothing => &[],
            Current::Overlay(id) => self.overlay.key(id),
            Current::Database => self
                .iterator
                .as_ref()
                .and_then(OwnedIterator::item)
                .map_or(&[], |(key, _)| &key[PREFIX_LEN..]),
        }
    }

    /// The current value. Empty before the first and after the last entry.
    pub fn value(&self) -> &[u8] {
        match self.current {
            Current::Nothing => &[],
            Current::Overlay(id) => match self.overlay.change(id) {
                Change::Put(value) => value,
                Change::Deleted | Change::Untouched => &[],
            },
            Current::Database => self
                .iterator
                .as_ref()
                .and_then(OwnedIterator::item)
                .map_or(&[], |(_, value)| value),
        }
    }
}

impl Iterator for TableScan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(true) => Some(Ok((self.key().to_vec(), self.value().to_vec()))),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl Drop for TableScan<'_> {
    fn drop(&mut self) {
        if let Some(iterator) = self.iterator.take() {
            *self.pool.borrow_mut() = Some(iterator);
        }
    }
}
