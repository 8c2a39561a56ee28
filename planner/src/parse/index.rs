//! CREATE INDEX.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::{CreateIndex, NamedIndexColumn, Statement};

/// What stands behind CREATE, from INDEX or UNIQUE on.
pub(super) fn create_index(input: &mut Input) -> Result<Statement> {
    let is_unique = input.accept(&["UNIQUE"]);
    input.expect(&["INDEX"])?;
    // It is always built without holding anybody up.
    input.accept(&["CONCURRENTLY"]);
    let if_not_exists = input.if_not_exists();
    let name = match input.is_at(&["ON"]) && !if_not_exists {
        true => None,
        false => Some(input.name("the index's name")?),
    };
    if input.is_at_token(&Token::Period) {
        return Err(
            input.error("an index is always in its relation's schema: leave the schema out")
        );
    }
    input.expect(&["ON"])?;
    input.accept(&["ONLY"]);
    let relation = input.object_name("a relation's name")?;
    if input.accept(&["USING"]) {
        let method = input.word("an access method")?;
        if method != "btree" {
            return Err(PlanError::unsupported(
                format!("the access method \"{method}\""),
                "leave USING out: every index is ordered (btree)",
            ));
        }
    }
    let columns = input.parenthesized_list(column)?;
    if let Some(clause) = ["INCLUDE", "NULLS", "WITH", "TABLESPACE", "WHERE"]
        .iter()
        .find(|clause| input.is_at(&[clause]))
    {
        let hint = match *clause {
            "WHERE" => "index all rows, or make a materialized view of some of them",
            _ => "leave it out",
        };
        return Err(PlanError::unsupported(
            format!("CREATE INDEX ... {clause}"),
            hint,
        ));
    }
    Ok(Statement::CreateIndex(CreateIndex {
        name,
        if_not_exists,
        is_unique,
        relation,
        columns,
    }))
}

/// `column [ASC | DESC] [NULLS FIRST | LAST]`.
fn column(input: &mut Input) -> Result<NamedIndexColumn> {
    let on_expression = || {
        PlanError::unsupported(
            "an index on an expression",
            "compute it in a materialized view, and index that view's column",
        )
    };
    if input.is_at_token(&Token::LParen) {
        return Err(on_expression());
    }
    let name = input.name("a column's name")?;
    if input.is_at_token(&Token::LParen) {
        return Err(on_expression());
    }
    if input.is_at(&["COLLATE"]) {
        return Err(PlanError::unsupported(
            "COLLATE in an index",
            "leave it out: text is ordered byte by byte",
        ));
    }
    let is_descending = input.accept(&["DESC"]);
    if !is_descending {
        input.accept(&["ASC"]);
    }
    let nulls_first = match input.accept(&["NULLS"]) {
        false => is_descending,
        true if input.accept(&["FIRST"]) => true,
        true => {
            input.expect(&["LAST"])?;
            false
        }
    };
    Ok(NamedIndexColumn {
        name,
        is_descending,
        nulls_first,
    })
}
