//! INSERT … ON CONFLICT: rows whose primary key is taken are skipped, or change the row that is there.
//!
//! The rows of the statement are taken in order, against the rows of its snapshot and what those before have done, as
//! PostgreSQL does: a row that the statement itself has inserted or updated can not be updated a second time.

use std::collections::HashMap;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take, take_record_batch};
use arrow::datatypes::Int64Type;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, ConflictTarget, Ident, OnConflictAction, SetExpr};
use rivermark_executor::state::Keys;
use rivermark_executor::stored_rows::{Found, StoredRows};
use rivermark_planner::names::fold;
use rivermark_planner::parse::parse_query;

use crate::assignment::{assign, row_schema};
use crate::constraints::bind_rules;
use crate::dml::given_rows::{from_item, give_rows, row_of};
use crate::dml::rows::{batch, checked, gathered, unchecked_schema};
use crate::dml::set_list::SetList;
use crate::dml::target::Target;
use crate::pg_error::PgError;
use crate::planning::StatementPlanner;
use crate::query::collected;
use crate::sqlstate::SqlState;
use crate::wire::time_zone::SessionTimeZone;

/// What happens to a row whose key is taken.
#[derive(Debug, Clone)]
pub enum OnConflict {
    DoNothing,
    DoUpdate(Box<DoUpdate>),
}

/// A query over pairs of the row that is there and the one that was proposed: the pair's number, then the new values
/// of `columns`.
#[derive(Debug, Clone)]
pub struct DoUpdate {
    pub query: ast::Query,
    columns: Vec<usize>,
    pub assigned: Vec<(usize, usize)>,
}

/// The rows that are there, as the query knows them.
const EXISTING: &str = "existing";
/// The rows that were proposed; also the name by which the statement knows them.
const EXCLUDED: &str = "excluded";

impl OnConflict {
    pub fn of(
        clause: &ast::OnConflict,
        with: &Option<ast::With>,
        target: &Target,
        planner: &StatementPlanner,
    ) -> Result<OnConflict, PgError> {
        check_arbiter(clause, target)?;
        match &clause.action {
            OnConflictAction::DoNothing => Ok(OnConflict::DoNothing),
            OnConflictAction::DoUpdate(_) if target.table.append_only => {
                let message = format!(
                    "cannot update table \"{}\": it is append-only",
                    target.name()
                );
                Err(PgError::new(SqlState::WrongObjectType, message)
                    .with_hint("Use ON CONFLICT DO NOTHING."))
            }
            OnConflictAction::DoUpdate(update) => {
                let update = DoUpdate::of(update, with, target, planner)?;
                Ok(OnConflict::DoUpdate(Box::new(update)))
            }
        }
    }
}

/// The rows that conflict are those with the same primary key: nothing else is unique.
fn check_arbiter(clause: &ast::OnConflict, target: &Target) -> Result<(), PgError> {
    match &clause.conflict_target {
        None if clause.action == OnConflictAction::DoNothing => Ok(()),
        None => Err(PgError::new(
            SqlState::SyntaxError,
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
        )
        .with_hint("For example, ON CONFLICT (column_name).")),
        Some(ConflictTarget::Columns(names)) => {
            let key = &target.table.primary_key;
            let mut named = Vec::new();
            for name in names {
                let name = fold(name);
                let column = target.table.columns.iter().position(|c| c.name == name);
                named.push(column.ok_or_else(|| {
                    let message = format!("column \"{name}\" does not exist");
                    PgError::new(SqlState::UndefinedColumn, message)
                })?);
            }
            let is_key = !key.is_empty()
                && key.iter().all(|column| named.contains(column))
                && named.iter().all(|column| key.contains(column));
            match is_key {
                true => Ok(()),
                false => Err(PgError::new(
                    SqlState::InvalidColumnReference,
                    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                )),
            }
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let written = name.0.last().and_then(|part| part.as_ident()).map(fold);
            let is_key = !target.table.primary_key.is_empty()
                && written.as_deref() == Some(&format!("{}_pkey", target.name()));
            match is_key {
                true => Ok(()),
                false => Err(PgError::new(
                    SqlState::UndefinedObject,
                    format!(
                        "constraint \"{}\" for table \"{}\" does not exist",
                        written.unwrap_or_default(),
                        target.name()
                    ),
                )),
            }
        }
    }
}

impl DoUpdate {
    fn of(
        update: &ast::DoUpdate,
        with: &Option<ast::With>,
        target: &Target,
        planner: &StatementPlanner,
    ) -> Result<DoUpdate, PgError> {
        let set = SetList::of(&update.assignments, target, planner)?;
        let alias = target.alias.to_string();
        if fold(&target.alias) == EXCLUDED {
            let message = format!("table name \"{EXCLUDED}\" specified more than once");
            return Err(PgError::new(SqlState::DuplicateAlias, message));
        }
        let text = format!(
            "SELECT {0} FROM {1} JOIN {2} ON {0} = {3}",
            row_of(&alias),
            from_item(EXISTING, &alias),
            from_item(EXCLUDED, EXCLUDED),
            row_of(EXCLUDED)
        );
        let mut query = *parse_query(&text)?;
        query.with.clone_from(with);
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.projection.extend(set.items());
            select.selection.clone_from(&update.selection);
        }
        Ok(DoUpdate {
            query,
            columns: set.columns,
            assigned: set.assigned,
        })
    }

    /// Gives the planner the pairs that the query reads.
    pub fn give(
        planner: &mut StatementPlanner,
        existing: &RecordBatch,
        excluded: &RecordBatch,
    ) -> Result<(), PgError> {
        give_rows(planner, EXISTING, existing)?;
        give_rows(planner, EXCLUDED, excluded)
    }

    /// What becomes of the rows that are there: for each proposed row whose condition holds, the row it makes.
    async fn updates(
        &self,
        planner: &mut StatementPlanner,
        proposed: &Proposed<'_>,
        values: &[ScalarValue],
    ) -> Result<Updates, PgError> {
        let Proposed {
            target,
            rows,
            found,
            zone,
            ..
        } = proposed;
        let schema = row_schema(&target.table.columns);
        let mut of = vec![None; rows.num_rows()];
        let pairs: Vec<(u32, u32)> = found
            .places
            .iter()
            .enumerate()
            .filter_map(|(i, place)| Some((i as u32, (*place)? as u32)))
            .collect();
        if pairs.is_empty() {
            let rows = RecordBatch::new_empty(schema);
            return Ok(Updates { rows, of });
        }
        let existing = UInt32Array::from_iter_values(pairs.iter().map(|(_, place)| *place));
        let existing = take_record_batch(&found.rows, &existing)?;
        let excluded = UInt32Array::from_iter_values(pairs.iter().map(|(i, _)| *i));
        let excluded = take_record_batch(rows, &excluded)?;
        Self::give(planner, &existing, &excluded)?;
        let answer = gathered(&collected(planner, &self.query, values).await?)?;
        let Some((numbers, new)) = answer.columns.split_first() else {
            let rows = RecordBatch::new_empty(schema);
            return Ok(Updates { rows, of });
        };
        for (at, number) in numbers
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .enumerate()
        {
            of[pairs[*number as usize].0 as usize] = Some(at);
        }
        let mut arrays = Vec::with_capacity(existing.num_columns());
        for column in existing.columns() {
            arrays.push(take(column, numbers, None)?);
        }
        for (value, to) in new.iter().zip(&self.columns) {
            arrays[*to] = assign(value, &target.table.columns[*to], zone)?;
        }
        let rules = bind_rules(planner, &target.table)?;
        let unchecked = batch(unchecked_schema(&target.table.columns), arrays, answer.rows)?;
        let rows = checked(&rules, target, unchecked, zone)?;
        Ok(Updates { rows, of })
    }
}

/// Rows that are to be inserted, and the stored ones with their keys.
struct Proposed<'a> {
    target: &'a Target,
    rows: &'a RecordBatch,
    keys: Keys,
    found: Found,
    stored: StoredRows,
    zone: &'a SessionTimeZone,
}

/// Rows that take the place of stored ones.
struct Updates {
    rows: RecordBatch,
    /// By proposed row, the place in `rows`.
    of: Vec<Option<usize>>,
}

/// What an INSERT with ON CONFLICT changes.
pub struct Upserted {
    pub delete: RecordBatch,
    /// In the order of the proposed rows.
    pub insert: RecordBatch,
}

/// Decides what becomes of proposed rows.
pub async fn upsert(
    planner: &mut StatementPlanner,
    target: &Target,
    rows: RecordBatch,
    conflict: &OnConflict,
    values: &[ScalarValue],
    zone: &SessionTimeZone,
) -> Result<Upserted, PgError> {
    let stored = target.stored_rows(planner)?;
    if !stored.is_keyed() {
        // Nothing is unique: nothing conflicts.
        let delete = RecordBatch::new_empty(rows.schema());
        return Ok(Upserted {
            delete,
            insert: rows,
        });
    }
    let keys = stored.keys(&rows)?;
    let found = stored.find(&keys)?;
    let proposed = Proposed {
        target,
        rows: &rows,
        keys,
        found,
        stored,
        zone,
    };
    let updates = match conflict {
        OnConflict::DoNothing => None,
        OnConflict::DoUpdate(update) => Some(update.updates(planner, &proposed, values).await?),
    };
    proposed.resolve(updates.as_ref())
}

/// What a key holds in the middle of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// No row; the statement may have moved one away.
    Nothing,
    /// A row that was there before.
    Stored,
    /// A row that the statement has inserted or updated.
    Own,
}

impl Proposed<'_> {
    fn resolve(&self, updates: Option<&Updates>) -> Result<Upserted, PgError> {
        let nothing = RecordBatch::new_empty(self.rows.schema());
        let updated = updates.map_or(&nothing, |updates| &updates.rows);
        let new_keys = self.stored.keys(updated)?;
        let taken = self.stored.find(&new_keys)?.places;
        let mut changed: HashMap<&[u8], Holds> = HashMap::new();
        let (mut delete, mut insert) = (Vec::new(), Vec::new());
        for i in 0..self.keys.len() {
            let key = self.keys.get(i);
            let before = match self.found.places[i] {
                Some(_) => Holds::Stored,
                None => Holds::Nothing,
            };
            match (changed.get(key).copied().unwrap_or(before), updates) {
                (Holds::Nothing, _) => {
                    insert.push((0, i));
                    changed.insert(key, Holds::Own);
                }
                (Holds::Stored | Holds::Own, None) => {}
                (Holds::Own, Some(_)) => return Err(second_time()),
                (Holds::Stored, Some(updates)) => {
                    let (Some(place), Some(at)) = (self.found.places[i], updates.of[i]) else {
                        continue;
                    };
                    delete.push(place as u32);
                    changed.insert(key, Holds::Nothing);
                    let new_key = new_keys.get(at);
                    let before = match taken[at] {
                        Some(_) => Holds::Stored,
                        None => Holds::Nothing,
                    };
                    if changed.get(new_key).copied().unwrap_or(before) != Holds::Nothing {
                        return Err(self.stored.unique_violation(updated, at).into());
                    }
                    changed.insert(new_key, Holds::Own);
                    insert.push((1, at));
                }
            }
        }
        let insert = match insert.is_empty() {
            true => nothing.clone(),
            false => interleave_record_batch(&[self.rows, updated], &insert)?,
        };
        Ok(Upserted {
            delete: take_record_batch(&self.found.rows, &UInt32Array::from(delete))?,
            insert,
        })
    }
}

fn second_time() -> PgError {
    PgError::new(
        SqlState::CardinalityViolation,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .with_hint(
        "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
    )
}

/// The alias of an INSERT's table.
pub fn insert_alias(insert: &ast::Insert) -> Option<Ident> {
    insert.table_alias.as_ref().map(|alias| alias.alias.clone())
}
