//! What is stored of a row and of a key.
//!
//! ```text
//! left, right:  | join key (KeyCodec) | row (RowCodec) |  ->  | weight | matches, if rows count their own |
//! counts:       | join key |                              ->  | left rows | right rows |
//! ```
//! Numbers are LEB128: seven bits a byte, lowest first, the high bit says that more follow.

use crate::error::{ExecutorError, Result};
use crate::state::StateTable;

/// A stored row's numbers. Absent: all 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub weight: i64,
    /// The weights of the rows that match it; 0 where rows do not count their own.
    pub matches: i64,
}

impl Stored {
    pub fn decode(value: &[u8]) -> Result<Self> {
        let mut rest = value;
        let weight = take_number(&mut rest)?;
        let matches = if rest.is_empty() {
            0
        } else {
            take_number(&mut rest)?
        };
        Ok(Stored { weight, matches })
    }

    pub fn encode(self, with_matches: bool, out: &mut Vec<u8>) {
        push_number(self.weight, out);
        if with_matches {
            push_number(self.matches, out);
        }
    }
}

/// The two numbers of a key; an absent one has none.
pub fn read_counts(value: Option<&[u8]>) -> Result<[i64; 2]> {
    let Some(mut rest) = value else {
        return Ok([0, 0]);
    };
    Ok([take_number(&mut rest)?, take_number(&mut rest)?])
}

/// Stores the two numbers of a key.
pub fn write_counts(table: &mut StateTable, key: &[u8], counts: [i64; 2]) {
    if counts == [0, 0] {
        table.delete(key);
        return;
    }
    let mut value = Vec::with_capacity(4);
    push_number(counts[0], &mut value);
    push_number(counts[1], &mut value);
    table.put(key, &value);
}

/// `number` is never negative.
fn push_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = number as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<i64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            break;
        };
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number as i64);
        }
    }
    Err(ExecutorError::Internal(
        "the state of a join is damaged: a number does not end".to_string(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_golden() {
        for (stored, with_matches, bytes) in [
            ((1, 0), false, &[1u8][..]),
            ((1, 0), true, &[1, 0]),
            ((127, 128), true, &[127, 0x80, 1]),
            ((300, 0), false, &[0xAC, 2]),
        ] {
            let stored = Stored {
                weight: stored.0,
                matches: stored.1,
            };
            let mut out = Vec::new();
            stored.encode(with_matches, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(Stored::decode(bytes).unwrap(), stored);
        }
        let mut largest = Vec::new();
        push_number(i64::MAX, &mut largest);
        assert_eq!(take_number(&mut largest.as_slice()).unwrap(), i64::MAX);
        assert!(Stored::decode(&[0x80]).is_err());
    }
}
