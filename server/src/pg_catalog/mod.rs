//! The schema `pg_catalog`: live tables made from our catalog, static ones (types, functions, operators) from
//! `datafusion-pg-catalog`, PostgreSQL's system functions, and the rewriting that client tools' statements need.

pub mod array_functions;
pub mod definitions;
mod details;
mod function_registry;
pub mod functions;
pub mod indexes;
pub mod oids;
mod reg;
pub mod relations;
pub mod rewrite;
pub mod roles;
mod signals;
mod sleep;
mod static_tables;
mod time_zones;
mod views;

use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use rivermark_planner::Catalog;
use rivermark_planner::types::SqlType;

use crate::pg_error::PgError;
use crate::rows::ColumnType::{Bool, Int4, Oid, Text};
use crate::rows::{Column, Rows};
use crate::sessions::SessionRow;
use crate::settings::Settings;
use crate::{catalog, information_schema, system_views};
use relations::SystemRelation;

/// What the live tables are made from.
pub struct Scope {
    pub catalog: Arc<Catalog>,
    pub settings: Settings,
    pub user: String,
    pub sessions: Vec<SessionRow>,
}

/// Tables that are always empty here and that the static tables lack.
const EMPTY_TABLES: &[(&str, &[Column])] = &[
    (
        "pg_available_extensions",
        &[
            ("name", Text),
            ("default_version", Text),
            ("installed_version", Text),
            ("comment", Text),
        ],
    ),
    (
        "pg_cursors",
        &[("name", Text), ("statement", Text), ("is_holdable", Bool)],
    ),
    ("pg_group", &[("groname", Text), ("grosysid", Oid)]),
    (
        "pg_locks",
        &[
            ("locktype", Text),
            ("database", Oid),
            ("relation", Oid),
            ("pid", Int4),
            ("mode", Text),
        ],
    ),
    (
        "pg_parameter_acl",
        &[("oid", Oid), ("parname", Text), ("paracl", Text)],
    ),
    (
        "pg_prepared_statements",
        &[("name", Text), ("statement", Text)],
    ),
    (
        "pg_sequences",
        &[
            ("schemaname", Text),
            ("sequencename", Text),
            ("sequenceowner", Text),
        ],
    ),
    (
        "pg_transform",
        &[("oid", Oid), ("trftype", Oid), ("trflang", Oid)],
    ),
    (
        "pg_ts_config_map",
        &[
            ("mapcfg", Oid),
            ("maptokentype", Int4),
            ("mapseqno", Int4),
            ("mapdict", Oid),
        ],
    ),
];

/// Names of the live tables.
const LIVE_TABLES: &[&str] = &[
    "pg_attrdef",
    "pg_attribute",
    "pg_authid",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_database",
    "pg_default_acl",
    "pg_description",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_matviews",
    "pg_namespace",
    "pg_rewrite",
    "pg_roles",
    "pg_settings",
    "pg_shadow",
    "pg_stat_activity",
    "pg_tables",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_user",
    "pg_views",
];

fn live_table(name: &str, scope: &Scope, system: &[SystemRelation]) -> Option<Rows> {
    let catalog = &scope.catalog;
    Some(match name {
        "pg_attrdef" => details::pg_attrdef(catalog),
        "pg_attribute" => relations::pg_attribute(catalog, system),
        "pg_class" => relations::pg_class(catalog, system, &scope.user),
        "pg_collation" => views::pg_collation(),
        "pg_constraint" => details::pg_constraint(catalog),
        "pg_database" => views::pg_database(catalog, &scope.user),
        "pg_default_acl" => roles::pg_default_acl(catalog, &scope.user),
        "pg_description" => details::pg_description(catalog),
        "pg_foreign_data_wrapper" => views::pg_foreign_data_wrapper(),
        "pg_foreign_server" => views::pg_foreign_server(),
        "pg_foreign_table" => details::pg_foreign_table(catalog),
        "pg_index" => details::pg_index(catalog),
        "pg_indexes" => views::pg_indexes(catalog),
        "pg_matviews" => views::pg_matviews(catalog, &scope.user),
        "pg_namespace" => views::pg_namespace(catalog, &scope.user),
        "pg_rewrite" => details::pg_rewrite(catalog),
        "pg_roles" | "pg_authid" => roles::pg_roles(catalog, &scope.user),
        "pg_settings" => views::pg_settings(&scope.settings),
        "pg_stat_activity" => views::pg_stat_activity(&scope.sessions),
        "pg_tables" => views::pg_tables(catalog, system, &scope.user),
        "pg_timezone_abbrevs" => Rows::new(time_zones::ABBREVIATIONS),
        "pg_timezone_names" => time_zones::names(),
        "pg_user" | "pg_shadow" => roles::pg_user(catalog, &scope.user),
        "pg_views" => views::pg_views(catalog, &scope.user),
        _ => {
            let (_, columns) = EMPTY_TABLES.iter().find(|(n, _)| *n == name)?;
            Rows::new(columns)
        }
    })
}

/// Whether there is a table of that name.
pub fn has(name: &str) -> bool {
    let is_relation = || {
        system_relations()
            .iter()
            .any(|r| r.schema == "pg_catalog" && r.name == name)
    };
    name.starts_with("pg_") && (name == static_tables::KEYWORDS || is_relation())
}

/// The table of that name, or `None`.
pub fn table(name: &str, scope: &Scope) -> Result<Option<Arc<dyn TableProvider>>, PgError> {
    if let Some(rows) = live_table(name, scope, system_relations()) {
        return catalog::provider(&rows).map(Some);
    }
    Ok(static_tables::table(name))
}

static SYSTEM_RELATIONS: LazyLock<Vec<SystemRelation>> = LazyLock::new(|| {
    let scope = Scope {
        catalog: Arc::new(Catalog::new()),
        settings: Settings::default(),
        user: String::new(),
        sessions: Vec::new(),
    };
    let describe =
        |schema: &'static str, name: &str, fields: &arrow::datatypes::Fields| SystemRelation {
            schema,
            name: name.to_string(),
            columns: fields
                .iter()
                .map(|f| (f.name().clone(), SqlType::of_field(f)))
                .collect(),
        };
    let mut names: Vec<&str> = static_tables::names()
        .chain(LIVE_TABLES.iter().copied())
        .collect();
    names.extend(EMPTY_TABLES.iter().map(|(name, _)| *name));
    names.sort_unstable();
    names.dedup();
    let mut relations = Vec::new();
    for name in names {
        let schema = match live_table(name, &scope, &[]) {
            Some(rows) => Some(rows.schema()),
            None => static_tables::table(name).map(|t| t.schema()),
        };
        relations.extend(schema.map(|s| describe("pg_catalog", name, s.fields())));
    }
    for name in information_schema::TABLES {
        let rows = information_schema::table(name, &scope.catalog, &[], "");
        relations.extend(rows.map(|r| describe("information_schema", name, r.schema().fields())));
    }
    for (name, columns) in system_views::VIEWS {
        relations.push(describe(
            "rivermark",
            name,
            crate::rows::schema(columns).fields(),
        ));
    }
    relations
});

/// Every relation that the server itself provides, in an order that only grows.
pub fn system_relations() -> &'static [SystemRelation] {
    &SYSTEM_RELATIONS
}

/// The relation of that oid, if the server itself provides it.
pub fn system_relation(oid: i64) -> Option<&'static SystemRelation> {
    system_relations()
        .iter()
        .enumerate()
        .find(|(i, r)| r.oid(*i) == oid)
        .map(|(_, r)| r)
}
