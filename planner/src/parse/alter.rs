//! ALTER SOURCE, TABLE, VIEW and MATERIALIZED VIEW.

use sqlparser::tokenizer::Token;

use super::columns::{Owner, one_column};
use super::drop::relation_kind;
use super::input::Input;
use super::role;
use crate::error::{PlanError, Result};
use crate::statement::{AlterAction, RelationKind, Statement};

/// What stands behind ALTER.
pub(super) fn alter(input: &mut Input) -> Result<Statement> {
    if input.accept(&["SCHEMA"]) {
        return alter_schema(input);
    }
    if input.accept(&["ROLE"]) || input.accept(&["USER"]) {
        return role::alter_role(input);
    }
    if input.accept(&["DEFAULT", "PRIVILEGES"]) {
        return role::default_privileges(input);
    }
    let kind = match relation_kind(input) {
        Some(RelationKind::Sink | RelationKind::Index) | None => {
            return Err(refused_kind(input));
        }
        Some(kind) => kind,
    };
    let if_exists = input.if_exists();
    input.accept(&["ONLY"]);
    let name = input.object_name("a name")?;
    let action = action(input, kind)?;
    if input.is_at_token(&Token::Comma) {
        return Err(PlanError::unsupported(
            "ALTER with several actions",
            "write one statement for each",
        ));
    }
    Ok(Statement::Alter {
        kind,
        name,
        if_exists,
        action: Box::new(action),
    })
}

fn alter_schema(input: &mut Input) -> Result<Statement> {
    let name = input.name("a schema name")?;
    if input.accept(&["OWNER", "TO"]) {
        let owner = role::role(input)?;
        return Ok(Statement::AlterSchemaOwner { name, owner });
    }
    Err(PlanError::unsupported(
        "ALTER SCHEMA ... RENAME",
        "create another schema and move relations with ALTER ... SET SCHEMA",
    ))
}

fn action(input: &mut Input, kind: RelationKind) -> Result<AlterAction> {
    if input.accept(&["RENAME", "TO"]) {
        let to = input.name("a new name")?;
        return Ok(AlterAction::Rename { to });
    }
    if input.is_at(&["RENAME", "CONSTRAINT"]) {
        return Err(PlanError::unsupported(
            "RENAME CONSTRAINT",
            "constraints keep their names",
        ));
    }
    if input.accept(&["RENAME"]) {
        input.accept(&["COLUMN"]);
        let column = input.name("a column name")?;
        input.expect(&["TO"])?;
        let to = input.name("a new name")?;
        return Ok(AlterAction::RenameColumn { column, to });
    }
    if input.accept(&["SET", "SCHEMA"]) {
        let schema = input.name("a schema name")?;
        return Ok(AlterAction::SetSchema { schema });
    }
    if input.accept(&["OWNER", "TO"]) {
        let owner = role::role(input)?;
        return Ok(AlterAction::SetOwner { owner });
    }
    match kind {
        RelationKind::Source | RelationKind::Table => column_action(input, kind),
        RelationKind::MaterializedView => materialized_action(input),
        RelationKind::View | RelationKind::Sink | RelationKind::Index => {
            Err(input.expected("RENAME or SET SCHEMA"))
        }
    }
}

fn materialized_action(input: &mut Input) -> Result<AlterAction> {
    if input.accept(&["REBUILD"]) {
        let force = input.accept(&["FORCE"]);
        return Ok(AlterAction::Rebuild { force });
    }
    if input.accept(&["PAUSE"]) {
        return Ok(AlterAction::Pause);
    }
    if input.accept(&["RESUME"]) {
        return Ok(AlterAction::Resume);
    }
    Err(input.expected("REBUILD, PAUSE, RESUME, RENAME or SET SCHEMA"))
}

fn column_action(input: &mut Input, kind: RelationKind) -> Result<AlterAction> {
    if input.accept(&["ADD"]) {
        if input.is_at_one_of(&["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"]) {
            return Err(PlanError::unsupported(
                "ALTER ... ADD CONSTRAINT",
                "create a table with the constraint and INSERT INTO it SELECT from this one",
            ));
        }
        input.accept(&["COLUMN"]);
        let if_not_exists = input.if_not_exists();
        let owner = match kind {
            RelationKind::Source => Owner::Source,
            _ => Owner::Table,
        };
        let column = one_column(input, owner)?;
        return Ok(AlterAction::AddColumn {
            column,
            if_not_exists,
        });
    }
    if input.is_at(&["DROP"]) {
        return Err(refused_drop(input));
    }
    if kind == RelationKind::Source {
        return Err(input.expected("ADD COLUMN, RENAME or SET SCHEMA"));
    }
    if !input.accept(&["ALTER"]) {
        return Err(input.expected("ADD COLUMN, ALTER COLUMN, RENAME or SET SCHEMA"));
    }
    input.accept(&["COLUMN"]);
    let column = input.name("a column name")?;
    if input.accept(&["SET", "DEFAULT"]) {
        let text = input.expression()?.to_string();
        return Ok(AlterAction::SetDefault {
            column,
            default: Some(text),
        });
    }
    if input.accept(&["DROP", "DEFAULT"]) {
        return Ok(AlterAction::SetDefault {
            column,
            default: None,
        });
    }
    if input.accept(&["SET", "NOT", "NULL"]) {
        return Ok(AlterAction::SetNotNull {
            column,
            not_null: true,
        });
    }
    if input.accept(&["DROP", "NOT", "NULL"]) {
        return Ok(AlterAction::SetNotNull {
            column,
            not_null: false,
        });
    }
    if input.is_at(&["TYPE"]) || input.is_at(&["SET", "DATA", "TYPE"]) {
        return Err(PlanError::unsupported(
            "ALTER COLUMN ... TYPE",
            "add a column of the new type, UPDATE it from the old one, and rename both",
        ));
    }
    Err(input.expected("SET DEFAULT, DROP DEFAULT, SET NOT NULL or DROP NOT NULL"))
}

fn refused_drop(input: &Input) -> PlanError {
    if input.is_at(&["DROP", "CONSTRAINT"]) {
        return PlanError::unsupported(
            "ALTER ... DROP CONSTRAINT",
            "create a table without it and INSERT INTO it SELECT from this one",
        );
    }
    PlanError::unsupported(
        "ALTER ... DROP COLUMN",
        "leave the column out of the views and queries that read it",
    )
}

fn refused_kind(input: &Input) -> PlanError {
    if input.is_at_one_of(&["ROLE", "USER", "DATABASE", "SYSTEM", "DEFAULT"]) {
        return PlanError::unsupported(
            "this ALTER",
            "settings are made with SET or in the configuration",
        );
    }
    input.expected("SOURCE, TABLE, VIEW or MATERIALIZED VIEW")
}
