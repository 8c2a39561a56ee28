//! Where bytes live: column families, table prefixes and the keys of the meta family.
//!
//! ```text
//! every family but meta:   | table id     | partition | key of the table           |
//!                          | 4 bytes, BE  | 2 BE, = 0 | KeyCodec, or ordinal 8 BE  |
//! meta:                    | ASCII name, for example "FORMAT", "INGEST" or a name that the engine chose |
//! ```
//! A table's rows are thus one contiguous range of one family, and dropping a table is one range delete between two
//! guards ([`guards`]). Table ids are never reused. The partition is reserved, so that a table may one day be spread over several processes.

pub use rivermark_planner::TableId;

/// Number of the storage format: families, prefixes, key codec, row codec and block header together.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in front of every table key.
pub const PREFIX_LEN: usize = 6;

/// A column family: tables that are written and cleaned in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Catalog, epoch, offsets, watermarks: small, keyed by name.
    Meta,
    /// Operator state without an end.
    State,
    /// Operator state whose key starts with a window end; cleaned by range deletes.
    Windowed,
    /// Rows and blocks of tables and views.
    Views,
    /// Queues: outbox, dead letters, late rows.
    Log,
}

impl Family {
    /// All families, in the order of their numbers.
    pub const ALL: [Family; 5] = [
        Family::Meta,
        Family::State,
        Family::Windowed,
        Family::Views,
        Family::Log,
    ];

    /// The name of the column family on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::State => "state",
            Family::Windowed => "windowed",
            Family::Views => "views",
            Family::Log => "log",
        }
    }

    /// Position in [`Family::ALL`], stored in ingestion records.
    pub(super) fn index(self) -> usize {
        match self {
            Family::Meta => 0,
            Family::State => 1,
            Family::Windowed => 2,
            Family::Views => 3,
            Family::Log => 4,
        }
    }
}

/// Names of the meta family that the store itself uses. The engine must not choose these.
pub mod meta_key {
    /// The storage format, as a decimal number.
    pub const FORMAT: &[u8] = b"FORMAT";
    /// A large commit in progress: files to ingest and the meta entries that belong to it.
    pub const INGEST: &[u8] = b"INGEST";
}

/// The bytes that every key of a table starts with.
pub fn table_prefix(id: TableId) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [a, b, c, d, 0, 0]
}

/// The keys right before and right behind all keys of a table. A dropped table has them instead of its own: until
/// compaction has removed what the range delete hides, an iterator of a neighbouring table that runs over its end would
/// walk through all of it, bounds or not (RocksDB's merging iterator looks at them only at a visible key).
pub(super) fn guards(id: TableId) -> [Vec<u8>; 2] {
    let mut behind = table_prefix(id);
    behind[PREFIX_LEN - 1] = 1;
    [id.0.to_be_bytes().to_vec(), behind.to_vec()]
}

/// The smallest byte string above everything that starts with `prefix`; `None` if there is none (all bytes 0xFF).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_golden_and_ordered() {
        assert_eq!(table_prefix(TableId(0x0102_0304)), [1, 2, 3, 4, 0, 0]);
        assert!(table_prefix(TableId(255)) < table_prefix(TableId(256)));
    }

    #[test]
    fn prefix_end_is_the_next_string() {
        for (prefix, end) in [
            (&[1u8, 2][..], Some(vec![1u8, 3])),
            (&[1, 0xFF][..], Some(vec![2])),
            (&[0xFF, 0xFF][..], None),
            (&[][..], None),
        ] {
            assert_eq!(prefix_end(prefix), end);
        }
    }

    #[test]
    fn family_numbers_match_their_order() {
        for (index, family) in Family::ALL.iter().enumerate() {
            assert_eq!(family.index(), index);
        }
    }
}
