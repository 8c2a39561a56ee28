//! INSERT, UPDATE and DELETE, also behind WITH; TRUNCATE.

use sqlparser::ast::{self, SetExpr};

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::{Change, Statement};

/// A statement that starts with WITH, INSERT, UPDATE or DELETE.
pub(super) fn query_or_change(input: &mut Input) -> Result<Statement> {
    let query = input.query_or_change()?;
    let is_change = matches!(
        *query.body,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)
    );
    if !is_change {
        return Ok(Statement::Query(query));
    }
    let ast::Query { with, body, .. } = *query;
    let (SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Delete(change)) = *body
    else {
        return Err(PlanError::Internal("a change has changed".to_string()));
    };
    match change {
        ast::Statement::Insert(body) => {
            known_insert(&body)?;
            Ok(Statement::Insert(Box::new(Change { with, body })))
        }
        ast::Statement::Update(body) => {
            let is_foreign = body.or.is_some()
                || body.output.is_some()
                || body.limit.is_some()
                || !body.order_by.is_empty()
                || matches!(body.from, Some(ast::UpdateTableFromKind::BeforeSet(_)));
            refuse_foreign(
                is_foreign,
                "UPDATE",
                "LIMIT, ORDER BY, OUTPUT or FROM before SET",
            )?;
            Ok(Statement::Update(Box::new(Change { with, body })))
        }
        ast::Statement::Delete(body) => {
            let is_foreign = !body.tables.is_empty()
                || body.output.is_some()
                || body.limit.is_some()
                || !body.order_by.is_empty();
            refuse_foreign(is_foreign, "DELETE", "LIMIT, ORDER BY or OUTPUT")?;
            Ok(Statement::Delete(Box::new(Change { with, body })))
        }
        other => Err(PlanError::Internal(format!("a change parsed as {other}"))),
    }
}

/// sqlparser knows clauses of other databases, which must not be passed over.
fn refuse_foreign(is_there: bool, statement: &str, clauses: &str) -> Result<()> {
    match is_there {
        false => Ok(()),
        true => Err(PlanError::Syntax {
            message: format!("{statement} takes no {clauses}"),
            position: None,
        }),
    }
}

fn known_insert(insert: &ast::Insert) -> Result<()> {
    let is_foreign = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.replace_into
        || insert.partitioned.is_some()
        || insert.output.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || !insert.assignments.is_empty()
        || !insert.after_columns.is_empty()
        || matches!(insert.on, Some(ast::OnInsert::DuplicateKeyUpdate(_)));
    refuse_foreign(is_foreign, "INSERT", "clauses of other databases")
}

/// What stands behind TRUNCATE. There are neither sequences nor foreign keys that the last words could mean.
pub(super) fn truncate(input: &mut Input) -> Result<Statement> {
    input.accept(&["TABLE"]);
    let names = input.list(|input| {
        input.accept(&["ONLY"]);
        let name = input.object_name("a table name")?;
        input.accept_token(&sqlparser::tokenizer::Token::Mul);
        Ok(name)
    })?;
    let _ = input.accept(&["RESTART", "IDENTITY"]) || input.accept(&["CONTINUE", "IDENTITY"]);
    let _ = input.accept(&["CASCADE"]) || input.accept(&["RESTRICT"]);
    Ok(Statement::Truncate { names })
}
