//! One write to the log and memtables that never waits for ever.
//!
//! RocksDB makes a writer wait while memtables cannot be flushed. If they cannot because the disk is full, it waits
//! until there is room, however long that takes, and the server would neither say so nor stop cleanly. So writes ask
//! not to be made to wait, and the waiting is done here: as long as it takes if compaction is merely behind, but only
//! for [`FAILING_WAIT`] if flushes or compactions have failed.

use std::time::{Duration, Instant};

use rocksdb::{ErrorKind, WriteBatch, WriteOptions, properties};

use super::error::StateError;
use super::layout::Family;
use super::open_db::OpenDb;

/// How long a write waits for a database whose flushes or compactions have failed.
const FAILING_WAIT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

/// Writes the batch that `make` gives; it may be asked for more than once.
pub(super) fn write(
    db: &OpenDb,
    sync: bool,
    make: impl Fn() -> Result<WriteBatch, StateError>,
) -> Result<(), StateError> {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options.set_no_slowdown(true);
    loop {
        match db.db().write_opt(make()?, &options) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                wait_until_not_stopped(db)?;
                // Writes may still be slowed down, by an amount that RocksDB bounds: accept that.
                options.set_no_slowdown(is_stopped(db)?);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn wait_until_not_stopped(db: &OpenDb) -> Result<(), StateError> {
    let start = Instant::now();
    while is_stopped(db)? {
        if start.elapsed() > FAILING_WAIT && background_errors(db)? > 0 {
            return Err(StateError::DiskFull(
                "memtables cannot be written to it".to_string(),
            ));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn is_stopped(db: &OpenDb) -> Result<bool, StateError> {
    let family = db.family(Family::Meta);
    Ok(db
        .db()
        .property_int_value_cf(family, properties::IS_WRITE_STOPPED)?
        .unwrap_or(0)
        > 0)
}

/// Failed flushes and compactions since the database was opened.
fn background_errors(db: &OpenDb) -> Result<u64, StateError> {
    Family::ALL.into_iter().try_fold(0, |sum, family| {
        let errors = db
            .db()
            .property_int_value_cf(db.family(family), properties::BACKGROUND_ERRORS)?;
        Ok(sum + errors.unwrap_or(0))
    })
}
