//! SHOW and DESCRIBE.

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use rivermark_planner::catalog::{Catalog, Object, ObjectKind, QualifiedName};
use rivermark_planner::definition::{create_statement, is_secret_option};
use rivermark_planner::statement::{ObjectName, Show};

use crate::catalog::{DATABASE_NAME, SYSTEM_SCHEMAS, no_rows_of_index, undefined_relation};
use crate::pg_catalog::indexes::{index, indexes};
use crate::pg_catalog::oids;
use crate::pg_catalog::relations::attributes;
use crate::pg_error::PgError;
use crate::rows::ColumnType::{Bool, Int4, Text, Timestamptz};
use crate::rows::{Cell, Column, Rows};
use crate::session::Session;
use crate::session_api::{Execution, RowTag};

const RELATIONS: &[Column] = &[("schema", Text), ("name", Text)];
const INDEXES: &[Column] = &[
    ("schema", Text),
    ("name", Text),
    ("relation", Text),
    ("columns", Text),
    ("is_unique", Bool),
    ("status", Text),
];
const NAMES: &[Column] = &[("name", Text)];
const COLUMNS: &[Column] = &[
    ("name", Text),
    ("type", Text),
    ("is_nullable", Bool),
    ("is_key", Bool),
    ("expression", Text),
    ("description", Text),
];
const CREATE: &[Column] = &[("name", Text), ("create_sql", Text)];
const SETTINGS: &[Column] = &[("name", Text), ("setting", Text), ("description", Text)];
const PROCESSES: &[Column] = &[
    ("pid", Int4),
    ("user", Text),
    ("client", Text),
    ("application_name", Text),
    ("state", Text),
    ("since", Timestamptz),
    ("statement", Text),
];

/// Rows built in memory as a statement's result.
pub fn execution(batch: RecordBatch, tag: RowTag) -> Execution {
    let schema = batch.schema();
    let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(
        schema,
        futures::stream::iter([Ok(batch)]),
    ));
    Execution::Rows { stream, tag }
}

/// What SHOW gives: rows of a fixed shape, or one setting under its own name.
pub enum Shown {
    Rows(Rows),
    Setting(RecordBatch),
}

impl Shown {
    pub fn schema(&self) -> arrow::datatypes::SchemaRef {
        match self {
            Shown::Rows(rows) => rows.schema(),
            Shown::Setting(batch) => batch.schema(),
        }
    }

    fn batch(self) -> RecordBatch {
        match self {
            Shown::Rows(rows) => rows.batch(),
            Shown::Setting(batch) => batch,
        }
    }
}

impl Session {
    pub fn show(&mut self, show: &Show) -> Result<Execution, PgError> {
        Ok(execution(
            self.show_rows(show)?.batch(),
            RowTag::Fixed("SHOW".to_string()),
        ))
    }

    pub fn describe_relation(&mut self, name: &ObjectName) -> Result<Execution, PgError> {
        Ok(execution(
            self.describe_rows(name)?.batch(),
            RowTag::Fixed("DESCRIBE".to_string()),
        ))
    }

    pub fn show_rows(&mut self, show: &Show) -> Result<Shown, PgError> {
        let names = self.namespace();
        let catalog = &names.snapshot.catalog;
        Ok(Shown::Rows(match show {
            Show::Tables => relations(catalog, |o| matches!(o.kind, ObjectKind::Table(_))),
            Show::Sources => relations(catalog, |o| matches!(o.kind, ObjectKind::Source(_))),
            Show::Views => relations(catalog, |o| matches!(o.kind, ObjectKind::View(_))),
            Show::MaterializedViews => relations(catalog, |o| {
                matches!(o.kind, ObjectKind::MaterializedView(_))
            }),
            // there are none in this version
            Show::Sinks => Rows::new(RELATIONS),
            Show::Indexes => all_indexes(catalog),
            Show::Columns { relation } => self.describe_rows(relation)?,
            Show::Create { name } => {
                let object = names.object(name).ok_or_else(|| undefined_relation(name))?;
                let mut rows = Rows::new(CREATE);
                rows.push(vec![
                    object.name.to_string().into(),
                    shown_sql(catalog, &object).into(),
                ]);
                rows
            }
            Show::Schemas => {
                let own = catalog.schemas().iter().map(String::as_str);
                named(SYSTEM_SCHEMAS.iter().copied().chain(own))
            }
            Show::Databases => named([DATABASE_NAME]),
            Show::ProcessList => self.processes(),
            Show::Setting(name) => return self.setting(name),
            Show::AllSettings => {
                let mut rows = Rows::new(SETTINGS);
                for (name, value, description) in self.shared.settings.lock().all() {
                    rows.push(vec![name.into(), value.into(), description.into()]);
                }
                rows
            }
        }))
    }

    fn setting(&self, name: &str) -> Result<Shown, PgError> {
        let settings = self.shared.settings.lock();
        let value = settings.get(name)?;
        let column = settings.spelling(name);
        let array = std::sync::Arc::new(arrow::array::StringArray::from(vec![value]));
        Ok(Shown::Setting(RecordBatch::try_from_iter([(
            column,
            array as arrow::array::ArrayRef,
        )])?))
    }

    fn processes(&self) -> Rows {
        let mut rows = Rows::new(PROCESSES);
        for session in self.newest_names().sessions() {
            rows.push(vec![
                session.pid.into(),
                session.user.into(),
                session.peer.map(|p| p.to_string()).into(),
                session.application_name.into(),
                session.state.into(),
                session.statement_at_us.into(),
                session.statement.into(),
            ]);
        }
        rows
    }

    /// The columns of a relation.
    pub fn describe_rows(&mut self, name: &ObjectName) -> Result<Rows, PgError> {
        let names = self.namespace();
        let mut rows = Rows::new(COLUMNS);
        let Some(object) = names.object(name) else {
            let schemas = match &name.schema {
                Some(schema) => vec![schema.clone()],
                None => names.search_path(),
            };
            for schema in schemas {
                let Some(found) = names.system_schema(&schema, &name.name)? else {
                    continue;
                };
                for field in found.fields() {
                    let data_type = rivermark_planner::types::SqlType::of_field(field).to_string();
                    let known: [Cell; 4] = [
                        field.name().as_str().into(),
                        data_type.into(),
                        true.into(),
                        false.into(),
                    ];
                    rows.push(known.into_iter().chain([Cell::Null, Cell::Null]).collect());
                }
                return Ok(rows);
            }
            return Err(undefined_relation(name));
        };
        let key: &[usize] = match &object.kind {
            ObjectKind::Table(table) => &table.primary_key,
            ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::MaterializedView(_) => &[],
            ObjectKind::Index(_) => return Err(no_rows_of_index(&object.name.name)),
        };
        for (i, column) in attributes(&object).into_iter().enumerate() {
            rows.push(vec![
                column.name.into(),
                column.data_type.to_string().into(),
                (!column.not_null).into(),
                key.contains(&i).into(),
                column.expression.into(),
                column.comment.into(),
            ]);
        }
        Ok(rows)
    }
}

fn relations(catalog: &Catalog, is_shown: impl Fn(&Object) -> bool) -> Rows {
    let mut names: Vec<&QualifiedName> = catalog
        .objects()
        .filter(|o| is_shown(o))
        .map(|o| &o.name)
        .collect();
    names.sort();
    let mut rows = Rows::new(RELATIONS);
    for name in names {
        rows.push(vec![name.schema.as_str().into(), name.name.as_str().into()]);
    }
    rows
}

/// Created indexes and primary keys.
fn all_indexes(catalog: &Catalog) -> Rows {
    let mut all = indexes(catalog);
    all.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let mut rows = Rows::new(INDEXES);
    for index in all {
        rows.push(vec![
            index.schema.into(),
            index.name.as_str().into(),
            index.relation.name.name.as_str().into(),
            index.column_list().into(),
            index.is_unique.into(),
            if index.is_complete {
                "READY"
            } else {
                "BUILDING"
            }
            .into(),
        ]);
    }
    rows
}

fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Rows {
    let mut rows = Rows::new(NAMES);
    for name in names {
        rows.push(vec![name.into()]);
    }
    rows
}

/// The statement that created an object; secrets among its options are masked.
fn shown_sql(catalog: &Catalog, object: &Object) -> String {
    // Its relation and columns may have other names since.
    let as_it_is = index(catalog, oids::relation(object.id)).and_then(|i| i.definition(0));
    if let Some(sql) = as_it_is {
        return sql;
    }
    if let ObjectKind::Source(source) = &object.kind {
        let mut options = source.options.keys().chain(source.encode_options.keys());
        if options.any(|option| is_secret_option(option)) {
            // However they are written.
            return create_statement(object);
        }
    }
    object.sql.clone()
}

#[cfg(test)]
mod tests {
    use rivermark_planner::catalog::ObjectId;
    use rivermark_planner::parse::parse;
    use rivermark_planner::statement::Statement;

    use super::*;

    #[test]
    fn passwords_are_masked_however_they_are_written() {
        for password in ["'hunter2'", "$$hunter2$$", "E'hunter2'", "hunter2"] {
            let sql = format!(
                "CREATE SOURCE s (v INT) WITH (connector = 'kafka', topic = 't', \
                 properties.sasl.password = {password}) FORMAT PLAIN ENCODE JSON"
            );
            let parsed = parse(&sql).unwrap().remove(0);
            let Statement::CreateSource { def, .. } = parsed.statement else {
                panic!("{sql}");
            };
            let object = Object {
                id: ObjectId(1),
                name: QualifiedName {
                    schema: "public".into(),
                    name: "s".into(),
                },
                sql: parsed.text,
                comment: None,
                depends_on: Vec::new(),
                kind: ObjectKind::Source(def),
            };
            let shown = shown_sql(&Catalog::new(), &object);
            assert!(shown.contains("'***'"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
