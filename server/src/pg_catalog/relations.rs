//! The live tables of pg_catalog: `pg_class` and those that describe its rows.

use rivermark_planner::catalog::{Catalog, Object, ObjectKind, OutputColumn, TableDef};
use rivermark_planner::definition::{MASK, is_secret_option};
use rivermark_planner::security::GrantTarget;
use rivermark_planner::types::SqlType;

use super::indexes::{has_index, indexes};
use super::oids::{self, TypeFacts};
use super::roles;
use crate::rows::ColumnType::{Bool, Float8, Int2, Int4, Oid, Text, TextArray};
use crate::rows::{Cell, Column, Rows};

/// A relation that the server itself provides.
#[derive(Debug, Clone)]
pub struct SystemRelation {
    pub schema: &'static str,
    pub name: String,
    pub columns: Vec<(String, SqlType)>,
}

impl SystemRelation {
    /// Its oid: PostgreSQL's for the four that clients name, else by position in the list.
    pub fn oid(&self, position: usize) -> i64 {
        match (self.schema, self.name.as_str()) {
            ("pg_catalog", "pg_type") => 1247,
            ("pg_catalog", "pg_attribute") => 1249,
            ("pg_catalog", "pg_proc") => 1255,
            ("pg_catalog", "pg_class") => 1259,
            _ => oids::SYSTEM_RELATIONS + position as i64,
        }
    }
}

/// A column of any relation, as pg_attribute needs it.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub name: String,
    pub data_type: SqlType,
    pub not_null: bool,
    /// DEFAULT or generation expression.
    pub expression: Option<String>,
    pub is_generated: bool,
    pub comment: Option<String>,
}

/// The columns of a catalog object.
pub fn attributes(object: &Object) -> Vec<Attribute> {
    let of_output = |columns: &[OutputColumn]| -> Vec<Attribute> {
        let attribute = |c: &OutputColumn| Attribute {
            name: c.name.clone(),
            data_type: c.data_type.clone(),
            not_null: false,
            expression: None,
            is_generated: false,
            comment: c.comment.clone(),
        };
        columns.iter().map(attribute).collect()
    };
    let columns = match &object.kind {
        ObjectKind::Source(source) => &source.columns,
        ObjectKind::Table(table) => &table.columns,
        ObjectKind::View(view) => return of_output(&view.columns),
        ObjectKind::MaterializedView(view) => return of_output(&view.columns),
        // Its columns are its relation's: see `indexes`.
        ObjectKind::Index(_) => return Vec::new(),
    };
    let columns = columns.iter().map(|c| Attribute {
        name: c.name.clone(),
        data_type: c.data_type.clone(),
        not_null: c.not_null,
        expression: c.generated.clone().or_else(|| c.default.clone()),
        is_generated: c.generated.is_some(),
        comment: c.comment.clone(),
    });
    columns.collect()
}

/// `pg_class.relkind`.
pub fn relkind(object: &Object) -> &'static str {
    match &object.kind {
        ObjectKind::Source(_) => "f",
        ObjectKind::Table(_) => "r",
        ObjectKind::View(_) => "v",
        ObjectKind::MaterializedView(_) => "m",
        ObjectKind::Index(_) => "i",
    }
}

/// The table's definition, if it is a table with a primary key.
pub fn keyed_table(object: &Object) -> Option<&TableDef> {
    match &object.kind {
        ObjectKind::Table(table) if !table.primary_key.is_empty() => Some(table),
        _ => None,
    }
}

/// The name of a table's primary key.
pub fn key_name(object: &Object) -> String {
    format!("{}_pkey", object.name.name)
}

const CLASS: &[Column] = &[
    ("oid", Oid),
    ("relname", Text),
    ("relnamespace", Oid),
    ("reltype", Oid),
    ("reloftype", Oid),
    ("relowner", Oid),
    ("relam", Oid),
    ("relfilenode", Oid),
    ("reltablespace", Oid),
    ("relpages", Int4),
    ("reltuples", Float8),
    ("relallvisible", Int4),
    ("reltoastrelid", Oid),
    ("relhasindex", Bool),
    ("relisshared", Bool),
    ("relpersistence", Text),
    ("relkind", Text),
    ("relnatts", Int2),
    ("relchecks", Int2),
    ("relhasrules", Bool),
    ("relhastriggers", Bool),
    ("relhassubclass", Bool),
    ("relrowsecurity", Bool),
    ("relforcerowsecurity", Bool),
    ("relispopulated", Bool),
    ("relreplident", Text),
    ("relispartition", Bool),
    ("relrewrite", Oid),
    ("relfrozenxid", Int4),
    ("relminmxid", Int4),
    ("relacl", TextArray),
    ("reloptions", TextArray),
    ("relpartbound", Text),
];

/// PostgreSQL's oid of the access method `heap`.
const HEAP: i64 = 2;
/// PostgreSQL's oid of the access method `btree`.
const BTREE: i64 = 403;

/// How many CHECK constraints an object has, and its options (a source's are in pg_foreign_table).
fn storage_facts(object: &Object) -> (usize, Vec<String>) {
    let (checks, options) = match &object.kind {
        ObjectKind::Table(t) => (t.checks.len(), Some(&t.options)),
        ObjectKind::MaterializedView(m) => (0, Some(&m.options)),
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Index(_) => (0, None),
    };
    let options = options.into_iter().flatten();
    (
        checks,
        options
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
    )
}

pub fn pg_class(catalog: &Catalog, system: &[SystemRelation], user: &str) -> Rows {
    let mut rows = Rows::new(CLASS);
    let mut push = |oid: i64, name: &str, schema: i64, kind: &str, more: &[(&str, Cell)]| {
        let mut cells: Vec<(&str, Cell)> = more.to_vec();
        // what is given twice counts as it was given first
        cells.extend([
            ("oid", oid.into()),
            ("relname", name.into()),
            ("relnamespace", schema.into()),
            ("relowner", oids::OWNER.into()),
            ("relpersistence", "p".into()),
            ("relkind", kind.into()),
            ("relispopulated", true.into()),
            (
                "relreplident",
                if matches!(kind, "r" | "m") { "d" } else { "n" }.into(),
            ),
            ("reltuples", Cell::Float(-1.0)),
            ("relpartbound", Cell::Null),
        ]);
        rows.push_named(&cells);
    };
    for (position, relation) in system.iter().enumerate() {
        let kind = if relation.schema == "pg_catalog" {
            "r"
        } else {
            "v"
        };
        let columns = [("relnatts", Cell::Int(relation.columns.len() as i64))];
        push(
            relation.oid(position),
            &relation.name,
            oids::schema(relation.schema),
            kind,
            &columns,
        );
    }
    for object in catalog.objects().filter(|o| relkind(o) != "i") {
        let kind = relkind(object);
        let schema = oids::schema(&object.name.schema);
        let (checks, options) = storage_facts(object);
        let more = [
            ("reltype", oids::row_type(object.id).into()),
            (
                "relam",
                if matches!(kind, "r" | "m") { HEAP } else { 0 }.into(),
            ),
            ("relnatts", Cell::Int(attributes(object).len() as i64)),
            ("relchecks", Cell::Int(checks as i64)),
            ("relhasindex", has_index(catalog, object).into()),
            ("relhasrules", matches!(kind, "v" | "m").into()),
            ("relowner", roles::owner_oid(object, catalog).into()),
            (
                "relacl",
                roles::acl(
                    catalog,
                    &GrantTarget::Relation(object.id),
                    catalog.owner(object),
                    user,
                ),
            ),
            (
                "reloptions",
                if options.is_empty() {
                    Cell::Null
                } else {
                    Cell::Texts(options)
                },
            ),
        ];
        push(
            oids::relation(object.id),
            &object.name.name,
            schema,
            kind,
            &more,
        );
    }
    for index in indexes(catalog) {
        let more = [
            ("relam", BTREE.into()),
            ("relnatts", Cell::Int(index.columns.len() as i64)),
        ];
        let schema = oids::schema(index.schema);
        push(index.oid, &index.name, schema, "i", &more);
    }
    rows
}

const ATTRIBUTE: &[Column] = &[
    ("attrelid", Oid),
    ("attname", Text),
    ("atttypid", Oid),
    ("attstattarget", Int4),
    ("attlen", Int2),
    ("attnum", Int2),
    ("attndims", Int4),
    ("attcacheoff", Int4),
    ("atttypmod", Int4),
    ("attbyval", Bool),
    ("attalign", Text),
    ("attstorage", Text),
    ("attcompression", Text),
    ("attnotnull", Bool),
    ("atthasdef", Bool),
    ("atthasmissing", Bool),
    ("attidentity", Text),
    ("attgenerated", Text),
    ("attisdropped", Bool),
    ("attislocal", Bool),
    ("attinhcount", Int4),
    ("attcollation", Oid),
    ("attacl", TextArray),
    ("attoptions", TextArray),
    ("attfdwoptions", TextArray),
    ("attmissingval", Text),
];

/// PostgreSQL's oid of the collation `default`.
const DEFAULT_COLLATION: i64 = 100;

pub fn pg_attribute(catalog: &Catalog, system: &[SystemRelation]) -> Rows {
    let mut rows = Rows::new(ATTRIBUTE);
    let mut push =
        |relation: i64, number: usize, name: &str, data_type: &SqlType, more: &[(&str, Cell)]| {
            let TypeFacts {
                oid,
                length,
                by_value,
                align,
                storage,
                modifier,
                ..
            } = oids::type_facts(data_type);
            let is_text = matches!(oid, 25 | 1043 | 1009 | 1015);
            let mut cells: Vec<(&str, Cell)> = vec![
                ("attrelid", relation.into()),
                ("attname", name.into()),
                ("atttypid", oid.into()),
                ("attstattarget", Cell::Int(-1)),
                ("attlen", length.into()),
                ("attnum", Cell::Int(number as i64)),
                (
                    "attndims",
                    i32::from(matches!(data_type, SqlType::Array(_))).into(),
                ),
                ("attcacheoff", Cell::Int(-1)),
                ("atttypmod", modifier.into()),
                ("attbyval", by_value.into()),
                ("attalign", align.into()),
                ("attstorage", storage.into()),
                ("attislocal", true.into()),
                (
                    "attcollation",
                    if is_text { DEFAULT_COLLATION } else { 0 }.into(),
                ),
                ("attmissingval", Cell::Null),
            ];
            cells.extend_from_slice(more);
            rows.push_named(&cells);
        };
    for (position, relation) in system.iter().enumerate() {
        for (i, (name, data_type)) in relation.columns.iter().enumerate() {
            push(relation.oid(position), i + 1, name, data_type, &[]);
        }
    }
    for object in catalog.objects() {
        let columns = attributes(object);
        for (i, column) in columns.iter().enumerate() {
            let more = [
                ("attnotnull", column.not_null.into()),
                ("atthasdef", column.expression.is_some().into()),
                (
                    "attgenerated",
                    if column.is_generated { "s" } else { "" }.into(),
                ),
            ];
            push(
                oids::relation(object.id),
                i + 1,
                &column.name,
                &column.data_type,
                &more,
            );
        }
    }
    for index in indexes(catalog) {
        let columns = attributes(index.relation);
        for (i, column) in index.columns.iter().enumerate() {
            let column = &columns[column.column];
            push(index.oid, i + 1, &column.name, &column.data_type, &[]);
        }
    }
    rows
}

/// An option's value as it may be shown: secrets are masked.
pub fn shown_option<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret_option(name) { MASK } else { value }
}
