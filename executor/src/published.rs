//! What the writer shows to everyone else: the newest snapshot and the engine's status. Reading it never waits for
//! an epoch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rivermark_planner::catalog::ObjectId;

use crate::api::{EpochStatus, MaterializedViewStatus, SourceStatus};
use crate::clock::TableMark;
use crate::operator_stats::OperatorReport;
use crate::shared_prefix::SharedPrefixes;
use crate::snapshot::Snapshot;
use crate::writer::EPOCH_HISTORY;

/// Shared between the writer and the engine's handles.
pub struct Published {
    snapshot: RwLock<Arc<Snapshot>>,
    status: Mutex<Status>,
    /// The operators of each view.
    operators: Mutex<BTreeMap<ObjectId, Vec<OperatorReport>>>,
}

/// As of the last publication.
#[derive(Default, Clone)]
pub struct Status {
    pub sources: Vec<SourceStatus>,
    /// Tables with a watermark.
    pub timed_tables: Vec<(ObjectId, TableMark)>,
    pub views: BTreeMap<ObjectId, MaterializedViewStatus>,
    pub epochs: VecDeque<EpochStatus>,
    pub durable_epoch: u64,
    /// Set while a commit is being retried, e.g. because the disk is full.
    pub storage_error: Option<String>,
    pub is_closed: bool,
    pub prefixes: Arc<SharedPrefixes>,
}

impl Published {
    pub fn new(snapshot: Snapshot, durable_epoch: u64) -> Self {
        Published {
            snapshot: RwLock::new(Arc::new(snapshot)),
            status: Mutex::new(Status {
                durable_epoch,
                ..Status::default()
            }),
            operators: Mutex::default(),
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    pub fn set_snapshot(&self, snapshot: Snapshot) {
        let previous = std::mem::replace(&mut *self.snapshot.write(), Arc::new(snapshot));
        // Releasing a RocksDB snapshot must not happen under the lock that readers take.
        drop(previous);
    }

    /// Adds an epoch and replaces the rows of sources and views.
    pub fn set_epoch(&self, epoch: EpochStatus) {
        let mut status = self.status.lock();
        if epoch.is_durable {
            status.durable_epoch = epoch.epoch;
        }
        if status.epochs.len() == EPOCH_HISTORY {
            status.epochs.pop_front();
        }
        status.epochs.push_back(epoch);
    }

    pub fn set_sources(&self, sources: Vec<SourceStatus>) {
        self.status.lock().sources = sources;
    }

    pub fn set_timed_tables(&self, tables: Vec<(ObjectId, TableMark)>) {
        self.status.lock().timed_tables = tables;
    }

    /// Replaces the rows of views that changed.
    pub fn update_views(&self, views: impl Iterator<Item = MaterializedViewStatus>) {
        let mut status = self.status.lock();
        views.for_each(|view| drop(status.views.insert(view.view, view)));
    }

    /// Replaces the operators of views that ran.
    pub fn update_operators(&self, reports: impl Iterator<Item = (ObjectId, Vec<OperatorReport>)>) {
        self.operators.lock().extend(reports);
    }

    /// The operators of the views.
    pub fn operators(&self) -> BTreeMap<ObjectId, Vec<OperatorReport>> {
        self.operators.lock().clone()
    }

    pub fn remove_view(&self, view: ObjectId) {
        self.status.lock().views.remove(&view);
        self.operators.lock().remove(&view);
    }

    pub fn set_durable(&self, epoch: u64) {
        let mut status = self.status.lock();
        status.durable_epoch = epoch;
        for row in status.epochs.iter_mut().filter(|row| row.epoch <= epoch) {
            row.is_durable = true;
        }
    }

    pub fn set_storage_error(&self, error: Option<String>) {
        self.status.lock().storage_error = error;
    }

    pub fn set_prefixes(&self, prefixes: Arc<SharedPrefixes>) {
        self.status.lock().prefixes = prefixes;
    }

    pub fn close(&self) {
        self.status.lock().is_closed = true;
    }
}
