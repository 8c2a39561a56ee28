//! How names in a query become relations: over the catalog for planning views, over a snapshot for batch queries.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::TableSource;

use crate::catalog::{Catalog, DEFAULT_SCHEMA, Object, ObjectId, ObjectKind, QualifiedName};
use crate::names::ident;
use crate::statement::ObjectName;

/// Finds relations by name.
pub trait Relations {
    /// The relation that `name` means; the implementation's search path decides where no schema is written.
    fn relation(&self, name: &ObjectName) -> Option<Relation>;
}

/// What a name in a FROM clause means.
#[derive(Clone)]
pub struct Relation {
    /// `None`: a system view.
    pub id: Option<ObjectId>,
    pub name: QualifiedName,
    pub body: RelationBody,
}

/// Where a relation's rows come from.
#[derive(Clone)]
pub enum RelationBody {
    /// `source` has all columns. Batch queries give a wrapped `TableProvider`.
    Rows(Arc<dyn TableSource>),
    /// `source` has the stored or delivered columns; the others are computed from them.
    Generated {
        source: Arc<dyn TableSource>,
        /// All columns in declared order; with its SQL text, cast to its type, where it is computed.
        columns: Vec<(String, Option<String>)>,
    },
    /// A macro.
    View { columns: Vec<String>, query: String },
}

impl Relation {
    /// The relation of a catalog object; `source` makes the access to its rows, given their schema. `None`: an index,
    /// which no query names.
    pub fn of_object(
        object: &Object,
        source: impl FnOnce(SchemaRef) -> Arc<dyn TableSource>,
    ) -> Option<Relation> {
        let body = match &object.kind {
            ObjectKind::Source(def) if def.columns.iter().any(|c| c.generated.is_some()) => {
                let text = |c: &crate::catalog::ColumnDef| {
                    let generated = c
                        .generated
                        .as_ref()
                        .filter(|_| !def.is_physical(c))
                        .map(|e| format!("CAST(({e}) AS {})", c.data_type));
                    (c.name.clone(), generated)
                };
                RelationBody::Generated {
                    source: source(def.physical_schema()),
                    columns: def.columns.iter().map(text).collect(),
                }
            }
            ObjectKind::Source(_) | ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => {
                RelationBody::Rows(source(object.schema()))
            }
            ObjectKind::View(view) => RelationBody::View {
                columns: view.columns.iter().map(|c| c.name.clone()).collect(),
                query: view.query.clone(),
            },
            ObjectKind::Index(_) => return None,
        };
        Some(Relation {
            id: Some(object.id),
            name: object.name.clone(),
            body,
        })
    }

    /// The names of its columns.
    pub fn columns(&self) -> Vec<String> {
        match &self.body {
            RelationBody::Rows(source) => source
                .schema()
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .collect(),
            RelationBody::Generated { columns, .. } => {
                columns.iter().map(|(name, _)| name.clone()).collect()
            }
            RelationBody::View { columns, .. } => columns.clone(),
        }
    }

    /// The SELECT that computes the generated columns; `None` where there are none.
    pub(crate) fn generated_sql(&self) -> Option<String> {
        let RelationBody::Generated { columns, .. } = &self.body else {
            return None;
        };
        let items: Vec<String> = columns
            .iter()
            .map(|(name, generated)| match generated {
                Some(expr) => format!("{expr} AS {}", ident(name)),
                None => ident(name).to_string(),
            })
            .collect();
        Some(format!(
            "SELECT {} FROM {}",
            items.join(", "),
            qualified_sql(&self.name)
        ))
    }
}

impl fmt::Debug for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relation({})", self.name)
    }
}

/// A name as SQL text, always with its schema.
pub(crate) fn qualified_sql(name: &QualifiedName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.name))
}

/// The catalog's objects, as schemas without rows.
#[derive(Debug, Clone, Copy)]
pub struct CatalogRelations<'a> {
    catalog: &'a Catalog,
    search_path: &'a [&'a str],
}

impl<'a> CatalogRelations<'a> {
    /// Names without a schema are looked for in `public`.
    pub fn new(catalog: &'a Catalog) -> Self {
        CatalogRelations {
            catalog,
            search_path: &[DEFAULT_SCHEMA],
        }
    }

    /// Names without a schema are looked for in `search_path`, in that order.
    pub fn with_search_path(catalog: &'a Catalog, search_path: &'a [&'a str]) -> Self {
        CatalogRelations {
            catalog,
            search_path,
        }
    }
}

impl Relations for CatalogRelations<'_> {
    fn relation(&self, name: &ObjectName) -> Option<Relation> {
        let written = name.schema.as_deref().map(|schema| vec![schema]);
        let schemas = written.unwrap_or_else(|| self.search_path.to_vec());
        schemas
            .into_iter()
            .find_map(|schema| self.catalog.find(&name.resolve(schema)))
            .and_then(|object| {
                Relation::of_object(object, |schema| Arc::new(SchemaSource { schema }))
            })
    }
}

/// A table source that has a schema and no rows.
#[derive(Debug)]
pub struct SchemaSource {
    schema: SchemaRef,
}

impl SchemaSource {
    pub fn new(schema: SchemaRef) -> Self {
        SchemaSource { schema }
    }
}

impl TableSource for SchemaSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
