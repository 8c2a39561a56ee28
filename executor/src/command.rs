//! What sessions ask of the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use rivermark_planner::catalog::{ObjectId, Positions};
use tokio::sync::oneshot;

use crate::api::{CatalogChange, TableWrite};
use crate::changes::Subscription;
use crate::error::Result;
use crate::snapshot::Snapshot;

/// A request to the epoch loop; each carries where to answer.
pub enum Command {
    ChangeCatalog {
        catalog_version: u64,
        change: Box<PreparedChange>,
        reply: oneshot::Sender<Result<Option<ObjectId>>>,
    },
    Write {
        writes: Vec<TableWrite>,
        reply: oneshot::Sender<Result<u64>>,
    },
    WaitUntilReady {
        view: ObjectId,
        reply: oneshot::Sender<Result<()>>,
    },
    /// Answered once every view that is live on these sources has seen these positions.
    WaitForPositions {
        targets: Vec<(ObjectId, Positions)>,
        reply: oneshot::Sender<Result<u64>>,
    },
    /// Begins a subscription behind the published epoch or `as_of`, whose snapshot comes with it.
    Subscribe {
        relation: ObjectId,
        as_of: Option<u64>,
        reply: oneshot::Sender<Result<(Arc<Snapshot>, Subscription)>>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// A catalog change with what had to be asked of the outside before.
pub struct PreparedChange {
    pub change: CatalogChange,
    /// Who owns what it creates.
    pub creator: String,
    /// Ends of the sources that new views scan.
    pub targets: Vec<(ObjectId, Positions)>,
    /// Where new views start to read sources that do not hold everything any more.
    pub starts: BTreeMap<ObjectId, Positions>,
}
