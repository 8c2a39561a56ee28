//! Where ad-hoc queries run: threads and memory of their own, so that no query can stall a connection or the engine.
//!
//! Queries share one memory pool. Nothing spills: a query that needs more than is left fails with "out of memory" and
//! gives everything back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// Batches that may wait between a query and its reader.
const READY_BATCHES: usize = 2;

/// The runtime of queries; cheap to clone.
#[derive(Clone)]
pub struct QueryRuntime {
    handle: Handle,
    env: Arc<RuntimeEnv>,
}

impl QueryRuntime {
    /// `memory` bytes are shared by all queries that run on `handle`.
    pub fn new(handle: Handle, memory: usize) -> Result<QueryRuntime> {
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        Ok(QueryRuntime { handle, env })
    }

    pub fn env(&self) -> Arc<RuntimeEnv> {
        self.env.clone()
    }

    /// Runs `work` on the queries' threads. Dropping the future stops it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PgError>> + Send + 'static,
    ) -> Result<T, PgError> {
        let mut task = AbortOnDrop(self.handle.spawn(work));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                let message = panic_message(panic.as_ref());
                Err(PgError::new(
                    SqlState::InternalError,
                    format!("internal error: {message}"),
                ))
            }
            Err(_) => Err(PgError::fatal(
                SqlState::AdminShutdown,
                "terminating connection due to administrator command",
            )),
        }
    }

    /// Executes a plan on the queries' threads; rows come through a short queue, so that a slow reader holds the
    /// query back. Dropping the stream stops the query.
    pub fn stream(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        deadline: Option<Instant>,
    ) -> SendableRecordBatchStream {
        let schema = plan.schema();
        let (sender, receiver) = mpsc::channel(READY_BATCHES);
        let produce = async move {
            let mut stream = match yielding(plan).and_then(|plan| execute_stream(plan, context)) {
                Ok(stream) => stream,
                Err(error) => return drop(sender.send(Err(error)).await),
            };
            while let Some(batch) = stream.next().await {
                let is_error = batch.is_err();
                if sender.send(batch).await.is_err() || is_error {
                    return;
                }
            }
        };
        let task = AbortOnDrop(self.handle.spawn(produce));
        Box::pin(QueryStream {
            schema,
            receiver,
            task,
            deadline: deadline.map(|d| Box::pin(tokio::time::sleep_until(d))),
            is_over: false,
        })
    }
}

/// The plan with joins that give way: one that makes many rows of few, all of which a filter drops, would otherwise
/// never come back to its thread's scheduler, and neither a cancel request nor another query would be served.
fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let multiplies = |name: &str| name.ends_with("JoinExec") || name == "UnnestExec";
    let plan = plan.transform_up(|node| match multiplies(node.name()) {
        true => Ok(Transformed::yes(
            Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>
        )),
        false => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// What a panic said.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_string())
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The reader's end of a running query.
struct QueryStream {
    schema: SchemaRef,
    receiver: mpsc::Receiver<Result<RecordBatch>>,
    task: AbortOnDrop<()>,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    /// All has been read; a cursor may ask again.
    is_over: bool,
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.is_over = true;
            self.receiver.close();
            self.task.0.abort();
            return Poll::Ready(Some(Err(DataFusionError::External(Box::new(timed_out())))));
        }
        let ended = match self.receiver.poll_recv(context) {
            // the queue is closed before the task is quite over
            Poll::Ready(None) => match Pin::new(&mut self.task.0).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ended) => ended,
            },
            other => return other,
        };
        self.is_over = true;
        Poll::Ready(match ended {
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                let message = panic_message(panic.as_ref());
                Some(Err(DataFusionError::Internal(message)))
            }
            _ => None,
        })
    }
}

impl RecordBatchStream for QueryStream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// The error of a statement that took longer than `statement_timeout`.
pub fn timed_out() -> PgError {
    PgError::new(
        SqlState::QueryCanceled,
        "canceling statement due to statement timeout",
    )
}
