//! The query behind a statement: which rows it takes away and which values it brings.

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use datafusion::sql::sqlparser::ast;

use crate::dml::target::Target;
use crate::parameters::Found;

/// A statement as a query. An INSERT's gives the new values of `columns`; an UPDATE's gives the table's columns
/// (the old rows), then the new values of `columns`; a DELETE's the old rows. Behind them come the columns of `joined`.
#[derive(Debug, Clone)]
pub struct RowQuery {
    pub query: ast::Query,
    /// Positions in the table.
    pub columns: Vec<usize>,
    /// Whether an INSERT names its columns.
    pub are_listed: bool,
    /// Whether only the rows say how many columns an INSERT fills (`SELECT *`).
    pub is_width_open: bool,
    /// Parameters that are assigned to a column as they are: number and position in the table.
    pub assigned: Vec<(usize, usize)>,
    /// Whether an UPDATE or DELETE depends on nothing that is in its table: it takes no right to read it.
    pub is_blind: bool,
    /// Whether a row of the table may come several times, with different rows of other relations.
    pub is_join: bool,
    /// What RETURNING may read besides the table.
    pub joined: Vec<Joined>,
}

/// A relation that the table is joined with.
#[derive(Debug, Clone)]
pub struct Joined {
    pub alias: ast::Ident,
    pub columns: Vec<String>,
}

/// Rows of the joined relations, side by side with those of the table.
pub type JoinedColumns = (Vec<FieldRef>, Vec<ArrayRef>);

impl RowQuery {
    /// Types of parameters that columns say.
    pub fn parameter_types(&self, target: &Target) -> Found {
        assigned_types(&self.assigned, target)
    }

    /// How many of the query's columns are there for RETURNING.
    pub fn joined_width(&self) -> usize {
        self.joined.iter().map(|joined| joined.columns.len()).sum()
    }
}

/// Types of parameters that are assigned to columns.
pub fn assigned_types(assigned: &[(usize, usize)], target: &Target) -> Found {
    let field = |column: usize| target.table.columns[column].data_type.field("", true);
    assigned
        .iter()
        .map(|(number, column)| (*number, field(*column)))
        .collect()
}
