//! A materialized view built anew beside the old one, with all that reads it, to take their places in one epoch.
//!
//! The successors are objects of their own, with greater ids than everything that exists. So the rule that an object
//! has a greater id than what it reads holds on, and the order of ids stays the order in which an epoch runs views.

use std::sync::Arc;

use super::{all_dependents, described, replan};
use crate::catalog::{
    Catalog, MaterializedViewDef, Object, ObjectId, ObjectKind, OutputColumn, Replacement, TableId,
};
use crate::error::{PlanError, Result};
use crate::lower::{PlannedView, ViewQuery, bind_view};
use crate::parse_query::parse_query;
use crate::plan::StreamPlan;
use crate::retention::RowRetention;

/// A view with its successor. Where the rows and the state are to be kept is left to the executor.
#[derive(Debug, Clone)]
pub struct Successor {
    pub replaces: ObjectId,
    pub object: Object,
    pub plan: StreamPlan,
}

/// What is known of the view that the statement names.
pub struct NewDefinition {
    pub sql: String,
    pub planned: PlannedView,
    pub emit_on_window_close: bool,
    pub options: std::collections::BTreeMap<String, String>,
    pub retention: Option<RowRetention>,
}

impl NewDefinition {
    /// The definition that the view has.
    pub fn of_present(catalog: &Catalog, id: ObjectId) -> Result<NewDefinition> {
        let Some(object) = catalog.get(id) else {
            return Err(PlanError::Internal(format!("object {id} does not exist")));
        };
        let def = materialized(object)?;
        let query = parse_query(&def.query)?;
        let view = ViewQuery {
            query: &query,
            columns: &[],
            time_zone: "UTC",
            text: None,
            emit_on_window_close: def.emit_on_window_close,
        };
        let mut planned = crate::lower::plan_view(catalog, view)?;
        refuse_other_types(&def.columns, &planned.plan)?;
        planned.view.columns.clone_from(&def.columns);
        planned.view.bound_sql.clone_from(&def.query);
        Ok(NewDefinition {
            retention: RowRetention::of(&def.options, &planned.plan.root)?,
            sql: object.sql.clone(),
            planned,
            emit_on_window_close: def.emit_on_window_close,
            options: def.options.clone(),
        })
    }
}

/// The successors of `id` and of all materialized views that read it, in the order in which they depend on one
/// another. An error names every reader that the new definition does not fit.
pub fn plan_replacement(
    catalog: &Catalog,
    id: ObjectId,
    new: NewDefinition,
) -> Result<Vec<Successor>> {
    let old = catalog
        .get(id)
        .ok_or_else(|| PlanError::Internal(format!("object {id} does not exist")))?;
    refuse_itself(catalog, old, &new.planned.view.depends_on)?;
    let mut scratch = catalog.clone();
    let object = Object {
        id: scratch.allocate_object(),
        name: old.name.clone(),
        sql: new.sql,
        comment: old.comment.clone(),
        depends_on: new.planned.view.depends_on,
        kind: ObjectKind::MaterializedView(MaterializedViewDef {
            columns: with_comments(new.planned.view.columns, old),
            query: new.planned.view.bound_sql,
            emit_on_window_close: new.emit_on_window_close,
            options: new.options,
            retention: new.retention,
            ..of_plan(&new.planned.plan)
        }),
    };
    scratch.replace(id, Arc::new(object.clone()));
    let mut successors = vec![Successor {
        replaces: id,
        object,
        plan: new.planned.plan,
    }];
    let mut misfits = Vec::new();
    for reader in all_dependents(catalog, id) {
        let Some(object) = scratch.get(reader).cloned() else {
            continue;
        };
        match follow(&mut scratch, &object) {
            Ok(None) => {}
            Ok(Some(successor)) => successors.push(successor),
            Err(error) => misfits.push(format!("{}: {error}", described(&object))),
        }
    }
    if misfits.is_empty() {
        return Ok(successors);
    }
    Err(PlanError::Misfits {
        message: format!(
            "cannot replace {} because other objects that depend on it do not fit its new definition",
            described(old)
        ),
        dependents: misfits,
    })
}

/// A reader over the new definition: a successor of a materialized view, nothing of a view that still binds.
fn follow(scratch: &mut Catalog, object: &Arc<Object>) -> Result<Option<Successor>> {
    let def = match &object.kind {
        ObjectKind::View(view) => {
            let query = parse_query(&view.query)?;
            let bound = bind_view(
                scratch,
                ViewQuery {
                    query: &query,
                    columns: &[],
                    time_zone: "UTC",
                    text: None,
                    emit_on_window_close: false,
                },
            )?;
            let types = |columns: &[OutputColumn]| -> Vec<_> {
                columns.iter().map(|c| c.data_type.clone()).collect()
            };
            if types(&bound.columns) != types(&view.columns) {
                return Err(PlanError::invalid_definition(
                    "its columns would get other types",
                ));
            }
            return Ok(None);
        }
        ObjectKind::MaterializedView(def) => def,
        ObjectKind::Source(_) | ObjectKind::Table(_) | ObjectKind::Index(_) => return Ok(None),
    };
    let plan = replan(scratch, def)?;
    refuse_other_types(&def.columns, &plan)?;
    let mut successor = object.as_ref().clone();
    successor.id = scratch.allocate_object();
    successor.kind = ObjectKind::MaterializedView(MaterializedViewDef {
        columns: def.columns.clone(),
        query: def.query.clone(),
        emit_on_window_close: def.emit_on_window_close,
        options: def.options.clone(),
        retention: RowRetention::of(&def.options, &plan.root)?,
        ..of_plan(&plan)
    });
    let replaces = object.id;
    scratch.replace(replaces, Arc::new(successor.clone()));
    Ok(Some(Successor {
        replaces,
        object: successor,
        plan,
    }))
}

/// The part of a definition that follows from the plan; the rest is filled in by the caller.
fn of_plan(plan: &StreamPlan) -> MaterializedViewDef {
    MaterializedViewDef {
        columns: Vec::new(),
        query: String::new(),
        emit_on_window_close: false,
        options: Default::default(),
        stream_key: plan.root.properties.stream_key.clone(),
        append_only: plan.root.properties.append_only,
        watermark_columns: plan.root.properties.watermark_columns.clone(),
        retention: None,
        rows: TableId(0),
        first_state_table: TableId(0),
        state_tables: plan.root.state_tables(),
        fingerprint: plan.fingerprint,
    }
}

fn refuse_other_types(columns: &[OutputColumn], plan: &StreamPlan) -> Result<()> {
    let fields = plan.root.schema.fields();
    let same = columns.len() == fields.len()
        && columns
            .iter()
            .zip(fields)
            .all(|(column, field)| column.data_type.arrow() == *field.data_type());
    if same {
        return Ok(());
    }
    Err(PlanError::invalid_definition(
        "its columns would get other types",
    ))
}

/// The columns with the comments that the old view's columns of the same names have.
fn with_comments(mut columns: Vec<OutputColumn>, old: &Object) -> Vec<OutputColumn> {
    if let ObjectKind::MaterializedView(def) = &old.kind {
        for column in &mut columns {
            let known = def.columns.iter().find(|c| c.name == column.name);
            column.comment = known.and_then(|c| c.comment.clone());
        }
    }
    columns
}

fn refuse_itself(catalog: &Catalog, old: &Object, depends_on: &[ObjectId]) -> Result<()> {
    let mut readers = all_dependents(catalog, old.id);
    readers.push(old.id);
    let Some(reader) = depends_on.iter().find(|id| readers.contains(id)) else {
        return Ok(());
    };
    let what = catalog
        .get(*reader)
        .map(|o| described(o))
        .unwrap_or_default();
    Err(PlanError::InvalidDefinition {
        message: format!("{} can not be built from itself", described(old)),
        hint: Some(format!(
            "The new query reads {what}, which is built from it."
        )),
    })
}

fn materialized(object: &Object) -> Result<&MaterializedViewDef> {
    match &object.kind {
        ObjectKind::MaterializedView(def) => Ok(def),
        ObjectKind::Source(_)
        | ObjectKind::Table(_)
        | ObjectKind::View(_)
        | ObjectKind::Index(_) => Err(PlanError::WrongObjectKind {
            message: format!("\"{}\" is not a materialized view", object.name.name),
            hint: None,
        }),
    }
}

impl Replacement {
    /// The successor of the view that the statement named.
    pub fn first(&self) -> Option<ObjectId> {
        self.members.first().map(|(_, object)| object.id)
    }

    pub fn replaces(&self, id: ObjectId) -> bool {
        self.members.iter().any(|(old, _)| *old == id)
    }

    /// Whether `id` is replaced by it or read by what is being built.
    pub fn involves(&self, id: ObjectId) -> bool {
        self.members
            .iter()
            .any(|(old, object)| *old == id || object.depends_on.contains(&id))
    }
}
