//! Splitting a range of keys into parts of about the same size, for parallel reading.
//!
//! Between the first and the last key of the range the eight bytes behind their common beginning are taken for a
//! number; for each part its end is found by bisection over RocksDB's estimates of sizes on disk. Any split is right;
//! a skewed one is only slower.

use super::error::StateError;
use super::layout::{Family, TableId};
use super::scan::KeyRange;
use super::snapshot::StoreSnapshot;

/// Steps of a bisection: 2^-16 of the range is exact enough.
const STEPS: u32 = 16;

/// At most `parts` ranges that make up `range`, each of at least about `least_bytes` on disk.
pub fn split(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
    range: &KeyRange,
    parts: usize,
    least_bytes: u64,
) -> Result<Vec<KeyRange>, StateError> {
    let whole = || Ok(vec![range.clone()]);
    if parts < 2 {
        return whole();
    }
    let bytes = snapshot.disk_bytes(family, id, range)?;
    let parts = (bytes / least_bytes.max(1)).min(parts as u64);
    if parts < 2 {
        return whole();
    }
    let Some(keys) = KeySpan::of(snapshot, (family, id), range)? else {
        return whole();
    };
    let mut ends: Vec<Vec<u8>> = Vec::new();
    for part in 1..parts {
        let wanted = bytes / parts * part;
        let (mut from, mut to) = (keys.low, keys.high);
        for _ in 0..STEPS {
            let middle = from + (to - from) / 2;
            let before = KeyRange::new(range.from.clone(), Some(keys.at(middle)));
            if snapshot.disk_bytes(family, id, &before)? < wanted {
                from = middle;
            } else {
                to = middle;
            }
        }
        ends.push(keys.at(to));
    }
    Ok(cut(range, ends))
}

/// At most `parts` ranges that make up `range`, as if keys were spread evenly between the first and the last: for
/// entries of whose sizes nothing is known.
pub fn split_evenly(
    snapshot: &StoreSnapshot,
    place: (Family, TableId),
    range: &KeyRange,
    parts: usize,
) -> Result<Vec<KeyRange>, StateError> {
    let Some(keys) = KeySpan::of(snapshot, place, range)? else {
        return Ok(vec![range.clone()]);
    };
    let parts = parts as u64;
    let step = (keys.high - keys.low) / parts.max(1);
    let ends = (1..parts).map(|part| keys.at(keys.low + step * part));
    Ok(cut(range, ends.collect()))
}

/// Where the keys of a range lie.
struct KeySpan {
    common: Vec<u8>,
    /// What follows in the first and the last key.
    low: u64,
    high: u64,
}

impl KeySpan {
    /// `None`: the range is empty.
    fn of(
        snapshot: &StoreSnapshot,
        (family, id): (Family, TableId),
        range: &KeyRange,
    ) -> Result<Option<Self>, StateError> {
        let Some(first) = snapshot.scan(family, id, range).next_chunk(1, 1)? else {
            return Ok(None);
        };
        let Some((last, _)) = snapshot.last(family, id, range)? else {
            return Ok(None);
        };
        let first = first.keys.get(0);
        let common = first.iter().zip(&last).take_while(|(a, b)| a == b).count();
        Ok(Some(KeySpan {
            common: first[..common].to_vec(),
            low: number(&first[common..]),
            high: number(&last[common..]),
        }))
    }

    fn at(&self, n: u64) -> Vec<u8> {
        [&self.common[..], &n.to_be_bytes()[..]].concat()
    }
}

/// The first eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

/// The range cut at those of `ends` that lie within, which are in order.
fn cut(range: &KeyRange, ends: Vec<Vec<u8>>) -> Vec<KeyRange> {
    let mut parts = Vec::with_capacity(ends.len() + 1);
    let mut from = range.from.clone();
    for end in ends {
        let is_within = end > from && range.to.as_ref().is_none_or(|to| end < *to);
        if is_within {
            parts.push(KeyRange::new(
                std::mem::replace(&mut from, end.clone()),
                Some(end),
            ));
        }
    }
    parts.push(KeyRange::new(from, range.to.clone()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_range_whatever_the_cuts() {
        let range = KeyRange::new([2], Some(vec![9]));
        let ends = vec![
            vec![1],
            vec![2],
            vec![4],
            vec![4],
            vec![3],
            vec![7, 1],
            vec![9],
            vec![10],
        ];
        let parts = cut(&range, ends);
        let expected = [
            KeyRange::new([2], Some(vec![4])),
            KeyRange::new([4], Some(vec![7, 1])),
            KeyRange::new([7, 1], Some(vec![9])),
        ];
        assert_eq!(parts, expected);
    }
}
