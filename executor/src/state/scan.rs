//! Ordered reads of one table: the epoch's overlay over what it spilled, over the committed database, forwards or
//! backwards.

use std::cell::{Ref, RefCell};
use std::ops::Deref;

use super::error::StateError;
use super::key_order::{KeyOrder, Place};
use super::layout::{PREFIX_LEN, prefix_end};
use super::open_db::OwnedIterator;
use super::overlay::{Change, Overlay};
use super::spill::spilled_value;

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
    Spilled,
    Database,
}

/// Iterators of an epoch for its next scan: neither the database nor what was spilled changes between two scans, or
/// the pool is emptied.
#[derive(Default)]
pub(super) struct IteratorPool {
    pub(super) database: RefCell<Option<OwnedIterator>>,
    pub(super) spilled: RefCell<Option<OwnedIterator>>,
}

/// The order of the overlay's entries, which a table makes when it is first needed.
pub(super) enum OrderRef<'a> {
    Shared(Ref<'a, KeyOrder>),
    Plain(&'a KeyOrder),
}

impl Deref for OrderRef<'_> {
    type Target = KeyOrder;

    fn deref(&self) -> &KeyOrder {
        match self {
            OrderRef::Shared(order) => order,
            OrderRef::Plain(order) => order,
        }
    }
}

/// What a scan reads besides the overlay.
pub(super) struct Layers {
    pub(super) database: OwnedIterator,
    pub(super) spilled: Option<OwnedIterator>,
}

/// An ordered read in progress. Either call [`Self::advance`] and look at [`Self::key`] and [`Self::value`], which
/// copies nothing, or use it as an iterator of owned pairs.
pub struct TableScan<'a> {
    overlay: &'a Overlay,
    order: OrderRef<'a>,
    /// Where the scan's iterators go when it is done, for the next scan.
    pool: &'a IteratorPool,
    database: Option<OwnedIterator>,
    /// Changes of this epoch that are no longer in the overlay.
    spilled: Option<OwnedIterator>,
    range: KeyRange,
    is_reverse: bool,
    /// Forwards: the next entry. Backwards: the entry after the next.
    place: Option<Place>,
    current: Current,
}

impl<'a> TableScan<'a> {
    pub(super) fn new(
        overlay: &'a Overlay,
        order: OrderRef<'a>,
        pool: &'a IteratorPool,
        layers: Layers,
        prefix: &[u8; PREFIX_LEN],
        range: &KeyRange,
        is_reverse: bool,
    ) -> Self {
        let place = match (is_reverse, &range.to) {
            (false, _) => order.seek(overlay, &range.from),
            (true, Some(to)) => order.seek(overlay, to),
            (true, None) => order.end(),
        };
        let Layers {
            mut database,
            mut spilled,
        } = layers;
        let (from, to) = range.prefixed(prefix);
        for iterator in spilled.iter_mut().chain([&mut database]) {
            seek(iterator, &from, to.as_deref(), is_reverse);
        }
        Self {
            overlay,
            order,
            pool,
            database: Some(database),
            spilled,
            range: range.clone(),
            is_reverse,
            place: Some(place),
            current: Current::Nothing,
        }
    }

    /// Moves to the next entry in scan order; false at the end.
    pub fn advance(&mut self) -> Result<bool, StateError> {
        match self.current {
            Current::Database => step(&mut self.database, self.is_reverse),
            Current::Spilled => step(&mut self.spilled, self.is_reverse),
            Current::Nothing | Current::Overlay(_) => {}
        }
        loop {
            self.skip_deleted_ranges();
            let from_overlay = self.overlay_entry();
            let keys = [
                from_overlay.map(|(id, _)| self.overlay.key(id)),
                self.key_in(&self.spilled),
                self.key_in(&self.database),
            ];
            let next = match self.is_reverse {
                false => keys.into_iter().flatten().min(),
                true => keys.into_iter().flatten().max(),
            };
            let Some(next) = next else {
                self.current = Current::Nothing;
                for layer in [&self.spilled, &self.database].into_iter().flatten() {
                    layer.status()?;
                }
                return Ok(false);
            };
            // A change replaces what lies below it: overlay, spilled, database.
            let [in_overlay, in_spilled, in_database] = keys.map(|key| key == Some(next));
            if in_database && (in_overlay || in_spilled) {
                step(&mut self.database, self.is_reverse);
            }
            if in_spilled && in_overlay {
                step(&mut self.spilled, self.is_reverse);
            }
            if let Some((id, place)) = from_overlay.filter(|_| in_overlay) {
                self.place = if self.is_reverse {
                    Some(place)
                } else {
                    Some(self.order.next(place))
                };
                if matches!(self.overlay.change(id), Change::Put(_)) {
                    self.current = Current::Overlay(id);
                    return Ok(true);
                }
            } else if in_spilled {
                if spilled_entry(&self.spilled).is_some() {
                    self.current = Current::Spilled;
                    return Ok(true);
                }
                step(&mut self.spilled, self.is_reverse);
            } else {
                self.current = Current::Database;
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

    /// The key a layer stands on, if it is in the range.
    fn key_in<'s>(&'s self, layer: &'s Option<OwnedIterator>) -> Option<&'s [u8]> {
        let (key, _) = layer.as_ref()?.item()?;
        let key = &key[PREFIX_LEN..];
        self.is_in_range(key).then_some(key)
    }

    /// Moves the database's side out of ranges that this epoch deleted.
    fn skip_deleted_ranges(&mut self) {
        while let Some(key) = self.key_in(&self.database) {
            let Some((from, to)) = self.overlay.range_deleted_until(key) else {
                return;
            };
            let Some(iterator) = &mut self.database else {
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
                    None => self.database = None,
                }
            }
        }
    }

    /// The current key, without table prefix. Empty before the first and after the last entry.
    pub fn key(&self) -> &[u8] {
        match self.current {
            Current::Nothing => &[],
            Current::Overlay(id) => self.overlay.key(id),
            Current::Spilled => key_of(&self.spilled),
            Current::Database => key_of(&self.database),
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
            Current::Spilled => spilled_entry(&self.spilled).unwrap_or_default(),
            Current::Database => self
                .database
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
        if let Some(iterator) = self.database.take() {
            *self.pool.database.borrow_mut() = Some(iterator);
        }
        if let Some(iterator) = self.spilled.take() {
            *self.pool.spilled.borrow_mut() = Some(iterator);
        }
    }
}

fn seek(iterator: &mut OwnedIterator, from: &[u8], to: Option<&[u8]>, is_reverse: bool) {
    let raw = iterator.raw();
    match (is_reverse, to) {
        (false, _) => raw.seek(from),
        (true, Some(to)) => {
            raw.seek_for_prev(to);
            if raw.key() == Some(to) {
                raw.prev();
            }
        }
        (true, None) => raw.seek_to_last(),
    }
}

fn step(layer: &mut Option<OwnedIterator>, is_reverse: bool) {
    if let Some(iterator) = layer {
        if is_reverse {
            iterator.raw().prev()
        } else {
            iterator.raw().next()
        }
    }
}

fn key_of(layer: &Option<OwnedIterator>) -> &[u8] {
    let item = layer.as_ref().and_then(OwnedIterator::item);
    item.map_or(&[], |(key, _)| &key[PREFIX_LEN..])
}

/// The value of the spilled change; `None`: its key is deleted.
fn spilled_entry(layer: &Option<OwnedIterator>) -> Option<&[u8]> {
    spilled_value(layer.as_ref()?.item()?.1)
}
