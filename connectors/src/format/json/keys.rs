//! From an object's key to the field that takes it.
//!
//! Messages of one topic nearly always have the same keys in the same order: the key at each position is first
//! compared with the one that was there in the message before, and only then looked up. Of the outermost object even
//! the bytes are compared, separators and spaces included, so that they need not be parsed again.

use hashbrown::HashMap;

/// Positions that are remembered; keys beyond are looked up.
const MAX_POSITIONS: usize = 256;

/// Finds the field of a key.
#[derive(Debug)]
pub struct KeyGuess {
    fields: HashMap<String, usize>,
    /// The last key seen at each position and its field.
    recent: Vec<(String, Option<usize>)>,
}

impl KeyGuess {
    /// Field `i` takes the `i`-th name.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        KeyGuess {
            fields: names.enumerate().map(|(i, n)| (n.to_string(), i)).collect(),
            recent: Vec::new(),
        }
    }

    /// The field that takes `key`, which is the object's key number `position`; `None`: nobody wants it.
    #[inline]
    pub fn find(&mut self, position: usize, key: &str) -> Option<usize> {
        match self.recent.get(position) {
            Some((recent, field)) if recent == key => *field,
            _ => self.find_slowly(position, key),
        }
    }

    fn find_slowly(&mut self, position: usize, key: &str) -> Option<usize> {
        let field = self.fields.get(key).copied();
        if let Some((recent, recent_field)) = self.recent.get_mut(position) {
            recent.clear();
            recent.push_str(key);
            *recent_field = field;
        } else if position == self.recent.len() && position < MAX_POSITIONS {
            self.recent.push((key.to_string(), field));
        }
        field
    }
}

/// The bytes before each value of an object (`, "key": `), as they were in the message before.
#[derive(Debug, Default)]
pub struct LeadIns {
    recent: Vec<LeadIn>,
}

#[derive(Debug)]
struct LeadIn {
    bytes: Vec<u8>,
    field: Option<usize>,
}

/// Longer ones are parsed each time.
const MAX_LEAD_IN: usize = 256;

impl LeadIns {
    /// If `rest` begins with what was before value number `position`: its length, and the field of its key.
    #[inline]
    pub fn guess(&self, position: usize, rest: &[u8]) -> Option<(usize, Option<usize>)> {
        let lead_in = self.recent.get(position)?;
        rest.starts_with(&lead_in.bytes)
            .then_some((lead_in.bytes.len(), lead_in.field))
    }

    /// Remembers `bytes`, which were parsed, for the next message.
    pub fn learn(&mut self, position: usize, bytes: &[u8], field: Option<usize>) {
        if bytes.len() > MAX_LEAD_IN {
            return;
        }
        if let Some(lead_in) = self.recent.get_mut(position) {
            lead_in.bytes.clear();
            lead_in.bytes.extend_from_slice(bytes);
            lead_in.field = field;
        } else if position == self.recent.len() && position < MAX_POSITIONS {
            self.recent.push(LeadIn {
                bytes: bytes.to_vec(),
                field,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter() {
        let mut keys = KeyGuess::new(["a", "b"].into_iter());
        for order in [["a", "x", "b"], ["a", "x", "b"], ["b", "a", "x"]] {
            let found: Vec<_> = order
                .iter()
                .enumerate()
                .map(|(i, k)| keys.find(i, k))
                .collect();
            let expected: Vec<_> = order
                .iter()
                .map(|k| ["a", "b"].iter().position(|name| name == k))
                .collect();
            assert_eq!(found, expected);
        }
    }
}
