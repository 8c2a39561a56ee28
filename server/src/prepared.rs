//! PREPARE and EXECUTE.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use rivermark_planner::catalog::ColumnDef;
use rivermark_planner::parse::parse_query;
use rivermark_planner::statement::{ParsedStatement, Statement};
use rivermark_planner::type_planner::sql_type;
use rivermark_planner::types::SqlType;

use crate::assignment::assign;
use crate::parameters::oids;
use crate::pg_error::PgError;
use crate::query::collect;
use crate::session::{Prepared, Session};
use crate::session_api::Execution;
use crate::sqlstate::SqlState;

impl Session {
    /// The prepared statement of that name.
    pub fn find_prepared(&self, name: &str) -> Result<Prepared, PgError> {
        self.prepared.get(name).cloned().ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            PgError::new(SqlState::InvalidSqlStatementName, message)
        })
    }

    pub async fn prepare(
        &mut self,
        name: &str,
        types: &[ast::DataType],
        statement: &Statement,
        text: &str,
    ) -> Result<Execution, PgError> {
        if self.prepared.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(PgError::new(SqlState::DuplicatePreparedStatement, message));
        }
        let declared = types
            .iter()
            .map(declared_oid)
            .collect::<Result<Vec<_>, _>>()?;
        let statement = Arc::new(ParsedStatement {
            statement: statement.clone(),
            text: text.to_string(),
        });
        let shape = Box::pin(self.shape(&statement, &declared)).await?;
        self.prepared.insert(
            name.to_string(),
            Prepared {
                statement,
                parameters: shape.parameters,
            },
        );
        Ok(Execution::Command {
            tag: "PREPARE".to_string(),
        })
    }

    pub async fn execute_prepared(
        &mut self,
        name: &str,
        values: &[ast::Expr],
    ) -> Result<Execution, PgError> {
        let prepared = self.find_prepared(name)?;
        if values.len() != prepared.parameters.len() {
            let message = format!("wrong number of parameters for prepared statement \"{name}\"");
            let detail = format!(
                "Expected {} parameters but got {}.",
                prepared.parameters.len(),
                values.len()
            );
            return Err(PgError::new(SqlState::SyntaxError, message).with_detail(detail));
        }
        let values = self.parameter_values(values, &prepared.parameters).await?;
        Box::pin(self.run(&prepared.statement, &values)).await
    }

    /// The values of expressions without columns, as parameters of these types.
    async fn parameter_values(
        &mut self,
        exprs: &[ast::Expr],
        fields: &[FieldRef],
    ) -> Result<Vec<ScalarValue>, PgError> {
        if exprs.is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<String> = exprs
            .iter()
            .enumerate()
            .map(|(i, e)| format!("{e} AS p{}", i + 1))
            .collect();
        let query = parse_query(&format!("SELECT {}", list.join(", ")))?;
        let planner = self.planner("");
        let batches = self
            .server
            .queries
            .clone()
            .run(async move { collect(&planner, &query, &[]).await })
            .await?;
        let Some(row) = batches.into_iter().find(|b| b.num_rows() > 0) else {
            return Err(PgError::new(
                SqlState::InternalError,
                "a SELECT without FROM gave no row",
            ));
        };
        let zone = self.shared.settings.lock().time_zone();
        let values = row
            .columns()
            .iter()
            .zip(fields)
            .enumerate()
            .map(|(i, (column, field))| {
                let target = parameter_column(i, field);
                let value = assign(&column.slice(0, 1), &target, &zone)?;
                Ok(ScalarValue::try_from_array(&value, 0)?)
            });
        values.collect()
    }
}

/// The parameter as a column that a value is assigned to.
fn parameter_column(index: usize, field: &Field) -> ColumnDef {
    ColumnDef {
        name: format!("${}", index + 1),
        data_type: SqlType::of_field(field),
        not_null: false,
        default: None,
        generated: None,
        include: None,
        comment: None,
    }
}

fn declared_oid(data_type: &ast::DataType) -> Result<Option<u32>, PgError> {
    match sql_type(data_type)? {
        Some(known) => Ok(oids(&[Arc::new(known.field("", true))])[0]),
        None if data_type.to_string().eq_ignore_ascii_case("unknown") => Ok(None),
        None => Err(PgError::new(
            SqlState::UndefinedObject,
            format!("type \"{data_type}\" does not exist"),
        )),
    }
}
