//! SUBSCRIBE: the rows of a table or materialized view, then their changes, as rows of `(epoch, weight, columns…)`.
//!
//! A weight says how often the row is added (or, negative, taken away). Within an epoch rows are taken away first. With
//! PROGRESS a row with weight 0 and NULLs says that all changes up to its epoch have been sent.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::kernels::cmp::lt;
use arrow::compute::not;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use rivermark_executor::Delta;
use rivermark_executor::changes::{EpochChange, Event, Subscription};
use rivermark_planner::catalog::{Object, ObjectId, ObjectKind};
use rivermark_planner::security::Privilege;
use rivermark_planner::statement::{CopyOptions, Subscribe};
use tokio::sync::{mpsc, watch};

use crate::catalog::{SYSTEM_SCHEMAS, undefined_relation};
use crate::pg_error::PgError;
use crate::privileges::authorize_still;
use crate::serve::ServerState;
use crate::session::Session;
use crate::session_api::{Execution, RowTag};
use crate::sqlstate::SqlState;

/// Pieces of a change that may be read ahead of the client.
const PIECES_AHEAD: usize = 2;

/// A running subscription.
pub struct Following {
    pub stream: SendableRecordBatchStream,
    /// True while everything that is known has been handed over.
    pub is_idle: watch::Receiver<bool>,
}

impl Session {
    pub async fn subscribe(&mut self, subscribe: &Subscribe) -> Result<Execution, PgError> {
        let following = self.follow(subscribe).await?;
        Ok(Execution::Rows {
            stream: following.stream,
            tag: RowTag::Counted("SUBSCRIBE"),
        })
    }

    pub async fn copy_subscription(
        &mut self,
        subscribe: &Subscribe,
        options: &CopyOptions,
    ) -> Result<Execution, PgError> {
        let following = self.follow(subscribe).await?;
        Ok(Execution::CopyOut {
            stream: following.stream,
            options: options.clone(),
        })
    }

    /// The columns of a subscription's rows.
    pub fn subscription_schema(&self, subscribe: &Subscribe) -> Result<SchemaRef, PgError> {
        let object = self.followed(subscribe)?;
        let rows = self.server.engine.snapshot().table_provider(object.id)?;
        Ok(schema(&rows.schema()))
    }

    /// Begins a subscription. It belongs to no transaction: it begins with the newest epoch.
    pub async fn follow(&mut self, subscribe: &Subscribe) -> Result<Following, PgError> {
        let object = self.followed(subscribe)?;
        let (snapshot, subscription) = self
            .server
            .engine
            .subscribe(object.id, subscribe.as_of)
            .await?;
        let table = snapshot.table_provider(object.id)?;
        let schema = schema(&table.schema());
        let state = self.states.get(&self.shared, &self.server.queries);
        let queries = self.server.queries.clone();
        let rows = if subscribe.has_snapshot && subscribe.as_of.is_none() {
            let source = provider_as_source(table);
            let name = object.name.name.clone();
            let planned = queries.run(async move {
                let plan = LogicalPlanBuilder::scan(name, source, None)?.build()?;
                let physical = state.create_physical_plan(&plan).await?;
                Ok((physical, state.task_ctx()))
            });
            let (physical, context) = planned.await?;
            Some(queries.stream(physical, context, None))
        } else {
            None
        };
        let (idle, is_idle) = watch::channel(false);
        let role = self.newest_names().role();
        let follower = Follower {
            epoch: subscribe.as_of.unwrap_or(snapshot.epoch),
            rows,
            is_behind_snapshot: subscribe.as_of.is_none(),
            pieces: None,
            subscription,
            relation: object.id,
            role,
            server: self.server.clone(),
            schema: schema.clone(),
            has_progress: subscribe.has_progress,
            idle,
        };
        let batches = futures::stream::unfold(Some(follower), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Ok(batch) => Some((Ok(batch), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Following {
            stream: Box::pin(RecordBatchStreamAdapter::new(schema, batches)),
            is_idle,
        })
    }

    /// What the statement names, if it can be followed.
    fn followed(&self, subscribe: &Subscribe) -> Result<Arc<Object>, PgError> {
        let name = &subscribe.relation;
        let catalog = self.server.engine.snapshot().catalog.clone();
        let path = match &name.schema {
            Some(schema) => vec![schema.clone()],
            None => self.shared.settings.lock().search_path(),
        };
        let found = path
            .iter()
            .find_map(|schema| catalog.find(&name.resolve(schema)));
        let refuse = |what: &str, hint: &str| {
            let message = format!("{what} \"{}\" cannot be subscribed to", name.name);
            Err(PgError::new(SqlState::FeatureNotSupported, message).with_hint(hint))
        };
        let Some(object) = found else {
            if path.iter().any(|s| SYSTEM_SCHEMAS.contains(&s.as_str())) {
                return refuse("system view", "Poll it with SELECT.");
            }
            return Err(undefined_relation(name));
        };
        match &object.kind {
            ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => {
                self.newest_names().authorize(object, Privilege::Select)?;
                Ok(object.clone())
            }
            ObjectKind::View(_) => refuse(
                "view",
                "A plain view has no rows of its own: CREATE MATERIALIZED VIEW over it and SUBSCRIBE to that.",
            ),
            ObjectKind::Source(_) => refuse(
                "source",
                "A source is not stored: CREATE MATERIALIZED VIEW over it and SUBSCRIBE to that.",
            ),
            ObjectKind::Index(_) => refuse("index", "SUBSCRIBE to the relation it is on."),
        }
    }
}

/// Epoch and weight before the relation's own columns.
fn schema(rows: &SchemaRef) -> SchemaRef {
    let number = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
    let own = rows
        .fields()
        .iter()
        .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
    let fields = [number("epoch"), number("weight")].into_iter().chain(own);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Where a subscription stands.
struct Follower {
    /// Of what is being handed over.
    epoch: u64,
    /// The rest of the snapshot.
    rows: Option<SendableRecordBatchStream>,
    /// The snapshot's epoch has not been reported yet.
    is_behind_snapshot: bool,
    /// The rest of a change that is read from the disk.
    pieces: Option<mpsc::Receiver<DfResult<Delta>>>,
    subscription: Subscription,
    relation: ObjectId,
    /// Whose right to read counts, which can end while the subscription goes on.
    role: String,
    server: Arc<ServerState>,
    schema: SchemaRef,
    has_progress: bool,
    idle: watch::Sender<bool>,
}

impl Follower {
    async fn next(&mut self) -> DfResult<RecordBatch> {
        loop {
            if let Some(rows) = &mut self.rows {
                match rows.next().await {
                    Some(batch) => {
                        let batch = batch?;
                        let weights = Int64Array::from(vec![1; batch.num_rows()]);
                        return self.batch(&batch, weights);
                    }
                    None => self.rows = None,
                }
            }
            if std::mem::take(&mut self.is_behind_snapshot) && self.has_progress {
                return self.progress(self.epoch);
            }
            if let Some(pieces) = &mut self.pieces {
                match pieces.recv().await {
                    Some(delta) => return self.changes(&delta?),
                    None => self.pieces = None,
                }
            }
            match self.event().await? {
                Event::Progress(epoch) if self.has_progress => return self.progress(epoch),
                Event::Progress(_) => {}
                Event::Change(change) if change.is_spooled() => self.pieces = Some(pieces(change)),
                Event::Change(change) => {
                    let mut whole = None;
                    let take = &mut |delta| {
                        whole = Some(delta);
                        Ok(())
                    };
                    change.for_each(take).map_err(external)?;
                    if let Some(delta) = whole.filter(|delta| !delta.is_empty()) {
                        return self.changes(&delta);
                    }
                }
            }
        }
    }

    async fn event(&mut self) -> DfResult<Event> {
        let ready = self.subscription.ready().map_err(external)?;
        let event = match ready {
            Some(event) => event,
            None => {
                self.idle.send_replace(true);
                let event = self.subscription.next().await;
                self.idle.send_replace(false);
                event.map_err(external)?
            }
        };
        if let Event::Change(change) = &event {
            let may_read = authorize_still(&self.server, &self.role, self.relation);
            may_read.map_err(|error| DataFusionError::External(Box::new(error)))?;
            self.epoch = change.epoch;
        }
        Ok(event)
    }

    /// Rows that are taken away come before those that are added.
    fn changes(&self, delta: &Delta) -> DfResult<RecordBatch> {
        let Some(weights) = delta.weights() else {
            let weights = Int64Array::from(vec![1; delta.num_rows()]);
            return self.batch(delta.batch(), weights);
        };
        let is_taken: BooleanArray = lt(weights, &Int64Array::new_scalar(0))?;
        let (taken, added) = (delta.filter(&is_taken)?, delta.filter(&not(&is_taken)?)?);
        let ordered = Delta::concat(delta.schema(), &[taken, added])?;
        let weights = (0..ordered.num_rows()).map(|row| ordered.weight(row));
        self.batch(ordered.batch(), Int64Array::from_iter_values(weights))
    }

    fn progress(&self, epoch: u64) -> DfResult<RecordBatch> {
        let own = self.schema.fields().iter().skip(2);
        let nulls = own.map(|field| new_null_array(field.data_type(), 1));
        let first: [ArrayRef; 2] = [
            Arc::new(Int64Array::from(vec![epoch as i64])),
            Arc::new(Int64Array::from(vec![0])),
        ];
        let columns = first.into_iter().chain(nulls).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn batch(&self, rows: &RecordBatch, weights: Int64Array) -> DfResult<RecordBatch> {
        let epochs = Int64Array::from(vec![self.epoch as i64; rows.num_rows()]);
        let first: [ArrayRef; 2] = [Arc::new(epochs), Arc::new(weights)];
        let columns = first.into_iter().chain(rows.columns().iter().cloned());
        Ok(RecordBatch::try_new(
            self.schema.clone(),
            columns.collect(),
        )?)
    }
}

/// The pieces of a change that is on the disk, as they are read.
fn pieces(change: Arc<EpochChange>) -> mpsc::Receiver<DfResult<Delta>> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let read = move |send: &mut dyn FnMut(DfResult<Delta>) -> bool| {
        let mut is_wanted = true;
        let result = change.for_each(&mut |delta| {
            is_wanted = is_wanted && (delta.is_empty() || send(Ok(delta)));
            Ok(())
        });
        if let Err(error) = result
            && is_wanted
        {
            send(Err(external(error)));
        }
    };
    tokio::task::spawn_blocking(move || read(&mut |piece| sender.blocking_send(piece).is_ok()));
    receiver
}

fn external(error: rivermark_executor::ExecutorError) -> DataFusionError {
    DataFusionError::External(Box::new(PgError::from(error)))
}
