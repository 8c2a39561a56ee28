//! COPY … FROM STDIN: input in pieces becomes rows that are checked as they come and stored in one step at the end.

use bytes::Bytes;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use rivermark_planner::bind::bind_scalar;
use rivermark_planner::catalog::ColumnDef;
use rivermark_planner::statement::{self, CopyFormat};

use crate::assignment::row_schema;
use crate::constraints::bind_rules;
use crate::copy_in::input::Input;
use crate::copy_in::load::Load;
use crate::dml::target::{Target, Verb};
use crate::pg_error::PgError;
use crate::session::Session;
use crate::session_api::Execution;
use crate::sqlstate::SqlState;

mod binary;
mod fields;
mod input;
mod lines;
mod load;

/// Input is read when so much has come.
const CHUNK_BYTES: usize = 256 * 1024;
/// A line or value that takes more than this is no data.
const MAX_LINE_BYTES: usize = 256 * 1024 * 1024;

/// A COPY that is under way.
pub struct CopyIn {
    input: Input,
    load: Load,
    held: MemoryReservation,
}

impl CopyIn {
    /// Takes input in; true if it is time to read it.
    fn push(&mut self, data: &[u8]) -> bool {
        self.input.push(data);
        self.input.waiting() >= CHUNK_BYTES
    }

    /// Reads what is complete of the input, with `is_last` all of it.
    fn read(&mut self, is_last: bool) -> Result<(), PgError> {
        while let Some(batch) = self.input.next_batch(is_last)? {
            self.load.add(batch)?;
            self.held
                .try_resize(self.load.bytes() + self.input.waiting())?;
        }
        if self.input.waiting() > MAX_LINE_BYTES {
            let message = format!("a line of COPY takes more than {MAX_LINE_BYTES} bytes");
            return Err(PgError::new(SqlState::ProgramLimitExceeded, message));
        }
        Ok(self
            .held
            .try_resize(self.load.bytes() + self.input.waiting())?)
    }
}

/// The columns that a COPY fills.
fn copied_columns(names: &[String], target: &Target) -> Result<Vec<usize>, PgError> {
    let columns = &target.table.columns;
    if names.is_empty() {
        let is_plain = |i: &usize| columns[*i].generated.is_none();
        return Ok((0..columns.len()).filter(is_plain).collect());
    }
    let mut copied = Vec::new();
    for name in names {
        let column = target.column(name)?;
        if columns[column].generated.is_some() {
            let message = format!("column \"{name}\" is a generated column");
            return Err(PgError::new(SqlState::InvalidColumnReference, message)
                .with_detail("Generated columns cannot be used in COPY."));
        }
        if copied.contains(&column) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(PgError::new(SqlState::DuplicateColumn, message));
        }
        copied.push(column);
    }
    Ok(copied)
}

/// For each copied column, whether it is among `names`.
fn flags(
    names: &[String],
    option: &str,
    copied: &[usize],
    target: &Target,
) -> Result<Vec<bool>, PgError> {
    let mut flags = vec![false; copied.len()];
    for name in names {
        let column = target.column(name)?;
        let Some(at) = copied.iter().position(|c| *c == column) else {
            let message = format!("{option} column \"{name}\" not referenced by COPY");
            return Err(PgError::new(SqlState::InvalidColumnReference, message));
        };
        flags[at] = true;
    }
    Ok(flags)
}

impl Session {
    /// Begins a COPY; its data comes through [`Session::read_copy`].
    pub fn copy_in(&mut self, copy: &statement::CopyIn) -> Result<Execution, PgError> {
        let target = self.target(&copy.name, None, Verb::Copy)?;
        let columns = copied_columns(&copy.columns, &target)?;
        let options = &copy.options;
        let not_null = flags(&options.force_not_null, "FORCE_NOT_NULL", &columns, &target)?;
        let null = flags(&options.force_null, "FORCE_NULL", &columns, &target)?;
        let planner = self.planner("");
        let zone = self.shared.settings.lock().time_zone();
        let row = row_schema(&target.table.columns);
        let filter = match &copy.filter {
            Some(text) => Some(bind_scalar(text, &row, &planner.state, None)?),
            None => None,
        };
        let rules = bind_rules(&planner, &target.table)?;
        let defs: Vec<ColumnDef> = columns
            .iter()
            .map(|c| target.table.columns[*c].clone())
            .collect();
        let width = columns.len();
        let pool = &self.server.queries.env().memory_pool;
        self.copy = Some(CopyIn {
            input: Input::new(options, target.name(), defs, not_null, null, zone.clone()),
            load: Load::new(target, columns, rules, filter, zone),
            held: MemoryConsumer::new("rows of a COPY").register(pool),
        });
        Ok(Execution::CopyIn {
            columns: width,
            is_binary: options.format == CopyFormat::Binary,
        })
    }

    fn running_copy(&mut self) -> Result<CopyIn, PgError> {
        let copy = self.copy.take();
        copy.ok_or_else(|| PgError::new(SqlState::InternalError, "no COPY is under way"))
    }

    async fn read_input(&mut self, mut copy: CopyIn, is_last: bool) -> Result<CopyIn, PgError> {
        let read = async move {
            copy.read(is_last)?;
            Ok(copy)
        };
        self.server.queries.clone().run(read).await
    }

    /// Takes a piece of the data in.
    pub async fn read_copy(&mut self, data: Bytes) -> Result<(), PgError> {
        let mut copy = self.running_copy()?;
        if copy.push(&data) {
            copy = self.read_input(copy, false).await?;
        }
        self.copy = Some(copy);
        Ok(())
    }

    /// The client has given up; what it has sent before may be wrong too.
    pub async fn give_copy_up(&mut self, reason: &str) -> Result<(), PgError> {
        let copy = self.running_copy()?;
        let copy = self.read_input(copy, false).await?;
        let message = format!("COPY from stdin failed: {reason}");
        Err(copy
            .input
            .at_next_line(PgError::new(SqlState::QueryCanceled, message)))
    }

    /// All data has come: stores the rows.
    pub async fn end_copy(&mut self) -> Result<String, PgError> {
        let copy = self.running_copy()?;
        let CopyIn { load, held, .. } = self.read_input(copy, true).await?;
        let rows = load.rows();
        let bytes = load.bytes();
        // Once more for the whole.
        held.try_grow(bytes)?;
        if let Some(write) = load.write()? {
            let before = load.target.stored_rows(&self.planner(""))?;
            let stored = self.store_copied(write).await;
            stored.map_err(|error| match error.state {
                SqlState::UniqueViolation => load.at_duplicate(&before, error),
                _ => error,
            })?;
        }
        Ok(format!("COPY {rows}"))
    }
}
