//! DROP and COMMENT ON.

use super::input::Input;
use super::{refused, role, secret};
use crate::error::{PlanError, Result};
use crate::statement::{CommentTarget, ObjectName, RelationKind, Statement};

/// What stands behind DROP.
pub(super) fn drop(input: &mut Input) -> Result<Statement> {
    if input.accept(&["SCHEMA"]) {
        let if_exists = input.if_exists();
        let names = input.list(|i| i.name("a schema name"))?;
        let cascade = cascade(input);
        return Ok(Statement::DropSchema {
            names,
            if_exists,
            cascade,
        });
    }
    if ["ROLE", "USER", "GROUP"]
        .iter()
        .any(|word| input.accept(&[word]))
    {
        return role::drop_role(input);
    }
    if input.accept(&["OWNED", "BY"]) {
        return role::drop_owned(input);
    }
    if input.accept(&["SECRET"]) {
        return secret::drop_secret(input);
    }
    let Some(kind) = relation_kind(input) else {
        return Err(refused::drop(input));
    };
    if kind == RelationKind::Index {
        // Nothing ever waits for an index to be dropped.
        input.accept(&["CONCURRENTLY"]);
    }
    let if_exists = input.if_exists();
    let names = input.list(|i| i.object_name("a name"))?;
    let cascade = cascade(input);
    Ok(Statement::Drop {
        kind,
        names,
        if_exists,
        cascade,
    })
}

fn cascade(input: &mut Input) -> bool {
    let is_cascade = input.accept(&["CASCADE"]);
    if !is_cascade {
        input.accept(&["RESTRICT"]);
    }
    is_cascade
}

pub(super) fn relation_kind(input: &mut Input) -> Option<RelationKind> {
    let kinds: [(&[&str], RelationKind); 6] = [
        (&["SOURCE"], RelationKind::Source),
        (&["TABLE"], RelationKind::Table),
        (&["VIEW"], RelationKind::View),
        (&["MATERIALIZED", "VIEW"], RelationKind::MaterializedView),
        (&["SINK"], RelationKind::Sink),
        (&["INDEX"], RelationKind::Index),
    ];
    kinds
        .into_iter()
        .find_map(|(words, kind)| input.accept(words).then_some(kind))
}

/// What stands behind COMMENT.
pub(super) fn comment(input: &mut Input) -> Result<Statement> {
    input.expect(&["ON"])?;
    let (kind, name, column) = if input.accept(&["COLUMN"]) {
        let (name, column) = column_of(input)?;
        (CommentTarget::Column, name, Some(column))
    } else if relation_kind(input).is_some() {
        (CommentTarget::Relation, input.object_name("a name")?, None)
    } else {
        return Err(PlanError::unsupported(
            "COMMENT on this kind of object",
            "comments go on SOURCE, TABLE, VIEW, MATERIALIZED VIEW, INDEX and COLUMN",
        ));
    };
    input.expect(&["IS"])?;
    let comment = if input.accept(&["NULL"]) {
        None
    } else {
        Some(input.string("a comment in quotes, or NULL")?)
    };
    Ok(Statement::Comment {
        kind,
        name,
        column,
        comment,
    })
}

/// `[[rivermark.]schema.]relation.column`.
fn column_of(input: &mut Input) -> Result<(ObjectName, String)> {
    let mut parts = input.dotted_name("relation.column")?;
    match (parts.pop(), parts.pop(), parts.pop()) {
        (Some(column), Some(name), schema) if parts.len() <= 1 => {
            Ok((ObjectName { schema, name }, column))
        }
        _ => Err(input.error("expected relation.column or schema.relation.column")),
    }
}
