//! Many byte strings in one allocation: [`Keys`], [`Rows`] and the [`Values`] that a batched read returns.

use std::ops::Range;

/// Byte strings back to back in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    data: Vec<u8>,
    /// End of each string; the first starts at 0.
    ends: Vec<usize>,
}

/// Encoded rows; the same arena as [`Keys`].
pub type Rows = Keys;

impl Keys {
    /// No strings yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No strings yet, with room for `count` strings of `bytes` bytes together.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self {
            data: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(count),
        }
    }

    /// Zeroed strings of the given lengths, to be filled in place.
    pub(super) fn with_lengths(lengths: &[usize]) -> Self {
        let mut end = 0;
        let ends: Vec<usize> = lengths
            .iter()
            .map(|length| {
                end += length;
                end
            })
            .collect();
        Self {
            data: vec![0; end],
            ends,
        }
    }

    /// Start of every string, for writers that fill column by column.
    pub(super) fn starts(&self) -> Vec<usize> {
        std::iter::once(0)
            .chain(self.ends.iter().copied())
            .take(self.ends.len())
            .collect()
    }

    /// The whole buffer.
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Appends a copy of `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
    }

    /// Appends the string that `write` appends to the buffer.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.data);
        self.ends.push(self.data.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all strings together.
    pub fn data_len(&self) -> usize {
        self.data.len()
    }

    /// The whole buffer, when the strings' places are known elsewhere.
    pub(super) fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Copies of the strings at `order`.
    pub fn gather(&self, order: &[u32]) -> Self {
        let mut gathered = Keys::with_capacity(order.len(), self.data.len());
        for &at in order {
            gathered.push(self.get(at as usize));
        }
        gathered
    }

    pub(super) fn span(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// The string at `index`, which must be below `len`.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.data[self.span(index)]
    }

    /// The string at `index`, to be changed in place.
    pub fn get_mut(&mut self, index: usize) -> &mut [u8] {
        let span = self.span(index);
        &mut self.data[span]
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Forgets all strings, keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }
}

impl<'a> FromIterator<&'a [u8]> for Keys {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(items: I) -> Self {
        let mut keys = Keys::new();
        for item in items {
            keys.push(item);
        }
        keys
    }
}

/// The answer of a batched read: for every key asked, its value or nothing.
#[derive(Debug, Clone, Default)]
pub struct Values {
    data: Vec<u8>,
    spans: Vec<Option<Range<usize>>>,
}

impl Values {
    /// `count` values, all absent.
    pub(super) fn absent(count: usize) -> Self {
        Self {
            data: Vec::new(),
            spans: vec![None; count],
        }
    }

    pub(super) fn set(&mut self, index: usize, value: &[u8]) {
        let start = self.data.len();
        self.data.extend_from_slice(value);
        self.spans[index] = Some(start..self.data.len());
    }

    /// Makes `index` answer what `other` answers, without copying bytes.
    pub(super) fn share(&mut self, index: usize, other: usize) {
        self.spans[index] = self.spans[other].clone();
    }

    /// Number of keys that were asked for.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The value of the key at `index`, or `None` if the table has no such key.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.spans[index].clone().map(|span| &self.data[span])
    }

    /// All answers, in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|index| self.get(index))
    }
}
