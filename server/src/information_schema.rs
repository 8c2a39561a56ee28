//! The live tables of `information_schema`, with the columns that clients and BI tools read.

use rivermark_planner::catalog::{Catalog, ObjectKind};
use rivermark_planner::types::SqlType;

use crate::catalog::{DATABASE_NAME, SYSTEM_SCHEMAS};
use crate::pg_catalog::{oids, relations, roles};
use crate::rows::ColumnType::{Int4, Text};
use crate::rows::{Cell, Column, Rows};

/// Names of the relations of this schema.
pub const TABLES: &[&str] = &[
    "columns",
    "key_column_usage",
    "schemata",
    "table_constraints",
    "tables",
    "views",
];

/// The relation of that name.
pub fn table(
    name: &str,
    catalog: &Catalog,
    system: &[relations::SystemRelation],
    user: &str,
) -> Option<Rows> {
    match name {
        "schemata" => Some(schemata(catalog, user)),
        "tables" => Some(tables(catalog, system)),
        "columns" => Some(columns(catalog, system)),
        "views" => Some(views(catalog)),
        "table_constraints" => Some(table_constraints(catalog)),
        "key_column_usage" => Some(key_column_usage(catalog)),
        _ => None,
    }
}

const SCHEMATA: &[Column] = &[
    ("catalog_name", Text),
    ("schema_name", Text),
    ("schema_owner", Text),
    ("default_character_set_catalog", Text),
    ("default_character_set_schema", Text),
    ("default_character_set_name", Text),
    ("sql_path", Text),
];

fn schemata(catalog: &Catalog, user: &str) -> Rows {
    let mut rows = Rows::new(SCHEMATA);
    let own = catalog.schemas().iter().map(String::as_str);
    for name in SYSTEM_SCHEMAS.iter().copied().chain(own) {
        let unknown = [Cell::Null, Cell::Null, Cell::Null, Cell::Null];
        let owner = roles::schema_owner(name, catalog, user);
        let known = [DATABASE_NAME.into(), name.into(), owner.into()];
        rows.push(known.into_iter().chain(unknown).collect());
    }
    rows
}

const TABLE_COLUMNS: &[Column] = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("table_type", Text),
    ("self_referencing_column_name", Text),
    ("reference_generation", Text),
    ("user_defined_type_catalog", Text),
    ("user_defined_type_schema", Text),
    ("user_defined_type_name", Text),
    ("is_insertable_into", Text),
    ("is_typed", Text),
    ("commit_action", Text),
];

/// Materialized views are listed too (as views), because tools that build queries look nowhere else.
fn tables(catalog: &Catalog, system: &[relations::SystemRelation]) -> Rows {
    let mut rows = Rows::new(TABLE_COLUMNS);
    let mut push = |schema: &str, name: &str, kind: &str| {
        rows.push_named(&[
            ("table_catalog", DATABASE_NAME.into()),
            ("table_schema", schema.into()),
            ("table_name", name.into()),
            ("table_type", kind.into()),
            ("self_referencing_column_name", Cell::Null),
            ("reference_generation", Cell::Null),
            ("user_defined_type_catalog", Cell::Null),
            ("user_defined_type_schema", Cell::Null),
            ("user_defined_type_name", Cell::Null),
            (
                "is_insertable_into",
                if kind == "BASE TABLE" { "YES" } else { "NO" }.into(),
            ),
            ("is_typed", "NO".into()),
            ("commit_action", Cell::Null),
        ]);
    };
    for object in catalog.objects() {
        let kind = match &object.kind {
            ObjectKind::Source(_) => "FOREIGN",
            ObjectKind::Table(_) => "BASE TABLE",
            ObjectKind::View(_) | ObjectKind::MaterializedView(_) => "VIEW",
            ObjectKind::Index(_) => continue,
        };
        push(&object.name.schema, &object.name.name, kind);
    }
    for relation in system {
        push(
            relation.schema,
            &relation.name,
            if relation.schema == "pg_catalog" {
                "BASE TABLE"
            } else {
                "VIEW"
            },
        );
    }
    rows
}

const COLUMN_COLUMNS: &[Column] = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("column_name", Text),
    ("ordinal_position", Int4),
    ("column_default", Text),
    ("is_nullable", Text),
    ("data_type", Text),
    ("character_maximum_length", Int4),
    ("character_octet_length", Int4),
    ("numeric_precision", Int4),
    ("numeric_precision_radix", Int4),
    ("numeric_scale", Int4),
    ("datetime_precision", Int4),
    ("interval_type", Text),
    ("udt_catalog", Text),
    ("udt_schema", Text),
    ("udt_name", Text),
    ("dtd_identifier", Text),
    ("is_self_referencing", Text),
    ("is_identity", Text),
    ("identity_generation", Text),
    ("is_generated", Text),
    ("generation_expression", Text),
    ("is_updatable", Text),
];

/// The type's name as `information_schema.columns.data_type` has it.
fn data_type_name(data_type: &SqlType) -> String {
    match data_type {
        SqlType::Array(_) => "ARRAY".to_string(),
        SqlType::Numeric { .. } => "numeric".to_string(),
        SqlType::Text {
            max_length: Some(_),
        } => "character varying".to_string(),
        SqlType::Struct(_) => "USER-DEFINED".to_string(),
        other => other.to_string(),
    }
}

/// Binary or decimal precision, its radix, and the scale of a number type.
fn numeric_facts(data_type: &SqlType) -> (Cell, Cell, Cell) {
    let binary = |bits: i32, scale: Cell| (bits.into(), 2.into(), scale);
    match data_type {
        SqlType::SmallInt => binary(16, 0.into()),
        SqlType::Integer => binary(32, 0.into()),
        SqlType::BigInt => binary(64, 0.into()),
        SqlType::Real => binary(24, Cell::Null),
        SqlType::Double => binary(53, Cell::Null),
        SqlType::Numeric { precision, scale } => (
            i32::from(*precision).into(),
            10.into(),
            i32::from(*scale).into(),
        ),
        _ => (Cell::Null, Cell::Null, Cell::Null),
    }
}

fn columns(catalog: &Catalog, system: &[relations::SystemRelation]) -> Rows {
    let mut rows = Rows::new(COLUMN_COLUMNS);
    let mut push = |schema: &str,
                    table: &str,
                    number: usize,
                    column: &relations::Attribute,
                    is_table: bool| {
        let (precision, radix, scale) = numeric_facts(&column.data_type);
        let length = match &column.data_type {
            SqlType::Text {
                max_length: Some(n),
            } => Cell::Int(i64::from(*n)),
            _ => Cell::Null,
        };
        let time = match &column.data_type {
            SqlType::Date => Cell::Int(0),
            SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval => {
                Cell::Int(6)
            }
            _ => Cell::Null,
        };
        let expression: Cell = column.expression.clone().into();
        let (default, generated) = if column.is_generated {
            (Cell::Null, expression)
        } else {
            (expression, Cell::Null)
        };
        rows.push(vec![
            DATABASE_NAME.into(),
            schema.into(),
            table.into(),
            column.name.as_str().into(),
            Cell::Int(number as i64),
            default,
            if column.not_null { "NO" } else { "YES" }.into(),
            data_type_name(&column.data_type).into(),
            length,
            Cell::Null,
            precision,
            radix,
            scale,
            time,
            Cell::Null,
            DATABASE_NAME.into(),
            "pg_catalog".into(),
            oids::type_facts(&column.data_type).name.into(),
            number.to_string().into(),
            "NO".into(),
            "NO".into(),
            Cell::Null,
            if column.is_generated {
                "ALWAYS"
            } else {
                "NEVER"
            }
            .into(),
            generated,
            if is_table { "YES" } else { "NO" }.into(),
        ]);
    };
    for object in catalog.objects() {
        let is_table = matches!(object.kind, ObjectKind::Table(_));
        for (i, column) in relations::attributes(object).iter().enumerate() {
            push(
                &object.name.schema,
                &object.name.name,
                i + 1,
                column,
                is_table,
            );
        }
    }
    for relation in system {
        for (i, (name, data_type)) in relation.columns.iter().enumerate() {
            let column = relations::Attribute {
                name: name.clone(),
                data_type: data_type.clone(),
                not_null: false,
                expression: None,
                is_generated: false,
                comment: None,
            };
            push(relation.schema, &relation.name, i + 1, &column, false);
        }
    }
    rows
}

const VIEW_COLUMNS: &[Column] = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("view_definition", Text),
    ("check_option", Text),
    ("is_updatable", Text),
    ("is_insertable_into", Text),
    ("is_trigger_updatable", Text),
    ("is_trigger_deletable", Text),
    ("is_trigger_insertable_into", Text),
];

fn views(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(VIEW_COLUMNS);
    for object in catalog.objects() {
        let ObjectKind::View(view) = &object.kind else {
            continue;
        };
        let known: [Cell; 5] = [
            DATABASE_NAME.into(),
            object.name.schema.as_str().into(),
            object.name.name.as_str().into(),
            view.query.as_str().into(),
            "NONE".into(),
        ];
        rows.push(
            known
                .into_iter()
                .chain(std::iter::repeat_n("NO".into(), 5))
                .collect(),
        );
    }
    rows
}

const TABLE_CONSTRAINTS: &[Column] = &[
    ("constraint_catalog", Text),
    ("constraint_schema", Text),
    ("constraint_name", Text),
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("constraint_type", Text),
    ("is_deferrable", Text),
    ("initially_deferred", Text),
    ("enforced", Text),
];

fn table_constraints(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(TABLE_CONSTRAINTS);
    for object in catalog.objects() {
        let ObjectKind::Table(table) = &object.kind else {
            continue;
        };
        let key =
            relations::keyed_table(object).map(|_| (relations::key_name(object), "PRIMARY KEY"));
        let checks = table.checks.iter().map(|(name, _)| (name.clone(), "CHECK"));
        for (name, kind) in key.into_iter().chain(checks) {
            rows.push(vec![
                DATABASE_NAME.into(),
                object.name.schema.as_str().into(),
                name.into(),
                DATABASE_NAME.into(),
                object.name.schema.as_str().into(),
                object.name.name.as_str().into(),
                kind.into(),
                "NO".into(),
                "NO".into(),
                "YES".into(),
            ]);
        }
    }
    rows
}

const KEY_COLUMN_USAGE: &[Column] = &[
    ("constraint_catalog", Text),
    ("constraint_schema", Text),
    ("constraint_name", Text),
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("column_name", Text),
    ("ordinal_position", Int4),
    ("position_in_unique_constraint", Int4),
];

fn key_column_usage(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(KEY_COLUMN_USAGE);
    for object in catalog.objects() {
        let Some(table) = relations::keyed_table(object) else {
            continue;
        };
        for (i, column) in table.primary_key.iter().enumerate() {
            rows.push(vec![
                DATABASE_NAME.into(),
                object.name.schema.as_str().into(),
                relations::key_name(object).into(),
                DATABASE_NAME.into(),
                object.name.schema.as_str().into(),
                object.name.name.as_str().into(),
                table.columns[*column].name.as_str().into(),
                Cell::Int(i as i64 + 1),
                Cell::Null,
            ]);
        }
    }
    rows
}
