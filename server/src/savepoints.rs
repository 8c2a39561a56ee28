//! SAVEPOINT, RELEASE and ROLLBACK TO: places in a block to which what it has done is taken back.
//!
//! A savepoint shares the block's writes, so setting one costs nothing; a table that is written after it is copied
//! once.

use std::collections::BTreeSet;

use crate::pg_error::PgError;
use crate::session::Session;
use crate::settings::Settings;
use crate::sqlstate::SqlState;
use crate::transaction::{OpenTransaction, Transaction, WrittenTables};

/// A block as it was.
pub struct Savepoint {
    name: String,
    writes: WrittenTables,
    has_upserts: bool,
    settings: Settings,
    cursors: BTreeSet<String>,
    /// How many effects on channels there were.
    channel_effects: usize,
}

impl Session {
    pub fn savepoint(&mut self, name: &str) -> Result<&'static str, PgError> {
        let settings = self.shared.settings.lock().clone();
        let cursors = self.cursors.keys().cloned().collect();
        let channel_effects = self.channel_effects.len();
        let open = self.block("SAVEPOINT")?;
        let savepoint = Savepoint {
            name: name.to_string(),
            writes: open.writes.clone(),
            has_upserts: open.has_upserts,
            settings,
            cursors,
            channel_effects,
        };
        open.savepoints.push(savepoint);
        Ok("SAVEPOINT")
    }

    /// Forgets a savepoint and those set after it; what was done since stays.
    pub fn release(&mut self, name: &str) -> Result<&'static str, PgError> {
        let open = self.block("RELEASE SAVEPOINT")?;
        let at = place(open, name)?;
        open.savepoints.truncate(at);
        Ok("RELEASE")
    }

    /// Takes back what was done since a savepoint, which stays; a failed block goes on.
    pub fn rollback_to(&mut self, name: &str) -> Result<&'static str, PgError> {
        let mut open = match std::mem::take(&mut self.transaction) {
            Transaction::Block(open) | Transaction::Failed(open) => open,
            other @ (Transaction::None | Transaction::Implicit(_)) => {
                self.transaction = other;
                return Err(outside_of_block("ROLLBACK TO SAVEPOINT"));
            }
        };
        let at = match place(&open, name) {
            Ok(at) => at,
            Err(error) => {
                self.transaction = Transaction::Failed(open);
                return Err(error);
            }
        };
        open.savepoints.truncate(at + 1);
        let savepoint = &open.savepoints[at];
        open.writes = savepoint.writes.clone();
        open.has_upserts = savepoint.has_upserts;
        *self.shared.settings.lock() = savepoint.settings.clone();
        self.cursors
            .retain(|name, _| savepoint.cursors.contains(name));
        self.channel_effects.truncate(savepoint.channel_effects);
        self.transaction = Transaction::Block(open);
        Ok("ROLLBACK")
    }

    fn block(&mut self, statement: &str) -> Result<&mut OpenTransaction, PgError> {
        match &mut self.transaction {
            Transaction::Block(open) => Ok(open),
            Transaction::None | Transaction::Implicit(_) | Transaction::Failed(_) => {
                Err(outside_of_block(statement))
            }
        }
    }
}

fn outside_of_block(statement: &str) -> PgError {
    let message = format!("{statement} can only be used in transaction blocks");
    PgError::new(SqlState::NoActiveSqlTransaction, message)
}

/// Where the newest savepoint of that name is.
fn place(open: &OpenTransaction, name: &str) -> Result<usize, PgError> {
    let at = open.savepoints.iter().rposition(|s| s.name == name);
    at.ok_or_else(|| {
        let message = format!("savepoint \"{name}\" does not exist");
        PgError::new(SqlState::InvalidSavepoint, message)
    })
}
