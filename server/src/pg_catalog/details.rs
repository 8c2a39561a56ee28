//! The live tables of pg_catalog that say more about relations: defaults, indexes, constraints, comments, rules.

use rivermark_planner::catalog::{Catalog, Object, ObjectKind, TableDef};
use rivermark_planner::definition::MASK;

use super::indexes::indexes;
use super::oids;
use super::relations::{attributes, key_name, keyed_table, relkind, shown_option};
use crate::rows::ColumnType::{
    Bool, Int2, Int2Array, Int2Vector, Int4, Oid, OidVector, Text, TextArray,
};
use crate::rows::{Cell, Column, Rows};

const ATTRDEF: &[Column] = &[
    ("oid", Oid),
    ("adrelid", Oid),
    ("adnum", Int2),
    ("adbin", Text),
];

pub fn pg_attrdef(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(ATTRDEF);
    for object in catalog.objects() {
        for (i, column) in attributes(object).into_iter().enumerate() {
            let Some(expression) = column.expression else {
                continue;
            };
            let oid = oids::default(object.id, i + 1);
            rows.push(vec![
                oid.into(),
                oids::relation(object.id).into(),
                Cell::Int(i as i64 + 1),
                expression.into(),
            ]);
        }
    }
    rows
}

const INDEX: &[Column] = &[
    ("indexrelid", Oid),
    ("indrelid", Oid),
    ("indnatts", Int2),
    ("indnkeyatts", Int2),
    ("indisunique", Bool),
    ("indnullsnotdistinct", Bool),
    ("indisprimary", Bool),
    ("indisexclusion", Bool),
    ("indimmediate", Bool),
    ("indisclustered", Bool),
    ("indisvalid", Bool),
    ("indcheckxmin", Bool),
    ("indisready", Bool),
    ("indislive", Bool),
    ("indisreplident", Bool),
    ("indkey", Int2Vector),
    ("indcollation", OidVector),
    ("indclass", OidVector),
    ("indoption", Int2Vector),
    ("indexprs", Text),
    ("indpred", Text),
];

fn key_numbers(table: &TableDef) -> Cell {
    Cell::Ints(table.primary_key.iter().map(|c| *c as i16 + 1).collect())
}

pub fn pg_index(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(INDEX);
    for index in indexes(catalog) {
        let columns = index.columns.len();
        let numbers = index.columns.iter().map(|c| c.column as i16 + 1).collect();
        rows.push_named(&[
            ("indexrelid", index.oid.into()),
            ("indrelid", oids::relation(index.relation.id).into()),
            ("indnatts", Cell::Int(columns as i64)),
            ("indnkeyatts", Cell::Int(columns as i64)),
            ("indisunique", index.is_unique.into()),
            ("indisprimary", index.is_primary.into()),
            ("indimmediate", true.into()),
            ("indisvalid", index.is_complete.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", Cell::Ints(numbers)),
            ("indcollation", Cell::Ints(vec![0; columns])),
            ("indclass", Cell::Ints(vec![0; columns])),
            ("indoption", Cell::Ints(index.options())),
            ("indexprs", Cell::Null),
            ("indpred", Cell::Null),
        ]);
    }
    rows
}

const CONSTRAINT: &[Column] = &[
    ("oid", Oid),
    ("conname", Text),
    ("connamespace", Oid),
    ("contype", Text),
    ("condeferrable", Bool),
    ("condeferred", Bool),
    ("convalidated", Bool),
    ("conrelid", Oid),
    ("contypid", Oid),
    ("conindid", Oid),
    ("conparentid", Oid),
    ("confrelid", Oid),
    ("confupdtype", Text),
    ("confdeltype", Text),
    ("confmatchtype", Text),
    ("conislocal", Bool),
    ("coninhcount", Int4),
    ("connoinherit", Bool),
    ("conkey", Int2Array),
    ("confkey", Int2Array),
    ("conbin", Text),
];

pub fn pg_constraint(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(CONSTRAINT);
    let mut push = |object: &Object, oid: i64, name: &str, kind: &str, more: &[(&str, Cell)]| {
        let mut cells: Vec<(&str, Cell)> = vec![
            ("oid", oid.into()),
            ("conname", name.into()),
            ("connamespace", oids::schema(&object.name.schema).into()),
            ("contype", kind.into()),
            ("convalidated", true.into()),
            ("conrelid", oids::relation(object.id).into()),
            ("conislocal", true.into()),
            ("connoinherit", true.into()),
            ("conbin", Cell::Null),
        ];
        cells.extend_from_slice(more);
        rows.push_named(&cells);
    };
    for object in catalog.objects() {
        if let Some(table) = keyed_table(object) {
            let more = [
                ("conindid", oids::key_index(object.id).into()),
                ("conkey", key_numbers(table)),
            ];
            push(
                object,
                oids::key_constraint(object.id),
                &key_name(object),
                "p",
                &more,
            );
        }
        let ObjectKind::Table(table) = &object.kind else {
            continue;
        };
        for (i, (name, text)) in table.checks.iter().enumerate() {
            push(
                object,
                oids::check(object.id, i),
                name,
                "c",
                &[("conbin", text.as_str().into())],
            );
        }
    }
    rows
}

const DESCRIPTION: &[Column] = &[
    ("objoid", Oid),
    ("classoid", Oid),
    ("objsubid", Int4),
    ("description", Text),
];

pub fn pg_description(catalog: &Catalog) -> Rows {
    const PG_CLASS: i64 = 1259;
    let mut rows = Rows::new(DESCRIPTION);
    for object in catalog.objects() {
        let columns = attributes(object)
            .into_iter()
            .enumerate()
            .map(|(i, c)| (i + 1, c.comment));
        for (number, comment) in std::iter::once((0, object.comment.clone())).chain(columns) {
            let Some(comment) = comment else { continue };
            let oid = oids::relation(object.id);
            rows.push(vec![
                oid.into(),
                PG_CLASS.into(),
                Cell::Int(number as i64),
                comment.into(),
            ]);
        }
    }
    rows
}

const REWRITE: &[Column] = &[
    ("oid", Oid),
    ("rulename", Text),
    ("ev_class", Oid),
    ("ev_type", Text),
    ("ev_enabled", Text),
    ("is_instead", Bool),
];

pub fn pg_rewrite(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(REWRITE);
    for object in catalog
        .objects()
        .filter(|o| matches!(relkind(o), "v" | "m"))
    {
        let relation = oids::relation(object.id);
        let oid = oids::rule(object.id);
        rows.push(vec![
            oid.into(),
            "_RETURN".into(),
            relation.into(),
            "1".into(),
            "O".into(),
            true.into(),
        ]);
    }
    rows
}

const FOREIGN_TABLE: &[Column] = &[
    ("ftrelid", Oid),
    ("ftserver", Oid),
    ("ftoptions", TextArray),
];

pub fn pg_foreign_table(catalog: &Catalog) -> Rows {
    let mut rows = Rows::new(FOREIGN_TABLE);
    for object in catalog.objects() {
        let ObjectKind::Source(source) = &object.kind else {
            continue;
        };
        let options = source
            .options
            .iter()
            .map(|(name, value)| format!("{name}={}", shown_option(name, value)));
        let secrets = source.secrets.keys().map(|name| format!("{name}={MASK}"));
        rows.push(vec![
            oids::relation(object.id).into(),
            oids::SOURCE_SERVER.into(),
            Cell::Texts(options.chain(secrets).collect()),
        ]);
    }
    rows
}
