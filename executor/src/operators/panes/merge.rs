//! The states of a window's panes merged by group, so many groups at a time.
//!
//! Panes are read one after the other, each in the order of groups. If there are more groups than are to be in memory, the
//! least of them are merged first, and the panes are read again from where these end.

use std::collections::HashMap;

use arrow::array::UInt32Array;

use crate::aggregates::{Output, Reader};
use crate::error::Result;
use crate::operators::aggregate::group_row::GroupTable;
use crate::operators::aggregate::spec::Spec;
use crate::pieces::most_rows;
use crate::state::{KeyRange, StateTable, prefix_end};

/// Groups that are merged at once, at most twice as many.
const GROUPS: usize = if cfg!(test) { 1 } else { 65_536 };

/// A window that closes.
pub(super) struct MergedWindow<'a> {
    spec: &'a Spec,
    table: &'a StateTable,
    range: KeyRange,
    /// Bytes of a key that are the pane's.
    pane_len: usize,
    /// The panes that have rows, once all were read.
    panes: Vec<Vec<u8>>,
    next: Next,
}

enum Next {
    /// All groups, or the least of them.
    First,
    /// Those from this key on.
    From(Vec<u8>),
    Done,
}

impl<'a> MergedWindow<'a> {
    /// `range`: of the keys of all panes in `table`.
    pub(super) fn new(
        spec: &'a Spec,
        table: &'a StateTable,
        range: KeyRange,
        pane_len: usize,
    ) -> Self {
        MergedWindow {
            spec,
            table,
            range,
            pane_len,
            panes: Vec::new(),
            next: Next::First,
        }
    }

    /// The next groups of the window.
    pub(super) fn next_groups(&mut self) -> Result<Option<Merged>> {
        let mut merged = Merged::new(self.spec)?;
        match std::mem::replace(&mut self.next, Next::Done) {
            Next::First => {
                let mut scan = self.table.scan(&self.range)?;
                while scan.advance()? {
                    let (pane, key) = scan.key().split_at(self.pane_len);
                    if self.panes.last().is_none_or(|last| last != pane) {
                        merged.end_pane()?;
                        self.panes.push(pane.to_vec());
                    }
                    merged.add(key, scan.value());
                }
                merged.end_pane()?;
            }
            Next::From(from) => {
                for pane in &self.panes {
                    let range = KeyRange::new([pane, from.as_slice()].concat(), prefix_end(pane));
                    let mut scan = self.table.scan(&range)?;
                    while scan.advance()? && merged.add(&scan.key()[self.pane_len..], scan.value())
                    {
                    }
                    merged.end_pane()?;
                }
            }
            Next::Done => return Ok(None),
        }
        if let Some(end) = &merged.end {
            self.next = Next::From(end.clone());
        }
        merged.sort();
        Ok((merged.len() > 0).then_some(merged))
    }
}

/// Groups with their merged states.
pub(super) struct Merged {
    numbers: HashMap<Vec<u8>, usize>,
    states: GroupTable,
    /// Where the groups end that are merged now.
    end: Option<Vec<u8>>,
    limit: usize,
    /// The pane's stored states: the group, and where its bytes end.
    pane: Vec<(usize, usize)>,
    bytes: Vec<u8>,
    group_count: usize,
    /// In the end: groups and their keys, in the order of keys.
    order: UInt32Array,
    keys: Vec<Vec<u8>>,
}

impl Merged {
    fn new(spec: &Spec) -> Result<Self> {
        Ok(Merged {
            numbers: HashMap::new(),
            states: GroupTable::empty(spec, 0)?,
            end: None,
            limit: most_rows(GROUPS),
            pane: Vec::new(),
            bytes: Vec::new(),
            group_count: 0,
            order: UInt32Array::from(Vec::<u32>::new()),
            keys: Vec::new(),
        })
    }

    /// Takes a group's state in a pane; whether there can be more groups behind it.
    fn add(&mut self, key: &[u8], state: &[u8]) -> bool {
        if self.end.as_ref().is_some_and(|end| key >= end.as_slice()) {
            return false;
        }
        let group = match self.numbers.get(key) {
            Some(group) => *group,
            None => {
                let group = self.group_count;
                self.group_count += 1;
                self.numbers.insert(key.to_vec(), group);
                group
            }
        };
        self.bytes.extend_from_slice(state);
        self.pane.push((group, self.bytes.len()));
        if self.numbers.len() > 2 * self.limit {
            self.cut();
        }
        true
    }

    /// Leaves all but the least groups for later.
    fn cut(&mut self) {
        let mut keys: Vec<&Vec<u8>> = self.numbers.keys().collect();
        let (_, end, _) = keys.select_nth_unstable(self.limit);
        let end = end.clone();
        self.numbers.retain(|key, _| *key < end);
        self.end = Some(end);
    }

    /// Merges what was taken of a pane.
    fn end_pane(&mut self) -> Result<()> {
        if self.pane.is_empty() {
            return Ok(());
        }
        self.states.resize(self.group_count);
        let mut readers: Vec<Option<Reader<'_>>> = vec![None; self.group_count];
        let mut start = 0;
        for &(group, end) in &self.pane {
            readers[group] = Some(Reader::new(&self.bytes[start..end]));
            start = end;
        }
        self.states.merge_stored(&mut readers)?;
        self.pane.clear();
        self.bytes.clear();
        Ok(())
    }

    fn sort(&mut self) {
        let mut groups: Vec<(Vec<u8>, usize)> = self.numbers.drain().collect();
        groups.sort_unstable();
        self.order = groups.iter().map(|(_, group)| *group as u32).collect();
        self.keys = groups.into_iter().map(|(key, _)| key).collect();
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The groups' keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(Vec::as_slice)
    }

    pub(super) fn key(&self, row: usize) -> &[u8] {
        &self.keys[row]
    }

    /// Which of the outputs' values are those of the groups in order.
    pub(super) fn order(&self) -> &UInt32Array {
        &self.order
    }

    /// Where each group of the outputs is in the order; `None`: it is left for later.
    pub(super) fn places(&self) -> Vec<Option<usize>> {
        let mut places = vec![None; self.group_count];
        for (place, group) in self.order.values().iter().enumerate() {
            places[*group as usize] = Some(place);
        }
        places
    }

    /// The results of each call; groups that are left for later are among them.
    pub(super) fn outputs(&self) -> Result<Vec<Output>> {
        self.states.outputs()
    }
}
