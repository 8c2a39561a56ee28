//! SELECT, EXPLAIN and COPY TO: queries over a snapshot, run on the queries' own threads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant as Clock;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{displayable, execute_stream};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use futures::{Stream, StreamExt};
use rivermark_planner::statement::{CopyOptions, Statement};
use rivermark_planner::types::SqlType;
use tokio::time::Instant;

use crate::catalog::Namespace;
use crate::parameters;
use crate::pg_catalog::array_functions::oid_field;
use crate::pg_catalog::rewrite;
use crate::pg_error::PgError;
use crate::plan_cache::{Circumstances, Found, QueryKey, template};
use crate::planning::{Bound, Shared, StatementPlanner, renamed};
use crate::session::Session;
use crate::session_api::{Execution, RowTag, StatementShape};
use crate::show;
use crate::sqlstate::SqlState;

/// The types of parameter values.
pub fn types_of(values: &[ScalarValue]) -> Vec<Option<SqlType>> {
    let sql_type =
        |value: &ScalarValue| SqlType::of_field(&Field::new("", value.data_type(), true));
    values.iter().map(|value| Some(sql_type(value))).collect()
}

/// The schema of EXPLAIN's result.
pub fn explain_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "QUERY PLAN",
        DataType::Utf8,
        false,
    )]))
}

impl Session {
    /// A planner of the next statement.
    pub fn planner(&mut self, text: &str) -> StatementPlanner {
        let names = self.namespace();
        let state = self.states.get(&self.shared, &self.server.queries);
        StatementPlanner {
            names,
            state,
            text: text.to_string(),
            given: BTreeMap::new(),
            unread: None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared
            .settings
            .lock()
            .statement_timeout()
            .map(|timeout| Instant::now() + timeout)
    }

    pub async fn select(
        &mut self,
        query: &ast::Query,
        text: &str,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let stream = match self.repeated(query, text, values).await? {
            Some(stream) => stream,
            None => self.query_stream(query, text, values).await?,
        };
        Ok(Execution::Rows {
            stream,
            tag: RowTag::SELECT,
        })
    }

    pub fn circumstances(&self, names: &Namespace) -> Circumstances {
        let newest = self.server.engine.snapshot().catalog.clone();
        let role = self.shared.role(&newest);
        let settings = self.shared.settings.lock();
        Circumstances {
            catalog_version: names.snapshot.catalog.version,
            newest_version: newest.version,
            role,
            time_zone: settings.time_zone().name().to_string(),
            search_path: settings.search_path(),
        }
    }

    /// Starts a query whose plan the session has kept; `None` if there is none.
    async fn repeated(
        &mut self,
        query: &ast::Query,
        text: &str,
        values: &[ScalarValue],
    ) -> Result<Option<SendableRecordBatchStream>, PgError> {
        let names = self.namespace();
        let key = QueryKey {
            text: text.to_string(),
            types: types_of(values),
        };
        let under = self.circumstances(&names);
        let queries = self.server.queries.clone();
        let template = match self.plans.find(&key, &under) {
            Found::Nothing => return Ok(None),
            Found::Template(template) => template,
            Found::Again => {
                let (planner, query) = (self.planner(text), query.clone());
                let types = key.types.clone();
                let made = queries.run(async move {
                    let bound = planner.bind(&query, &types).await?;
                    Ok(template(bound, &planner.names, &planner.text)?.map(Arc::new))
                });
                // What is wrong with the query is said when it is planned with its values.
                let made = made.await.ok().flatten();
                self.plans.keep(key, under, made.clone());
                match made {
                    Some(template) => template,
                    None => return Ok(None),
                }
            }
        };
        if let Some(lookup) = &template.lookup
            && let Some(row) = lookup.run(&names, values)?
        {
            return Ok(Some(row));
        }
        let Shared { state, context } = self.states.shared(&self.shared, &queries);
        let values = values.to_vec();
        let planned = queries.run(async move {
            let physical = template.physical(&names, &values, &state).await?;
            Ok((template.schema(&physical.schema()), physical))
        });
        let (schema, physical) = planned.await?;
        let stream = queries.stream(physical, context, self.deadline());
        Ok(Some(Box::pin(Renamed { stream, schema })))
    }

    /// Starts a query; its rows come as they are read.
    pub async fn query_stream(
        &mut self,
        query: &ast::Query,
        text: &str,
        values: &[ScalarValue],
    ) -> Result<SendableRecordBatchStream, PgError> {
        let planner = self.planner(text);
        let (query, values) = (query.clone(), values.to_vec());
        let queries = self.server.queries.clone();
        let planned = queries.run(async move {
            let bound = bound_query(&planner, &query, &values).await?;
            let physical = bound.physical().await?;
            Ok((physical, bound))
        });
        let (physical, bound) = planned.await?;
        let schema = renamed(&physical.schema(), &bound.columns);
        let stream = queries.stream(physical, bound.state.task_ctx(), self.deadline());
        Ok(Box::pin(Renamed { stream, schema }))
    }

    /// What a query takes and gives.
    pub async fn query_shape(
        &mut self,
        query: &ast::Query,
        text: &str,
        declared: &[Option<u32>],
    ) -> Result<StatementShape, PgError> {
        let names = self.namespace();
        let under = self.circumstances(&names);
        let key = (text.to_string(), declared.to_vec());
        if let Some(shape) = self.plans.shape(&key, &under) {
            return Ok(shape);
        }
        let planner = self.planner(text);
        let query = query.clone();
        let declared = declared.to_vec();
        let shape = async move {
            let (parameters, bound) = described(&planner, &query, &declared).await?;
            let plan = parameters::bind_nulls(bound.plan, &parameters)?;
            let schema = Bound { plan, ..bound }.schema()?;
            Ok(StatementShape {
                parameters,
                result: Some(schema),
            })
        };
        let shape = self.server.queries.clone().run(shape).await?;
        self.plans.keep_shape(key, under, shape.clone());
        Ok(shape)
    }

    pub async fn copy_out(
        &mut self,
        query: &ast::Query,
        options: &CopyOptions,
        text: &str,
    ) -> Result<Execution, PgError> {
        let stream = self.query_stream(query, text, &[]).await?;
        Ok(Execution::CopyOut {
            stream,
            options: options.clone(),
        })
    }

    pub async fn explain(
        &mut self,
        statement: &Statement,
        text: &str,
        is_analyze: bool,
        is_verbose: bool,
        values: &[ScalarValue],
    ) -> Result<Execution, PgError> {
        let lines = match statement {
            Statement::Query(query) => {
                let planner = self.planner(text);
                let (query, values) = (query.clone(), values.to_vec());
                let explained = async move {
                    let bound = bound_query(&planner, &query, &values).await?;
                    explain_query(&bound, is_analyze, is_verbose).await
                };
                self.server.queries.clone().run(explained).await?
            }
            create @ Statement::CreateMaterializedView { .. } if !is_analyze => {
                self.explain_materialized_view(create, text)?
            }
            _ => {
                let error = PgError::new(
                    SqlState::FeatureNotSupported,
                    "EXPLAIN of this statement is not supported",
                );
                return Err(error.with_hint("EXPLAIN takes a SELECT or CREATE MATERIALIZED VIEW."));
            }
        };
        explained(&lines)
    }
}

/// The result of EXPLAIN.
pub fn explained(lines: &[String]) -> Result<Execution, PgError> {
    let lines: Vec<&str> = lines.iter().flat_map(|text| text.lines()).collect();
    let column = Arc::new(arrow::array::StringArray::from(lines));
    let batch = RecordBatch::try_new(explain_schema(), vec![column])?;
    Ok(show::execution(batch, RowTag::Fixed("EXPLAIN".to_string())))
}

/// Binds a query and puts in its parameters' values.
pub async fn bound_query(
    planner: &StatementPlanner,
    query: &ast::Query,
    values: &[ScalarValue],
) -> Result<Bound, PgError> {
    let bound = planner.bind(query, &types_of(values)).await?;
    Ok(Bound {
        plan: parameters::bind(bound.plan, values)?,
        ..bound
    })
}

/// The types of parameters as far as they are known before a query is bound.
pub fn early_types(
    count: usize,
    declared: &[Option<u32>],
    found: &parameters::Found,
) -> Result<Vec<Option<SqlType>>, PgError> {
    let fields = parameters::fields(count, declared, found)?;
    let known = fields.iter().take(count).enumerate().map(|(i, field)| {
        let declared = declared.get(i).copied().flatten();
        let is_known = declared.is_some_and(|oid| oid != 0) || found.contains_key(&(i + 1));
        is_known.then(|| SqlType::of_field(field))
    });
    Ok(known.collect())
}

/// A query's parameters and its plan, with the placeholders still in it.
async fn described(
    planner: &StatementPlanner,
    query: &ast::Query,
    declared: &[Option<u32>],
) -> Result<(Vec<FieldRef>, Bound), PgError> {
    let plain = planner.plain(query);
    let (count, mut found) = parameters::scan(plain.as_ref());
    if let Cow::Owned(_) = plain {
        for (n, is_array) in rewrite::oid_parameters(query) {
            found.insert(n, oid_field(is_array));
        }
    }
    let early = early_types(count, declared, &found)?;
    let bound = planner.bind(query, &early).await?;
    parameters::add_inferred(&mut found, &bound.plan)?;
    let fields = parameters::fields(count, declared, &found)?;
    Ok((fields, bound))
}

async fn explain_query(
    bound: &Bound,
    is_analyze: bool,
    is_verbose: bool,
) -> Result<Vec<String>, PgError> {
    let start = Clock::now();
    let plan = bound.physical().await?;
    let planning = start.elapsed();
    if !is_analyze {
        return Ok(vec![
            displayable(plan.as_ref()).indent(is_verbose).to_string(),
        ]);
    }
    let start = Clock::now();
    let mut stream = execute_stream(plan.clone(), bound.state.task_ctx())?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
    }
    let shown = DisplayableExecutionPlan::with_metrics(plan.as_ref())
        .indent(is_verbose)
        .to_string();
    Ok(vec![
        shown,
        format!("Rows: {rows}"),
        format!("Planning Time: {:.3} ms", planning.as_secs_f64() * 1000.0),
        format!(
            "Execution Time: {:.3} ms",
            start.elapsed().as_secs_f64() * 1000.0
        ),
    ])
}

/// All rows of a query.
pub struct Collected {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// The rows' part of the queries' memory.
    pub held: MemoryReservation,
}

/// All rows of a query, held within the queries' memory.
pub async fn collected(
    planner: &StatementPlanner,
    query: &ast::Query,
    values: &[ScalarValue],
) -> Result<Collected, PgError> {
    collect_bound(&bound_query(planner, query, values).await?).await
}

/// All rows of a query, held while it runs.
pub async fn collect(
    planner: &StatementPlanner,
    query: &ast::Query,
    values: &[ScalarValue],
) -> Result<Vec<RecordBatch>, PgError> {
    Ok(collected(planner, query, values).await?.batches)
}

pub async fn collect_bound(bound: &Bound) -> Result<Collected, PgError> {
    let plan = bound.physical().await?;
    let pool = &bound.state.runtime_env().memory_pool;
    let held = MemoryConsumer::new("rows to write").register(pool);
    let schema = plan.schema();
    let mut stream = execute_stream(plan, bound.state.task_ctx())?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        held.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
    }
    Ok(Collected {
        schema,
        batches,
        held,
    })
}

/// A stream whose columns have PostgreSQL's names.
struct Renamed {
    stream: SendableRecordBatchStream,
    schema: SchemaRef,
}

impl Stream for Renamed {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let schema = self.schema.clone();
        self.stream.as_mut().poll_next(context).map(|next| {
            next.map(|batch| {
                let batch = batch?;
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                // a batch may say that a column has no NULLs where the plan did not know
                let actual = batch.schema();
                let fields = schema
                    .fields()
                    .iter()
                    .zip(actual.fields())
                    .map(|(named, actual)| {
                        named
                            .as_ref()
                            .clone()
                            .with_data_type(actual.data_type().clone())
                            .with_nullable(true)
                    });
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                Ok(RecordBatch::try_new_with_options(
                    schema,
                    batch.columns().to_vec(),
                    &options,
                )?)
            })
        })
    }
}

impl RecordBatchStream for Renamed {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
