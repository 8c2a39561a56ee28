//! The engine's handle: cheap to clone, usable from any task.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::ObjectId;

use crate::api::*;
use crate::error::Result;
use crate::source::ConnectorFactory;

#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Opens the data directory, recovers, and starts the epoch loop. Blocking.
    pub fn open(_config: EngineConfig, _connectors: Arc<dyn ConnectorFactory>) -> Result<Engine> {
        unimplemented!()
    }
    /// The last published epoch.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        unimplemented!()
    }
    /// Applies a catalog change; returns when its epoch is published. The id of the created object, if one was.
    /// A materialized view is then registered but possibly still backfilling: see `wait_until_ready`.
    pub async fn change_catalog(&self, _catalog_version: u64, _change: CatalogChange) -> Result<Option<ObjectId>> {
        unimplemented!()
    }
    /// Returns when the view has caught up with what its inputs held when it was created; an error if it failed.
    /// Dropping the future has no effect on the view.
    pub async fn wait_until_ready(&self, _view: ObjectId) -> Result<()> {
        unimplemented!()
    }
    /// Applies one statement's changes in one epoch (durable and published when this returns); the epoch.
    pub async fn write(&self, _writes: Vec<TableWrite>) -> Result<u64> {
        unimplemented!()
    }
    /// Waits until everything that was in the sources' topics when it was called has been published.
    pub async fn flush(&self) -> Result<u64> {
        unimplemented!()
    }
    pub fn sources(&self) -> Vec<SourceStatus> {
        unimplemented!()
    }
    pub fn materialized_views(&self) -> Vec<MaterializedViewStatus> {
        unimplemented!()
    }
    pub fn epochs(&self) -> Vec<EpochStatus> {
        unimplemented!()
    }
    /// Stops the epoch loop after a last commit and fsync. Idempotent.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}

/// A committed epoch, for readers: all relations at one moment.
pub struct Snapshot {
    pub epoch: u64,
    pub catalog: Arc<Catalog>,
}

impl Snapshot {
    /// Rows of a table, materialized view or source (a source is read from its start to its current end) as of
    /// this epoch. Errors: a view that is half built, FAILED or unknown.
    pub fn table_provider(&self, _object: ObjectId) -> Result<Arc<dyn TableProvider>> {
        unimplemented!()
    }
    /// Dead letters as of this epoch, oldest first.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        unimplemented!()
    }
}
