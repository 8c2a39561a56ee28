//! A new materialized view: its operators, its rows, and where it starts to read what it scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rivermark_planner::catalog::{
    MaterializedViewDef, Object, ObjectId, ObjectKind, Positions, TableId,
};
use rivermark_planner::plan::StreamPlan;

use crate::api::NewMaterializedView;
use crate::catalog_change::view_format;
use crate::dataflow::Dataflow;
use crate::error::{ExecutorError, Result};
use crate::progress::{Bounds, ScanProgress, ViewProgress};
use crate::view::View;
use crate::watermark::Watermarks;
use crate::writer::Writer;

/// What a new view knows of the outside and of the views that are made with it.
pub struct Beginnings<'a> {
    /// Ends of the sources.
    pub targets: &'a [(ObjectId, Positions)],
    /// Where to start reading sources that do not hold everything any more.
    pub starts: &'a BTreeMap<ObjectId, Positions>,
    /// Views made by the same statement before this one.
    pub siblings: &'a BTreeSet<ObjectId>,
}

impl Writer {
    /// Registers a view; it backfills from the next epoch on.
    pub fn create_materialized_view(
        &mut self,
        new: NewMaterializedView,
        targets: Vec<(ObjectId, Positions)>,
    ) -> Result<ObjectId> {
        self.refuse_replaced(&new.plan.root.scanned_objects())?;
        self.refuse_replaced(&new.depends_on)?;
        let def = MaterializedViewDef {
            stream_key: new.plan.root.properties.stream_key.clone(),
            append_only: new.plan.root.properties.append_only,
            watermark_columns: new.plan.root.properties.watermark_columns.clone(),
            columns: new.columns,
            query: new.bound_sql,
            emit_on_window_close: new.emit_on_window_close,
            options: new.options,
            retention: new.retention,
            rows: TableId(0),
            first_state_table: TableId(0),
            state_tables: new.plan.root.state_tables(),
            fingerprint: new.plan.fingerprint,
        };
        let object = Object {
            id: ObjectId(0),
            name: new.name,
            sql: new.sql,
            comment: None,
            depends_on: new.depends_on,
            kind: ObjectKind::MaterializedView(def),
        };
        let beginnings = Beginnings {
            targets: &targets,
            starts: &BTreeMap::new(),
            siblings: &BTreeSet::new(),
        };
        let (mut view, mut object) = self.new_view(object, &new.plan, &beginnings)?;
        let id = self.catalog.allocate_object();
        view.id = id;
        object.id = id;
        self.add_view(view);
        self.catalog.put(object);
        Ok(id)
    }

    /// Makes a view and gives its definition the tables that it is kept in. Nothing runs yet.
    pub fn new_view(
        &mut self,
        mut object: Object,
        plan: &StreamPlan,
        beginnings: &Beginnings<'_>,
    ) -> Result<(View, Object)> {
        let mut scans = BTreeMap::new();
        for scanned in plan.root.scanned_objects() {
            scans.insert(scanned, self.first_scan(scanned, beginnings)?);
        }
        let ObjectKind::MaterializedView(def) = &mut object.kind else {
            return Err(ExecutorError::Internal("not a materialized view".into()));
        };
        def.rows = self.catalog.allocate_tables(1);
        def.first_state_table = self.catalog.allocate_tables(def.state_tables);
        let dataflow =
            Dataflow::build(&plan.root, def.first_state_table, &self.store, &self.cache)?;
        let rows = self.view_rows(view_format(def)?, 0)?;
        let targets = beginnings
            .targets
            .iter()
            .filter(|(source, _)| scans.contains_key(source))
            .cloned()
            .collect();
        let view = View {
            id: object.id,
            name: object.name.clone(),
            dataflow: Some(dataflow),
            rows,
            progress: ViewProgress {
                is_initialized: false,
                is_ready: false,
                failed: None,
                is_paused: false,
                missed_changes: false,
                rows: 0,
                scans,
                targets,
                epoch: 0,
                dead_letters: 0,
                forgotten_us: None,
            },
            emits_on_window_close: def.emit_on_window_close,
            retention: def.retention,
            watermarks: Watermarks::default(),
            has_later_watermarks: false,
            readers: BTreeMap::new(),
            waiters: Vec::new(),
            stats: Default::default(),
            due_us: None,
            is_dirty: true,
        };
        Ok((view, object))
    }

    /// Lets a view run.
    pub fn add_view(&mut self, mut view: View) {
        let id = view.id;
        if let Some(dataflow) = &mut view.dataflow {
            dataflow.share(id, Arc::make_mut(&mut self.prefixes));
        }
        for object in view.progress.scans.keys() {
            self.scanned_by.entry(*object).or_default().insert(id);
        }
        self.backfilling.insert(id);
        self.views.insert(id, view);
    }

    /// Where a new view starts to read an object.
    fn first_scan(&self, object: ObjectId, beginnings: &Beginnings<'_>) -> Result<ScanProgress> {
        if let Some(source) = self.sources.get(&object) {
            let start = beginnings.starts.get(&object);
            return Ok(ScanProgress::Source {
                positions: start.unwrap_or(&source.def.start).clone(),
                bounds: Bounds::new(),
            });
        }
        if self.tables.contains_key(&object) || beginnings.siblings.contains(&object) {
            return Ok(ScanProgress::Rows { cursor: None });
        }
        // Dropped since the statement was planned.
        let view = self
            .views
            .get(&object)
            .ok_or(ExecutorError::CatalogChanged)?;
        if !view.progress.is_ready || !view.is_maintained() {
            return Err(ExecutorError::NotReadable {
                message: format!(
                    "materialized view \"{}\" is {} and can not be read",
                    view.name,
                    view.state().as_str()
                ),
            });
        }
        Ok(ScanProgress::Rows { cursor: None })
    }
}
