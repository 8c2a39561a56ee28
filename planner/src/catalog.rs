//! What exists: sources, tables, views and materialized views, as one immutable value per version.
//!
//! The executor stores a catalog with the epoch that changed it, so that state and definitions never disagree.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::retention::RowRetention;
use crate::security::Security;
use crate::types::SqlType;

/// Identifies a catalog object for ever; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId(pub u32);

/// Identifies one state table (a key range of the state store) for ever; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId(pub u32);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The schema that unqualified names resolve to.
pub const DEFAULT_SCHEMA: &str = "public";

/// A schema-qualified relation name, folded as PostgreSQL folds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QualifiedName {
    pub schema: String,
    pub name: String,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == DEFAULT_SCHEMA {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
        }
    }
}

/// A column of a source or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDef {
    pub name: String,
    pub data_type: SqlType,
    pub not_null: bool,
    /// SQL text of the DEFAULT expression.
    pub default: Option<String>,
    /// SQL text of the expression of a generated column (`AS (expr)`): not read from messages, not writable.
    pub generated: Option<String>,
    /// Filled from message metadata (`INCLUDE ... AS name`), not from the payload.
    pub include: Option<Include>,
    pub comment: Option<String>,
}

/// Message metadata that `INCLUDE` turns into a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Include {
    /// The key's bytes as text (invalid UTF-8 is replaced), or BYTEA.
    Key,
    Partition,
    Offset,
    /// Broker or producer timestamp, TIMESTAMPTZ.
    Timestamp,
    /// All headers: `STRUCT<key VARCHAR, value BYTEA>[]`.
    Headers,
    /// The value of the last header of that name, BYTEA.
    Header(String),
    /// The payload's text (VARCHAR).
    Payload,
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatermarkDef {
    pub column: String,
    /// The allowed lateness in microseconds.
    pub delay_us: i64,
}

/// How messages change the relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Plain,
    Upsert,
    Debezium,
}

/// How a message's bytes become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encode {
    Json,
    Avro,
    Protobuf,
    Csv,
    Bytes,
    /// Connectors that make rows themselves (datagen).
    Native,
}

/// Next offset to read, by partition.
pub type Positions = BTreeMap<i32, i64>;

/// An external, unbounded, append-only relation that is not stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceDef {
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    /// `WITH (...)`, keys in lower case.
    pub options: BTreeMap<String, String>,
    /// Options whose values are secrets, and the names of these.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    pub format: Format,
    pub encode: Encode,
    /// `ENCODE x (...)`, keys in lower case.
    pub encode_options: BTreeMap<String, String>,
    /// Where reading starts, resolved once at CREATE; partitions found later start at their first offset.
    pub start: Positions,
}

impl SourceDef {
    /// Columns that a reader delivers, in declared order: all but the computed ones, and the computed one that the watermark
    /// is on.
    pub fn physical_columns(&self) -> impl Iterator<Item = &ColumnDef> {
        self.columns.iter().filter(|c| self.is_physical(c))
    }

    /// Whether a reader delivers the column.
    pub fn is_physical(&self, column: &ColumnDef) -> bool {
        column.generated.is_none() || self.has_watermark(column)
    }

    fn has_watermark(&self, column: &ColumnDef) -> bool {
        self.watermark
            .as_ref()
            .is_some_and(|w| w.column == column.name)
    }

    /// The computed column that the watermark is on.
    pub fn computed_time(&self) -> Option<&ColumnDef> {
        let mut computed = self.columns.iter().filter(|c| c.generated.is_some());
        computed.find(|column| self.has_watermark(column))
    }

    /// The source with nothing but what its messages hold, as a connector reads it.
    pub fn of_messages(&self) -> SourceDef {
        let mut def = self.clone();
        def.watermark = None;
        def.columns.retain(|column| column.generated.is_none());
        def
    }

    /// Schema of [`Self::physical_columns`]. Every field is nullable.
    pub fn physical_schema(&self) -> SchemaRef {
        let fields: Vec<_> = self
            .physical_columns()
            .map(|c| c.data_type.field(&c.name, true))
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// A stored relation, changed by INSERT, UPDATE and DELETE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDef {
    pub columns: Vec<ColumnDef>,
    /// Indices into `columns`; empty: no key, a bag of rows.
    pub primary_key: Vec<usize>,
    pub append_only: bool,
    pub watermark: Option<WatermarkDef>,
    /// SQL texts of CHECK constraints with their names.
    pub checks: Vec<(String, String)>,
    pub options: BTreeMap<String, String>,
    /// Where the rows are kept.
    pub rows: TableId,
}

/// A macro.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewDef {
    pub columns: Vec<OutputColumn>,
    /// Bound SQL: names qualified, stars expanded.
    pub query: String,
}

/// A column of a view's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputColumn {
    pub name: String,
    pub data_type: SqlType,
    pub nullable: bool,
    pub comment: Option<String>,
}

/// A query whose result is kept up to date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaterializedViewDef {
    pub columns: Vec<OutputColumn>,
    /// Bound SQL: names qualified, stars expanded, time zone fixed.
    pub query: String,
    pub emit_on_window_close: bool,
    pub options: BTreeMap<String, String>,
    /// Storage key of the rows: indices into the stored columns; `None`: the whole row with a multiplicity.
    pub stream_key: Option<Vec<usize>>,
    pub append_only: bool,
    /// Columns with an advancing lower bound.
    #[serde(default)]
    pub watermark_columns: Vec<usize>,
    /// How long rows are kept; `None`: for ever.
    #[serde(default)]
    pub retention: Option<RowRetention>,
    /// Where the rows are kept.
    pub rows: TableId,
    /// State tables of the plan's operators are `first_state_table .. first_state_table + state_tables`.
    pub first_state_table: TableId,
    pub state_tables: u32,
    /// Of the plan's state layout; differs after an upgrade that lays state out differently.
    pub fingerprint: u64,
}

/// A second order of a table's or materialized view's rows, kept in the same commits as the rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexDef {
    /// Whose rows.
    pub relation: ObjectId,
    pub columns: Vec<IndexColumn>,
    /// Said so, and true because the columns include the primary key.
    pub is_unique: bool,
    /// It has an entry for every row; until then no query uses it.
    pub is_complete: bool,
    /// Where its entries are kept.
    pub entries: TableId,
}

/// A column of an index and how it is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// Index into the relation's columns.
    pub column: usize,
    pub is_descending: bool,
    pub nulls_first: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ObjectKind {
    Source(SourceDef),
    Table(TableDef),
    View(ViewDef),
    MaterializedView(MaterializedViewDef),
    Index(IndexDef),
}

/// One catalog object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    pub id: ObjectId,
    pub name: QualifiedName,
    /// The statement as the user wrote it (secrets are issue for SHOW to mask).
    pub sql: String,
    pub comment: Option<String>,
    /// Objects this one reads.
    pub depends_on: Vec<ObjectId>,
    pub kind: ObjectKind,
}

impl Object {
    /// "source", "table", "view", "materialized view" or "index".
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            ObjectKind::Source(_) => "source",
            ObjectKind::Table(_) => "table",
            ObjectKind::View(_) => "view",
            ObjectKind::MaterializedView(_) => "materialized view",
            ObjectKind::Index(_) => "index",
        }
    }

    /// The index's definition, if it is one.
    pub fn as_index(&self) -> Option<&IndexDef> {
        match &self.kind {
            ObjectKind::Index(index) => Some(index),
            ObjectKind::Source(_)
            | ObjectKind::Table(_)
            | ObjectKind::View(_)
            | ObjectKind::MaterializedView(_) => None,
        }
    }

    /// The relation's columns as a query sees them; an index has none, since no query names it.
    pub fn schema(&self) -> SchemaRef {
        let of_columns = |columns: &[ColumnDef]| -> Vec<_> {
            columns
                .iter()
                .map(|c| c.data_type.field(&c.name, !c.not_null))
                .collect()
        };
        let of_output = |columns: &[OutputColumn]| -> Vec<_> {
            columns
                .iter()
                .map(|c| c.data_type.field(&c.name, c.nullable))
                .collect()
        };
        let fields = match &self.kind {
            ObjectKind::Source(s) => of_columns(&s.columns),
            ObjectKind::Table(t) => of_columns(&t.columns),
            ObjectKind::View(v) => of_output(&v.columns),
            ObjectKind::MaterializedView(m) => of_output(&m.columns),
            ObjectKind::Index(_) => Vec::new(),
        };
        Arc::new(Schema::new(fields))
    }
}

/// Everything that exists, at one version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Grows with every change.
    pub version: u64,
    next_object: u32,
    next_table: u32,
    schemas: Vec<String>,
    objects: BTreeMap<ObjectId, Arc<Object>>,
    /// Under construction; nobody sees them but the executor.
    #[serde(default)]
    replacements: Vec<Replacement>,
    /// Roles, owners and grants.
    #[serde(default)]
    pub security: Security,
}

/// Materialized views that are built beside those they will replace, all in the same epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replacement {
    /// Each replaced view with its successor, in the order in which they depend on one another. The first is the one
    /// that the statement named.
    pub members: Vec<(ObjectId, Arc<Object>)>,
}

impl Catalog {
    /// A catalog with the default schema and nothing in it.
    pub fn new() -> Self {
        Catalog {
            version: 1,
            next_object: 1,
            next_table: 1,
            schemas: vec![DEFAULT_SCHEMA.to_string()],
            objects: BTreeMap::new(),
            replacements: Vec::new(),
            security: Security::default(),
        }
    }

    pub fn schemas(&self) -> &[String] {
        &self.schemas
    }

    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    pub fn find(&self, name: &QualifiedName) -> Option<&Arc<Object>> {
        self.objects.values().find(|o| o.name == *name)
    }

    /// Objects that read `id` directly.
    pub fn dependents(&self, id: ObjectId) -> impl Iterator<Item = &Arc<Object>> {
        self.objects
            .values()
            .filter(move |o| o.depends_on.contains(&id))
    }

    /// The indexes of a relation, oldest first.
    pub fn indexes_of(&self, relation: ObjectId) -> impl Iterator<Item = (&Object, &IndexDef)> {
        let index_of =
            move |o: &'_ Arc<Object>| o.as_index().is_some_and(|i| i.relation == relation);
        let indexes = self.objects.values().filter(move |o| index_of(o));
        indexes.filter_map(|o| Some((o.as_ref(), o.as_index()?)))
    }

    pub fn replacements(&self) -> &[Replacement] {
        &self.replacements
    }

    /// Whether `id` is a view under construction that will replace another.
    pub fn is_successor(&self, id: ObjectId) -> bool {
        self.replacements
            .iter()
            .flat_map(|r| &r.members)
            .any(|(_, object)| object.id == id)
    }

    /// The replacement that has to do with `id`, if one does.
    pub fn replacement_of(&self, id: ObjectId) -> Option<&Replacement> {
        self.replacements.iter().find(|r| r.involves(id))
    }

    /// Begins a replacement; its successors get the ids they were planned with.
    pub fn add_replacement(&mut self, replacement: Replacement) {
        self.version += 1;
        for (_, object) in &replacement.members {
            self.next_object = self.next_object.max(object.id.0 + 1);
        }
        self.replacements.push(replacement);
    }

    /// Gives up a replacement, by the successor of its first member.
    pub fn remove_replacement(&mut self, first: ObjectId) -> Option<Replacement> {
        let at = self
            .replacements
            .iter()
            .position(|r| r.first() == Some(first))?;
        self.version += 1;
        Some(self.replacements.remove(at))
    }

    /// The successors take the places of what they replace.
    pub fn complete_replacement(&mut self, replacement: &Replacement) {
        for (old, object) in &replacement.members {
            self.replace(*old, object.clone());
        }
    }

    /// `object` takes the place of `old`; what read that one reads it.
    pub fn replace(&mut self, old: ObjectId, object: Arc<Object>) {
        self.version += 1;
        let new = object.id;
        self.objects.remove(&old);
        self.objects.insert(new, object);
        self.security.relation_replaced(old, new);
        for reader in self.objects.values_mut() {
            if reader.depends_on.contains(&old) {
                let reader = Arc::make_mut(reader);
                for id in &mut reader.depends_on {
                    if *id == old {
                        *id = new;
                    }
                }
                reader.depends_on.sort();
                if let ObjectKind::Index(index) = &mut reader.kind {
                    index.relation = new;
                }
            }
        }
    }

    /// The id that the next object gets: those of all others are less.
    pub fn next_object(&self) -> ObjectId {
        ObjectId(self.next_object)
    }

    /// A fresh object id.
    pub fn allocate_object(&mut self) -> ObjectId {
        self.next_object += 1;
        ObjectId(self.next_object - 1)
    }

    /// The first of `count` fresh, consecutive state table ids.
    pub fn allocate_tables(&mut self, count: u32) -> TableId {
        self.next_table += count;
        TableId(self.next_table - count)
    }

    /// Never gives out again what `previous` has given out.
    pub fn keep_allocated(&mut self, previous: &Catalog) {
        self.next_object = self.next_object.max(previous.next_object);
        self.next_table = self.next_table.max(previous.next_table);
    }

    /// Adds an object, or replaces the one with the same id.
    pub fn put(&mut self, object: Object) {
        self.version += 1;
        self.objects.insert(object.id, Arc::new(object));
    }

    pub fn remove(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        self.version += 1;
        self.security.relation_dropped(id);
        self.objects.remove(&id)
    }

    /// Leaves objects out, for who is not to see them.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&Object) -> bool) {
        self.objects.retain(|_, object| is_kept(object));
    }

    /// A relation was created by somebody.
    pub fn now_belongs_to(&mut self, id: ObjectId, creator: &str) {
        if let Some(object) = self.objects.get(&id)
            && object.as_index().is_none()
        {
            self.security
                .relation_created(id, &object.name.schema, creator);
        }
    }

    /// Goes on with other roles, owners and grants.
    pub fn secure(&mut self, security: Security) {
        self.version += 1;
        self.security = security;
    }

    pub fn add_schema(&mut self, name: &str) {
        self.version += 1;
        self.schemas.push(name.to_string());
    }

    pub fn remove_schema(&mut self, name: &str) {
        self.version += 1;
        self.schemas.retain(|s| s != name);
        self.security.schema_dropped(name);
    }
}
