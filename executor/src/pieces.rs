//! How many rows are worked on together: by bytes and cores in production, tiny in tests, since an answer must not
//! depend on it.
//!
//! `RIVERMARK_PIECE_ROWS=n` makes every such bound of this process `n` rows at most: a test of the whole server then
//! sees with few rows what production sees with many (an operator that is given an epoch in several deltas, a join
//! that stops in the middle of a key, work that is shared among threads, a view that is built over several epochs).

use std::sync::OnceLock;

use crate::delta::Delta;

static BOUND: OnceLock<Option<usize>> = OnceLock::new();

fn bound() -> Option<usize> {
    *BOUND.get_or_init(|| {
        let rows = std::env::var("RIVERMARK_PIECE_ROWS").ok()?;
        rows.parse().ok().filter(|rows| *rows > 0)
    })
}

/// `usual` rows, or fewer if the environment says so.
pub fn most_rows(usual: usize) -> usize {
    bound().map_or(usual, |rows| rows.min(usual))
}

/// Hands a delta on in pieces: as it is, unless the environment bounds them.
pub fn split(delta: Delta) -> impl Iterator<Item = Delta> {
    let piece = bound().unwrap_or(usize::MAX);
    let count = delta.num_rows();
    let mut begin = 0;
    std::iter::from_fn(move || {
        let rows = piece.min(count - begin);
        (rows > 0).then(|| {
            begin += rows;
            delta.slice(begin - rows, rows)
        })
    })
}
