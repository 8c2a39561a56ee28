//! Catalog changes, applied by the writer between two epochs' inputs.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use rivermark_planner::TableId;
use rivermark_planner::catalog::{
    MaterializedViewDef, Object, ObjectId, ObjectKind, OutputColumn, QualifiedName, SourceDef,
    TableDef,
};

use crate::api::CatalogChange;
use crate::clock::{TableMark, TableTime};
use crate::command::PreparedChange;
use crate::error::{ExecutorError, Result};
use crate::lateness::EventTime;
use crate::meta;
use crate::progress::SourceProgress;
use crate::row_store::RowStore;
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout};
use crate::source_input::SourceInput;
use crate::source_secrets::open_source;
use crate::state::{CacheHandle, Family, WriteSet};
use crate::writer::{Table, Writer};

/// What a dropped object leaves to be deleted with the next commit.
pub struct Dropped {
    tables: Vec<(Family, TableId)>,
    meta: Vec<u8>,
}

impl Dropped {
    /// The rows of a table or view.
    pub fn rows_of(table: TableId) -> Dropped {
        Dropped {
            tables: vec![(Family::Views, table)],
            meta: Vec::new(),
        }
    }

    pub fn collect(&self, writes: &mut WriteSet) {
        for (family, table) in &self.tables {
            writes.delete_table(*family, *table);
        }
        if !self.meta.is_empty() {
            writes.delete_meta(&self.meta);
        }
    }
}

impl Writer {
    /// Applies a change, all or nothing; the created object's id.
    pub fn change_catalog(&mut self, prepared: PreparedChange) -> Result<Option<ObjectId>> {
        let before = self.catalog.next_object();
        let creator = prepared.creator;
        let created = match prepared.change {
            CatalogChange::CreateSchema { name } => {
                self.catalog.add_schema(&name);
                self.catalog.security.give_schema(&name, &creator);
                None
            }
            CatalogChange::DropSchema { name } => {
                self.catalog.remove_schema(&name);
                None
            }
            CatalogChange::CreateSource { name, sql, def } => {
                Some(self.create_source(name, sql, def)?)
            }
            CatalogChange::CreateTable { name, sql, def } => {
                Some(self.create_table(name, sql, def)?)
            }
            CatalogChange::CreateView {
                name,
                sql,
                def,
                depends_on,
                replace,
            } => {
                self.refuse_replaced(&depends_on)?;
                if let Some(old) = self.catalog.find(&name)
                    && self.catalog.replacement_of(old.id).is_some()
                {
                    return Err(ExecutorError::NotReadable {
                        message: format!(
                            "view \"{name}\" is read by a materialized view that is being rebuilt; wait until that is done"
                        ),
                    });
                }
                let existing = if replace {
                    self.catalog.find(&name).map(|o| o.id)
                } else {
                    None
                };
                let id = existing.unwrap_or_else(|| self.catalog.allocate_object());
                let kind = ObjectKind::View(def);
                self.catalog.put(Object {
                    id,
                    name,
                    sql,
                    comment: None,
                    depends_on,
                    kind,
                });
                Some(id)
            }
            CatalogChange::CreateMaterializedView(new) => {
                Some(self.create_materialized_view(*new, prepared.targets)?)
            }
            CatalogChange::Replace { members, .. } => {
                Some(self.start_replacement(members, prepared.targets, &prepared.starts)?)
            }
            CatalogChange::GiveUpReplacement { first } => {
                self.give_up_replacement(first, "the statement was canceled")?;
                None
            }
            CatalogChange::Pause { view } => {
                self.pause(view)?;
                None
            }
            CatalogChange::Resume { view } => {
                self.resume(view)?;
                None
            }
            CatalogChange::Alter { after } => {
                self.install_catalog(*after)?;
                None
            }
            CatalogChange::ChangeTable { .. } => {
                return Err(ExecutorError::Internal(
                    "a change of rows takes more than one epoch".into(),
                ));
            }
            CatalogChange::CreateIndex { name, sql, def } => {
                Some(self.create_index(name, sql, def)?)
            }
            CatalogChange::Drop { objects } => {
                self.drop_objects(&objects)?;
                None
            }
            CatalogChange::Secure { security } => {
                self.catalog.secure(*security);
                None
            }
            CatalogChange::Comment {
                object,
                column,
                comment,
            } => {
                self.comment(object, column, comment)?;
                None
            }
        };
        // A replaced view keeps its owner, and a successor gets that of what it replaces.
        if let Some(id) = created.filter(|id| *id >= before) {
            self.catalog.now_belongs_to(id, &creator);
        }
        self.is_catalog_dirty = true;
        Ok(created)
    }

    fn create_source(
        &mut self,
        name: QualifiedName,
        sql: String,
        def: SourceDef,
    ) -> Result<ObjectId> {
        let source = open_source(self.connectors.as_ref(), &self.catalog, &name, &def)?;
        let id = self.catalog.allocate_object();
        let kind = ObjectKind::Source(def.clone());
        self.catalog.put(Object {
            id,
            name: name.clone(),
            sql,
            comment: None,
            depends_on: Vec::new(),
            kind,
        });
        let progress = SourceProgress {
            positions: def.start.clone(),
            ..SourceProgress::default()
        };
        let mut input = SourceInput::new(id, name, def, source, progress)?;
        input.is_dirty = true;
        self.sources.insert(id, input);
        Ok(id)
    }

    fn create_table(
        &mut self,
        name: QualifiedName,
        sql: String,
        mut def: TableDef,
    ) -> Result<ObjectId> {
        def.rows = self.catalog.allocate_tables(1);
        let format = table_format(&def)?;
        let id = self.catalog.allocate_object();
        let table = Table {
            name: name.name.clone(),
            rows: self.table_rows(format, 0)?,
            time: EventTime::of_table(&def)?.map(|time| TableTime::new(time, TableMark::default())),
            is_dirty: true,
        };
        self.tables.insert(id, table);
        let kind = ObjectKind::Table(def);
        self.catalog.put(Object {
            id,
            name,
            sql,
            comment: None,
            depends_on: Vec::new(),
            kind,
        });
        Ok(id)
    }

    fn drop_objects(&mut self, objects: &[ObjectId]) -> Result<()> {
        let objects = &self.with_indexes(objects);
        let outside = |o: &&Arc<Object>| !objects.contains(&o.id);
        for id in objects {
            let dependents: Vec<String> = self
                .catalog
                .dependents(*id)
                .filter(outside)
                .map(|o| o.name.to_string())
                .collect();
            if !dependents.is_empty() {
                return Err(ExecutorError::DependentObjects {
                    message: "other objects depend on what is to be dropped".into(),
                    dependents,
                });
            }
        }
        self.give_up_replacements_of(objects)?;
        for id in objects {
            let object = self.catalog.remove(*id);
            self.forget(*id, object.as_deref())?;
        }
        Ok(())
    }

    /// The objects and the indexes of those among them that have some, each once.
    fn with_indexes(&self, objects: &[ObjectId]) -> Vec<ObjectId> {
        let mut all = BTreeSet::new();
        for id in objects {
            all.insert(*id);
            all.extend(self.catalog.indexes_of(*id).map(|(index, _)| index.id));
        }
        all.into_iter().collect()
    }

    /// Stops running an object and deletes what it leaves behind.
    pub fn forget(&mut self, id: ObjectId, object: Option<&Object>) -> Result<()> {
        self.detach(id);
        if let Some(object) = object {
            if let Some(index) = object.as_index() {
                self.detach_index(id, index);
            }
            self.dropped.push(dropped(object));
        }
        self.indexing.remove(&id);
        self.tables.remove(&id);
        self.sources.remove(&id);
        self.published.remove_view(id);
        if let Some(mut view) = self.views.remove(&id) {
            view.answer_waiters(Err(ExecutorError::NotReadable {
                message: "the view was dropped".into(),
            }));
        }
        Arc::make_mut(&mut self.prefixes).remove(id);
        self.scanned_by.remove(&id);
        for views in self.scanned_by.values_mut() {
            views.remove(&id);
        }
        self.late.forget(id)?;
        self.letters.forget(id)
    }

    fn comment(
        &mut self,
        id: ObjectId,
        column: Option<String>,
        comment: Option<String>,
    ) -> Result<()> {
        let mut object = self
            .catalog
            .get(id)
            .ok_or(ExecutorError::CatalogChanged)?
            .as_ref()
            .clone();
        match column {
            None => object.comment = comment,
            Some(column) => {
                let slot = match &mut object.kind {
                    ObjectKind::Source(s) => s
                        .columns
                        .iter_mut()
                        .find(|c| c.name == column)
                        .map(|c| &mut c.comment),
                    ObjectKind::Table(t) => t
                        .columns
                        .iter_mut()
                        .find(|c| c.name == column)
                        .map(|c| &mut c.comment),
                    ObjectKind::View(v) => v
                        .columns
                        .iter_mut()
                        .find(|c| c.name == column)
                        .map(|c| &mut c.comment),
                    ObjectKind::MaterializedView(v) => v
                        .columns
                        .iter_mut()
                        .find(|c| c.name == column)
                        .map(|c| &mut c.comment),
                    ObjectKind::Index(_) => None,
                };
                *slot.ok_or(ExecutorError::CatalogChanged)? = comment;
            }
        }
        self.catalog.put(object);
        Ok(())
    }

    /// The writer's side of a table's stored rows.
    pub fn table_rows(&self, format: RowFormat, rows: u64) -> Result<RowStore> {
        RowStore::new(Arc::new(format), rows, &self.store, &self.cache)
    }

    /// The writer's side of a view's stored rows. By their key they are written and hardly ever read, so the memory for caches
    /// is left to the operators.
    pub fn view_rows(&self, format: RowFormat, rows: u64) -> Result<RowStore> {
        let uncached = CacheHandle::new(0);
        let cache = match format.layout {
            RowLayout::Keyed(_) => &uncached,
            RowLayout::Bag | RowLayout::Log => &self.cache,
        };
        RowStore::new(Arc::new(format), rows, &self.store, cache)
    }
}

/// How a table's rows are stored.
pub fn table_format(def: &TableDef) -> Result<RowFormat> {
    let fields: Vec<_> = def
        .columns
        .iter()
        .map(|c| c.data_type.field(&c.name, !c.not_null))
        .collect();
    let layout = match (def.primary_key.is_empty(), def.append_only) {
        (false, _) => RowLayout::Keyed(def.primary_key.clone()),
        (true, true) => RowLayout::Log,
        (true, false) => RowLayout::Bag,
    };
    RowFormat::new(def.rows, Arc::new(Schema::new(fields)), layout)
}

/// How a view's rows are stored: by its stream key, if it has one; behind the time by which they are forgotten.
pub fn view_format(def: &MaterializedViewDef) -> Result<RowFormat> {
    let layout = match (&def.stream_key, def.append_only) {
        (Some(key), _) => RowLayout::Keyed(key.clone()),
        (None, true) => RowLayout::Log,
        (None, false) => RowLayout::Bag,
    };
    let format = RowFormat::new(def.rows, view_schema(&def.columns), layout)?;
    match def.retention {
        None => Ok(format),
        Some(retention) => format.in_order_of(retention.column),
    }
}

fn view_schema(columns: &[OutputColumn]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|c| c.data_type.field(&c.name, c.nullable))
        .collect();
    Arc::new(Schema::new(fields))
}

/// What is deleted with an object.
pub fn dropped(object: &Object) -> Dropped {
    match &object.kind {
        ObjectKind::Source(_) => Dropped {
            tables: Vec::new(),
            meta: meta::source_key(object.id),
        },
        ObjectKind::View(_) => Dropped {
            tables: Vec::new(),
            meta: Vec::new(),
        },
        ObjectKind::Table(def) => {
            // Which of the two families depends on the layout; deleting in both is harmless.
            Dropped {
                tables: vec![(Family::Views, def.rows)],
                meta: meta::table_key(object.id),
            }
        }
        ObjectKind::MaterializedView(def) => {
            let mut tables = vec![(Family::Views, def.rows)];
            let first = def.first_state_table.0;
            // Which of the families depends on the operator; deleting in both is harmless.
            for family in [Family::State, Family::Windowed] {
                tables.extend((first..first + def.state_tables).map(|id| (family, TableId(id))));
            }
            Dropped {
                tables,
                meta: meta::view_key(object.id),
            }
        }
        ObjectKind::Index(def) => Dropped {
            tables: vec![(ROWS_FAMILY, def.entries)],
            meta: meta::index_key(object.id),
        },
    }
}
