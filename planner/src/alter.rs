//! Changes of definitions that exist: the catalog after each, with the stored texts of all that read what changed.
//!
//! Whoever reads a changed relation goes on meaning the same: `alter/texts.rs` rewrites its query, and
//! [`check_dependents`] plans it again and compares the layout of its state, so that a restart finds its state.

mod replacement;
mod texts;

use std::collections::BTreeSet;

use crate::catalog::{
    Catalog, ColumnDef, Encode, MaterializedViewDef, Object, ObjectId, ObjectKind, OutputColumn,
    QualifiedName,
};
use crate::definition::create_statement;
use crate::error::{PlanError, Result, UndefinedKind};
use crate::lower::{ViewQuery, plan_view};
use crate::parse_query::parse_query;
use crate::plan::StreamPlan;

pub use self::replacement::{NewDefinition, Successor, plan_replacement};
use self::texts::Reader;

/// Plans a stored query again. Bound SQL depends on no session: names are qualified and UTC is its time zone.
pub fn replan(catalog: &Catalog, def: &MaterializedViewDef) -> Result<StreamPlan> {
    let query = parse_query(&def.query)?;
    let view = ViewQuery {
        query: &query,
        columns: &[],
        time_zone: "UTC",
        text: None,
        emit_on_window_close: def.emit_on_window_close,
    };
    Ok(plan_view(catalog, view)?.plan)
}

/// Gives a relation another name.
pub fn rename(catalog: &mut Catalog, id: ObjectId, to: QualifiedName) -> Result<()> {
    let mut object = found(catalog, id)?;
    let from = std::mem::replace(&mut object.name, to.clone());
    let indexes: Vec<Object> = catalog.indexes_of(id).map(|(o, _)| o.clone()).collect();
    for mut index in indexes.into_iter().filter(|i| i.name.schema != to.schema) {
        // They are always in their relation's schema.
        index.name.schema.clone_from(&to.schema);
        if catalog.find(&index.name).is_some() {
            return Err(PlanError::Duplicate {
                kind: UndefinedKind::Relation,
                message: format!(
                    "relation \"{}\" already exists in schema \"{}\"",
                    index.name.name, to.schema
                ),
            });
        }
        catalog.put(index);
    }
    rewrite_readers(
        catalog,
        id,
        &Reader::Renamed {
            from: &from,
            to: &to,
        },
    )?;
    put(catalog, object);
    Ok(())
}

/// Gives a relation's column another name. A source's column is found in its messages by its name, so it keeps it.
pub fn rename_column(catalog: &mut Catalog, id: ObjectId, from: &str, to: &str) -> Result<()> {
    let mut object = found(catalog, id)?;
    let before = column_names(&object);
    let index = position(&object, from)?;
    refuse_taken(&object, to)?;
    match &mut object.kind {
        ObjectKind::Source(source) => {
            let column = &source.columns[index];
            let is_read = column.generated.is_none() && column.include.is_none();
            if is_read && source.encode != Encode::Bytes {
                return Err(PlanError::unsupported(
                    format!("renaming column \"{from}\" of a source"),
                    "a message's value is found by this name; rename the column in a view on the source",
                ));
            }
            rename_in_columns(&mut source.columns, index, from, to, &object.name.name)?;
            if let Some(watermark) = source.watermark.as_mut().filter(|w| w.column == from) {
                watermark.column = to.to_string();
            }
        }
        ObjectKind::Table(table) => {
            rename_in_columns(&mut table.columns, index, from, to, &object.name.name)?;
            for (_, check) in &mut table.checks {
                *check = texts::rename_in_expression(check, from, to, &object.name.name)?;
            }
            if let Some(watermark) = table.watermark.as_mut().filter(|w| w.column == from) {
                watermark.column = to.to_string();
            }
        }
        ObjectKind::View(view) => view.columns[index].name = to.to_string(),
        ObjectKind::MaterializedView(view) => view.columns[index].name = to.to_string(),
        // It has no columns of its own.
        ObjectKind::Index(_) => {}
    }
    let columns: Vec<(String, String)> = before
        .into_iter()
        .zip(column_names(&object))
        .map(|(old, new)| (new, old))
        .collect();
    let name = object.name.clone();
    put(catalog, object);
    rewrite_readers(
        catalog,
        id,
        &Reader::Columns {
            of: &name,
            columns: &columns,
        },
    )
}

/// Adds a column at the end of a source or a table.
pub fn add_column(catalog: &mut Catalog, id: ObjectId, column: ColumnDef) -> Result<()> {
    let mut object = found(catalog, id)?;
    refuse_taken(&object, &column.name)?;
    let columns: Vec<(String, String)> = column_names(&object)
        .into_iter()
        .map(|name| (name.clone(), name))
        .collect();
    let added = column.name.clone();
    match &mut object.kind {
        ObjectKind::Source(source) => source.columns.push(column),
        ObjectKind::Table(table) => table.columns.push(column),
        ObjectKind::View(_) | ObjectKind::MaterializedView(_) | ObjectKind::Index(_) => {
            return Err(PlanError::WrongObjectKind {
                message: format!("\"{}\" is not a table or source", object.name.name),
                hint: Some("CREATE OR REPLACE the view with its new query.".to_string()),
            });
        }
    }
    let name = object.name.clone();
    put(catalog, object);
    let reader = Reader::Columns {
        of: &name,
        columns: &columns,
    };
    // A name that a query does not mention can not be taken for something else in it.
    rewrite_readers_if(catalog, id, &reader, |query| texts::mentions(query, &added))
}

/// Sets or drops a table column's default, which later INSERTs use.
pub fn set_default(
    catalog: &mut Catalog,
    id: ObjectId,
    name: &str,
    default: Option<String>,
) -> Result<()> {
    let mut object = found(catalog, id)?;
    let index = position(&object, name)?;
    let ObjectKind::Table(table) = &mut object.kind else {
        return Err(PlanError::WrongObjectKind {
            message: format!("\"{}\" is not a table", object.name.name),
            hint: None,
        });
    };
    let column = &mut table.columns[index];
    if column.generated.is_some() {
        return Err(PlanError::invalid_definition(format!(
            "column \"{name}\" of relation \"{}\" is a generated column",
            object.name.name
        )));
    }
    column.default = default;
    put(catalog, object);
    Ok(())
}

/// Demands of a table's column that it has a value, or does not any more.
pub fn set_not_null(catalog: &mut Catalog, id: ObjectId, name: &str, not_null: bool) -> Result<()> {
    let mut object = found(catalog, id)?;
    let index = position(&object, name)?;
    let ObjectKind::Table(table) = &mut object.kind else {
        return Err(PlanError::WrongObjectKind {
            message: format!("\"{}\" is not a table", object.name.name),
            hint: None,
        });
    };
    if !not_null && table.primary_key.contains(&index) {
        return Err(PlanError::invalid_definition(format!(
            "column \"{name}\" is in a primary key"
        )));
    }
    table.columns[index].not_null = not_null;
    put(catalog, object);
    Ok(())
}

/// Every object that reads `id`, directly or through others, in the order in which they were created.
pub fn all_dependents(catalog: &Catalog, id: ObjectId) -> Vec<ObjectId> {
    let mut found = BTreeSet::new();
    let mut pending = vec![id];
    while let Some(id) = pending.pop() {
        // An index reads nothing.
        for object in catalog.dependents(id).filter(|o| o.as_index().is_none()) {
            if found.insert(object.id) {
                pending.push(object.id);
            }
        }
    }
    found.into_iter().collect()
}

/// Checks that the materialized views below `id` find their state again: planned over `after` it is laid out as it is
/// when planned over `before`. One that can not be planned even before (it needs a rebuild) is nobody's concern.
pub fn check_dependents(before: &Catalog, after: &Catalog, id: ObjectId) -> Result<()> {
    let mut broken = Vec::new();
    for id in all_dependents(before, id) {
        let (Some(old), Some(new)) = (before.get(id), after.get(id)) else {
            continue;
        };
        let (ObjectKind::MaterializedView(old_def), ObjectKind::MaterializedView(new_def)) =
            (&old.kind, &new.kind)
        else {
            continue;
        };
        let Ok(old_plan) = replan(before, old_def) else {
            continue;
        };
        match replan(after, new_def) {
            Ok(plan)
                if plan.fingerprint == old_plan.fingerprint
                    && plan.root.state_tables() == old_plan.root.state_tables() => {}
            Ok(_) => broken.push(format!(
                "{} would lay out its state differently",
                described(old)
            )),
            Err(error) => broken.push(format!("{}: {error}", described(old))),
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(PlanError::Misfits {
        message: "cannot make this change because materialized views do not fit it".to_string(),
        dependents: broken,
    })
}

/// An object as messages name it.
pub fn described(object: &Object) -> String {
    format!("{} {}", object.kind_name(), object.name)
}

fn rename_in_columns(
    columns: &mut [ColumnDef],
    index: usize,
    from: &str,
    to: &str,
    relation: &str,
) -> Result<()> {
    columns[index].name = to.to_string();
    for column in columns {
        if let Some(text) = &mut column.generated {
            *text = texts::rename_in_expression(text, from, to, relation)?;
        }
    }
    Ok(())
}

fn rewrite_readers(catalog: &mut Catalog, id: ObjectId, reader: &Reader<'_>) -> Result<()> {
    rewrite_readers_if(catalog, id, reader, |_| true)
}

fn rewrite_readers_if(
    catalog: &mut Catalog,
    id: ObjectId,
    reader: &Reader<'_>,
    is_touched: impl Fn(&str) -> bool,
) -> Result<()> {
    let readers: Vec<Object> = catalog.dependents(id).map(|o| o.as_ref().clone()).collect();
    for mut object in readers {
        let query = match &mut object.kind {
            ObjectKind::View(view) => &mut view.query,
            ObjectKind::MaterializedView(view) => &mut view.query,
            // An index goes by its relation's id and the places of columns.
            ObjectKind::Source(_) | ObjectKind::Table(_) | ObjectKind::Index(_) => continue,
        };
        if is_touched(query) {
            *query = reader.rewrite(query)?;
            put(catalog, object);
        }
    }
    Ok(())
}

/// Stores a changed object; its statement says what it is now.
fn put(catalog: &mut Catalog, mut object: Object) {
    object.sql = create_statement(&object);
    catalog.put(object);
}

fn found(catalog: &Catalog, id: ObjectId) -> Result<Object> {
    catalog
        .get(id)
        .map(|o| o.as_ref().clone())
        .ok_or_else(|| PlanError::Internal(format!("object {id} does not exist")))
}

/// The names of a relation's columns.
pub fn column_names(object: &Object) -> Vec<String> {
    let of_output = |columns: &[OutputColumn]| columns.iter().map(|c| c.name.clone()).collect();
    let of_columns = |columns: &[ColumnDef]| columns.iter().map(|c| c.name.clone()).collect();
    match &object.kind {
        ObjectKind::Source(source) => of_columns(&source.columns),
        ObjectKind::Table(table) => of_columns(&table.columns),
        ObjectKind::View(view) => of_output(&view.columns),
        ObjectKind::MaterializedView(view) => of_output(&view.columns),
        ObjectKind::Index(_) => Vec::new(),
    }
}

fn position(object: &Object, column: &str) -> Result<usize> {
    column_names(object)
        .iter()
        .position(|name| name == column)
        .ok_or_else(|| PlanError::Undefined {
            kind: UndefinedKind::Column,
            message: format!(
                "column \"{column}\" of relation \"{}\" does not exist",
                object.name.name
            ),
            position: None,
        })
}

fn refuse_taken(object: &Object, column: &str) -> Result<()> {
    if !column_names(object).iter().any(|name| name == column) {
        return Ok(());
    }
    Err(PlanError::Duplicate {
        kind: UndefinedKind::Column,
        message: format!(
            "column \"{column}\" of relation \"{}\" already exists",
            object.name.name
        ),
    })
}

#[cfg(test)]
mod tests;
