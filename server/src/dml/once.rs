//! A row of the table that meets several rows of other relations is changed once, with the first of them.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use rivermark_executor::stored_rows::StoredRows;

use crate::pg_error::PgError;

/// Of rows as a join gave them, the places to keep: each stored row once. Without a primary key equal rows can not be
/// told apart, and the first place is kept as often as the row is stored.
pub fn once_each(stored: &StoredRows, rows: &RecordBatch) -> Result<Vec<u32>, PgError> {
    let keys = stored.keys(rows)?;
    let mut met: HashMap<&[u8], usize> = HashMap::new();
    // The first place of each row, and how often it came.
    let mut distinct: Vec<(u32, usize)> = Vec::new();
    for i in 0..keys.len() {
        let at = *met.entry(keys.get(i)).or_insert(distinct.len());
        match distinct.get_mut(at) {
            Some((_, times)) => *times += 1,
            None => distinct.push((i as u32, 1)),
        }
    }
    if stored.is_keyed() {
        return Ok(distinct.into_iter().map(|(place, _)| place).collect());
    }
    let firsts = distinct.iter().map(|(place, _)| keys.get(*place as usize));
    let copies = stored.copies(&firsts.collect())?;
    let mut places = Vec::new();
    for ((place, times), copies) in distinct.into_iter().zip(copies) {
        let copies = usize::try_from(copies).unwrap_or(0).min(times);
        places.extend(std::iter::repeat_n(place, copies));
    }
    Ok(places)
}
