//! From a parsed query to a plan that can run: the planner's binder over the statement's names.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast;
use datafusion_pg_catalog::pg_catalog as pg_crate;
use parking_lot::Mutex;
use rivermark_executor::ordered_scan::OrderedScans;
use rivermark_planner::bind::Binder;
use rivermark_planner::catalog::ObjectId;
use rivermark_planner::relations::{Relation, RelationBody, Relations};
use rivermark_planner::security::Privilege;
use rivermark_planner::session::{session_config, session_state_builder};
use rivermark_planner::statement::ObjectName;
use rivermark_planner::types::SqlType;

use crate::assignment::arrow_zone;
use crate::catalog::{Namespace, SYSTEM_SCHEMAS, no_rows_of_index};
use crate::dml::given_rows;
use crate::pg_catalog::{functions, rewrite};
use crate::pg_error::PgError;
use crate::plan_fences;
use crate::query_runtime::QueryRuntime;
use crate::sessions::SessionShared;

/// The session state of batch queries: the planner's, with system functions and the queries' memory.
pub fn query_state(session: &Arc<SessionShared>, queries: &QueryRuntime) -> SessionState {
    let zone = arrow_zone(&session.settings.lock().time_zone());
    let mut builder = session_state_builder(session_config(&zone))
        .with_runtime_env(queries.env())
        .with_physical_optimizer_rule(Arc::new(OrderedScans));
    if let Some(optimizer) = builder.physical_optimizers() {
        plan_fences::surround(&mut optimizer.rules);
    }
    let mut state = builder.build();
    register(&mut state, session);
    state
}

/// Functions that PostgreSQL has and DataFusion lacks.
fn register(state: &mut SessionState, session: &Arc<SessionShared>) {
    let borrowed: [ScalarUDF; 2] = [
        pg_crate::format_type::create_format_type_udf(),
        pg_crate::quote_ident_udf::create_parse_ident_udf(),
    ];
    for function in borrowed.into_iter().chain(functions::functions(session)) {
        state
            .register_udf(Arc::new(function))
            .expect("a session's own registry takes any function");
    }
}

/// A query that is bound to what it reads.
pub struct Bound {
    pub plan: LogicalPlan,
    /// Names of the result's columns.
    pub columns: Vec<String>,
    pub state: SessionState,
}

impl Bound {
    /// The physical plan; parameters must have been replaced.
    pub async fn physical(&self) -> Result<Arc<dyn ExecutionPlan>, PgError> {
        Ok(self.state.create_physical_plan(&self.plan).await?)
    }

    /// The result's columns.
    pub fn schema(&self) -> Result<SchemaRef, PgError> {
        let optimized = self.state.optimize(&self.plan)?;
        Ok(renamed(
            &Arc::new(optimized.schema().as_arrow().clone()),
            &self.columns,
        ))
    }
}

/// The schema with other names.
pub fn renamed(schema: &SchemaRef, names: &[String]) -> SchemaRef {
    if schema.fields().len() != names.len() {
        return schema.clone();
    }
    let fields = schema
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(Schema::new_with_metadata(
        fields.collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}

/// Binds the queries of one statement.
pub struct StatementPlanner {
    pub names: Namespace,
    pub state: SessionState,
    pub text: String,
    /// Relations that are the statement's own, in the schema [`given_rows::SCHEMA`].
    pub given: BTreeMap<String, Arc<dyn TableProvider>>,
    /// The table that the statement changes without showing anything of it: its rows may be fetched without the right to
    /// read them.
    pub unread: Option<ObjectId>,
}

impl StatementPlanner {
    /// Binds a query; `types` are those of the parameters that are known.
    pub async fn bind(
        &self,
        query: &ast::Query,
        types: &[Option<SqlType>],
    ) -> Result<Bound, PgError> {
        let query = self.plain(query);
        self.authorize(&query)?;
        let relations = self.relations();
        let bound = Binder::new(&relations, &self.state)
            .with_text(&self.text)
            .with_parameter_types(types)
            .bind_query(&query);
        if let Some(failure) = relations.failure.into_inner() {
            return Err(failure);
        }
        let bound = bound?;
        Ok(Bound {
            plan: bound.plan,
            columns: bound.columns,
            state: self.state.clone(),
        })
    }

    /// The query without what only statements about the catalog say; borrowed if it is none.
    pub fn plain<'a>(&self, query: &'a ast::Query) -> Cow<'a, ast::Query> {
        match rewrite::mentions_catalog(&self.text) {
            true => Cow::Owned(rewrite::in_plain_words(query)),
            false => Cow::Borrowed(query),
        }
    }

    /// An error unless the session may read what the query names itself.
    fn authorize(&self, query: &ast::Query) -> Result<(), PgError> {
        if self.names.may_read_all() {
            return Ok(());
        }
        let relations = self.relations();
        let qualified = Binder::new(&relations, &self.state)
            .with_text(&self.text)
            .qualify(query);
        if let Some(failure) = relations.failure.into_inner() {
            return Err(failure);
        }
        for relation in qualified?.relations.values() {
            let name = &relation.name;
            match relation
                .id
                .and_then(|id| self.names.snapshot.catalog.get(id))
            {
                Some(object) if self.unread == Some(object.id) => {}
                Some(object) => self.names.authorize(object, Privilege::Select)?,
                None => self.names.authorize_system(&name.schema, &name.name)?,
            }
        }
        Ok(())
    }

    fn relations(&self) -> StatementRelations<'_> {
        StatementRelations {
            names: &self.names,
            given: &self.given,
            failure: Mutex::new(None),
        }
    }

    /// The query with its names resolved and stars expanded.
    pub fn qualify(&self, query: &ast::Query) -> Result<ast::Query, PgError> {
        Ok(self.qualify_named(query)?.0)
    }

    /// As [`Self::qualify`], with the names of the query's columns.
    pub fn qualify_named(&self, query: &ast::Query) -> Result<(ast::Query, Vec<String>), PgError> {
        let relations = self.relations();
        let qualified = Binder::new(&relations, &self.state)
            .with_text(&self.text)
            .qualify(query);
        match relations.failure.into_inner() {
            Some(failure) => Err(failure),
            None => {
                let qualified = qualified?;
                Ok((qualified.query, qualified.columns))
            }
        }
    }
}

/// The statement's names as the binder asks for them. What goes wrong is kept, since the binder only hears "none".
struct StatementRelations<'a> {
    names: &'a Namespace,
    given: &'a BTreeMap<String, Arc<dyn TableProvider>>,
    failure: Mutex<Option<PgError>>,
}

impl StatementRelations<'_> {
    fn find(&self, schema: &str, name: &ObjectName) -> Result<Option<Relation>, PgError> {
        let qualified = name.resolve(schema);
        if schema == given_rows::SCHEMA
            && let Some(table) = self.given.get(&name.name)
        {
            return Ok(Some(Relation {
                id: None,
                name: qualified,
                body: RelationBody::Rows(provider_as_source(table.clone())),
            }));
        }
        if SYSTEM_SCHEMAS.contains(&schema) {
            let table = self.names.system_table(schema, &name.name)?;
            return Ok(table.map(|table| Relation {
                id: None,
                name: qualified,
                body: RelationBody::Rows(provider_as_source(table)),
            }));
        }
        let Some(object) = self.names.snapshot.catalog.find(&qualified) else {
            return Ok(None);
        };
        if object.as_index().is_some() {
            return Err(no_rows_of_index(&object.name.name));
        }
        let mut failure = None;
        let relation =
            Relation::of_object(object, |schema| match self.names.object_table(object) {
                Ok(table) => provider_as_source(table),
                Err(error) => {
                    failure = Some(error);
                    provider_as_source(Arc::new(datafusion::datasource::empty::EmptyTable::new(
                        schema,
                    )))
                }
            });
        match failure {
            Some(error) => Err(error),
            None => Ok(relation),
        }
    }
}

impl Relations for StatementRelations<'_> {
    fn relation(&self, name: &ObjectName) -> Option<Relation> {
        let schemas = match &name.schema {
            Some(schema) => vec![schema.clone()],
            None => self.names.search_path(),
        };
        for schema in schemas {
            match self.find(&schema, name) {
                Ok(Some(relation)) => return Some(relation),
                Ok(None) => {}
                Err(error) => {
                    self.failure.lock().get_or_insert(error);
                    return None;
                }
            }
        }
        None
    }
}

/// States of a session, made once per time zone.
#[derive(Default)]
pub struct States {
    by_zone: HashMap<String, Shared>,
}

/// A state that several statements use. Cloning one copies every list of functions.
#[derive(Clone)]
pub struct Shared {
    pub state: Arc<SessionState>,
    pub context: Arc<TaskContext>,
}

impl States {
    /// The state for a statement that starts now.
    pub fn get(&mut self, session: &Arc<SessionShared>, queries: &QueryRuntime) -> SessionState {
        let mut state = self.shared(session, queries).state.as_ref().clone();
        state.mark_start_execution();
        state
    }

    /// The state for statements that do not ask when they started.
    pub fn shared(&mut self, session: &Arc<SessionShared>, queries: &QueryRuntime) -> Shared {
        let zone = session.settings.lock().time_zone().name().to_string();
        let shared = self.by_zone.entry(zone).or_insert_with(|| {
            let state = Arc::new(query_state(session, queries));
            Shared {
                context: state.task_ctx(),
                state,
            }
        });
        shared.clone()
    }
}
