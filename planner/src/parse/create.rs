//! CREATE: finds out what is created and hands over to its parser; schemas are parsed here.

use super::input::Input;
use super::{index, refused, role, secret, source, table, view};
use crate::error::{PlanError, Result};
use crate::statement::Statement;

/// What stands behind CREATE.
pub(super) fn create(input: &mut Input) -> Result<Statement> {
    let or_replace = input.accept(&["OR", "REPLACE"]);
    if input.accept(&["MATERIALIZED", "VIEW"]) {
        return view::create_materialized_view(input, or_replace);
    }
    if input.accept(&["VIEW"]) {
        return view::create_view(input, or_replace);
    }
    if input.is_at_one_of(&[
        "TEMP",
        "TEMPORARY",
        "GLOBAL",
        "LOCAL",
        "UNLOGGED",
        "RECURSIVE",
    ]) {
        return Err(refused_kind(input));
    }
    if or_replace && input.is_at_one_of(&["SOURCE", "TABLE", "SCHEMA", "INDEX", "UNIQUE"]) {
        return Err(PlanError::unsupported(
            "OR REPLACE here",
            "only views are replaced; write DROP ... and CREATE ..., or IF NOT EXISTS",
        ));
    }
    if input.accept(&["SOURCE"]) {
        return source::create_source(input);
    }
    if input.accept(&["TABLE"]) {
        return table::create_table(input);
    }
    if input.accept(&["SCHEMA"]) {
        return create_schema(input);
    }
    if !or_replace && (input.is_at(&["INDEX"]) || input.is_at(&["UNIQUE", "INDEX"])) {
        return index::create_index(input);
    }
    if !or_replace && (input.accept(&["ROLE"]) || input.accept(&["GROUP"])) {
        return role::create_role(input, false);
    }
    if !or_replace && input.accept(&["SECRET"]) {
        return secret::create_secret(input);
    }
    if !or_replace && input.accept(&["USER"]) {
        return role::create_role(input, true);
    }
    Err(refused::create(input))
}

fn create_schema(input: &mut Input) -> Result<Statement> {
    let if_not_exists = input.if_not_exists();
    let name = input.name("a schema name")?;
    if input.is_at(&["AUTHORIZATION"]) {
        return Err(PlanError::unsupported(
            "CREATE SCHEMA ... AUTHORIZATION",
            "leave AUTHORIZATION out",
        ));
    }
    Ok(Statement::CreateSchema {
        name,
        if_not_exists,
    })
}

fn refused_kind(input: &Input) -> PlanError {
    if input.is_at(&["UNLOGGED"]) {
        return PlanError::unsupported("CREATE UNLOGGED TABLE", "leave UNLOGGED out");
    }
    if input.is_at(&["RECURSIVE"]) {
        return PlanError::unsupported(
            "CREATE RECURSIVE VIEW",
            "write CREATE VIEW v AS WITH RECURSIVE ...",
        );
    }
    PlanError::unsupported(
        "a temporary table or view",
        "create it without TEMPORARY and drop it when done",
    )
}
