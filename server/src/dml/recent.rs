//! The change that a session ran last, as it was bound: clients that write row by row run one prepared statement over and
//! over. And short INSERTs, which are computed where they are: the way to the queries' threads would cost more than they do.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::SetExpr;

use crate::dml::literal_rows::literal_rows;
use crate::dml::target::Verb;
use crate::dml::{Dml, RowChange};
use crate::pg_error::PgError;
use crate::plan_cache::Circumstances;
use crate::session::{Session, SessionStatement};

/// Rows of an INSERT that are still few.
const FEW_ROWS: usize = 16;

/// A statement with parameters, bound under some circumstances.
pub struct RecentChange {
    statement: SessionStatement,
    under: Circumstances,
    dml: Dml,
}

impl Session {
    /// The statement as a change of its tables.
    pub fn bound_change(
        &mut self,
        statement: &SessionStatement,
        values: &[ScalarValue],
    ) -> Result<Dml, PgError> {
        if values.is_empty() {
            return self.dml(&statement.statement);
        }
        let names = self.namespace();
        let under = self.circumstances(&names);
        let is_same = |recent: &&RecentChange| {
            Arc::ptr_eq(&recent.statement, statement) && recent.under == under
        };
        if let Some(recent) = self.recent_change.as_ref().filter(is_same) {
            return Ok(recent.dml.clone());
        }
        let dml = self.dml(&statement.statement)?;
        self.recent_change = Some(RecentChange {
            statement: statement.clone(),
            under,
            dml: dml.clone(),
        });
        Ok(dml)
    }
}

impl Dml {
    /// Whether it is an INSERT of a few values that no query has to compute.
    pub fn is_short(&self, values: &[ScalarValue]) -> bool {
        match self {
            Dml::Rows(change) => change.is_short(values),
            Dml::Truncate(_) => false,
        }
    }
}

impl RowChange {
    fn is_short(&self, values: &[ScalarValue]) -> bool {
        let table = &self.target.table;
        let is_plain = self.verb == Verb::Insert
            && self.on_conflict.is_none()
            && self.returning.is_none()
            && table.checks.is_empty()
            && table
                .columns
                .iter()
                .all(|column| column.generated.is_none());
        let are_few = matches!(
            self.rows.query.body.as_ref(),
            SetExpr::Values(list) if list.rows.len() <= FEW_ROWS
        );
        is_plain && are_few && literal_rows(&self.rows, &self.inserted_types(), values).is_some()
    }
}
