//! Named places where a test can make the process die, to prove that recovery works from there.
//!
//! `RIVERMARK_FAILPOINT=name` aborts at the first pass through `name`, `RIVERMARK_FAILPOINT=name:3` at the third.
//! Without the variable a pass costs one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Before anything of a commit is written.
pub const BEFORE_COMMIT: &str = "before_commit";
/// The write batch of a commit is written, the epoch is not yet published.
pub const AFTER_WAL_WRITE: &str = "after_wal_write";
/// A run of an epoch that does not fit in memory is written to its temporary database.
pub const SPILL_WRITTEN: &str = "spill_written";
/// The files of a large commit are complete, nothing refers to them yet.
pub const INGEST_FILES_WRITTEN: &str = "ingest_files_written";
/// The record that names the files of a large commit is durable.
pub const INGEST_RECORDED: &str = "ingest_recorded";
/// One of the files of a large commit is in the database.
pub const INGEST_FILE_TAKEN: &str = "ingest_file_taken";
/// The files of a large commit are in the database, its record is still there.
pub const INGEST_INGESTED: &str = "ingest_ingested";
/// The record of a large commit is gone, the epoch is not yet published.
pub const INGEST_PUBLISHED: &str = "ingest_published";

struct Armed {
    name: String,
    remaining: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Aborts the process if the environment asks for it at this step and pass.
pub fn hit(name: &str) {
    let armed = ARMED.get_or_init(|| {
        std::env::var("RIVERMARK_FAILPOINT")
            .ok()
            .map(|value| parse(&value))
    });
    let Some(armed) = armed else { return };
    if armed.name == name && armed.remaining.fetch_sub(1, Ordering::SeqCst) == 1 {
        eprintln!("fail point {name} reached: aborting");
        std::process::abort();
    }
}

fn parse(value: &str) -> Armed {
    let (name, count) = match value.split_once(':') {
        Some((name, count)) => (name, count.parse().unwrap_or(1)),
        None => (value, 1),
    };
    Armed {
        name: name.to_string(),
        remaining: AtomicU64::new(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_name_and_count() {
        for (text, name, count) in [("a", "a", 1), ("a:3", "a", 3), ("a:x", "a", 1)] {
            let armed = parse(text);
            assert_eq!(
                (armed.name.as_str(), armed.remaining.load(Ordering::SeqCst)),
                (name, count)
            );
        }
    }
}
