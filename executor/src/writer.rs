//! The epoch loop: one thread owns the dataflow and all state; everything else talks to it through a channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{ObjectId, Positions};
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::api::EngineConfig;
use crate::catalog_change::Dropped;
use crate::changes::Followers;
use crate::clock::TableTime;
use crate::command::Command;
use crate::dead_letters::DeadLetters;
use crate::error::{ExecutorError, Result};
use crate::late_rows::LateRows;
use crate::progress::{ScanProgress, has_reached};
use crate::published::Published;
use crate::reshape::Reshape;
use crate::row_store::RowStore;
use crate::shared_prefix::SharedPrefixes;
use crate::source::ConnectorFactory;
use crate::source_input::{ReaderContext, SourceInput};
use crate::state::{CacheHandle, Store};
use crate::view::View;
use crate::wal_sync::{Synced, WalSync};
use crate::wall_clock::{instant, now_us};

/// Epochs kept for `rivermark.epochs`.
pub const EPOCH_HISTORY: usize = 1000;

/// A stored table and its rows.
pub struct Table {
    pub name: String,
    pub rows: RowStore,
    /// Of a table with a watermark.
    pub time: Option<TableTime>,
    /// Has changes that are not committed.
    pub is_dirty: bool,
}

/// The writer's whole world.
pub struct Writer {
    pub config: EngineConfig,
    pub store: Store,
    pub cache: CacheHandle,
    pub connectors: Arc<dyn ConnectorFactory>,
    pub published: Arc<Published>,
    pub commands: Receiver<Command>,
    pub wake: Receiver<()>,
    pub readers: ReaderContext,

    pub catalog: Catalog,
    pub is_catalog_dirty: bool,
    /// A view's state changed, so snapshots need a new list of relations.
    pub are_relations_dirty: bool,
    pub tables: BTreeMap<ObjectId, Table>,
    pub views: BTreeMap<ObjectId, View>,
    pub sources: BTreeMap<ObjectId, SourceInput>,
    pub letters: DeadLetters,
    pub late: LateRows,
    /// What dropped objects leave to be deleted with the next commit.
    pub dropped: Vec<Dropped>,
    /// Views that scan an object, for every object that is scanned.
    pub scanned_by: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    /// What the plans of views have in common.
    pub prefixes: Arc<SharedPrefixes>,
    /// Views that have something to read besides the epochs' changes.
    pub backfilling: BTreeSet<ObjectId>,
    /// Relations with indexes that are being built.
    pub indexing: BTreeSet<ObjectId>,
    /// Statements that wait until an index is complete.
    pub index_waiters: BTreeMap<ObjectId, Vec<oneshot::Sender<Result<()>>>>,
    /// Tables whose rows are being copied into another form.
    pub reshapes: BTreeMap<ObjectId, Reshape>,

    pub epoch: u64,
    /// The last epoch's time, microseconds since 1970. It stands still while the clock is behind it.
    pub now_us: i64,
    /// Epoch numbers below this are reserved durably.
    pub reserved_epochs: u64,
    pub durable_epoch: u64,
    pub wal_sync: WalSync,
    /// The last epoch that a sync of its own has made durable, and whose positions the connectors were told.
    pub synced_epoch: u64,
    pub last_epoch_at: Instant,
    pub position_waiters: Vec<PositionWaiter>,
    pub followers: Followers,
    pub pending: VecDeque<Command>,
}

/// A FLUSH that waits.
pub struct PositionWaiter {
    pub targets: Vec<(ObjectId, Positions)>,
    pub reply: oneshot::Sender<Result<u64>>,
}

/// Sends a wake-up without ever blocking or piling up: one is enough.
pub fn waker(sender: Sender<()>) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        // Full: a wake-up is already due.
        let _ = sender.try_send(());
    })
}

impl Writer {
    /// Runs until shut down.
    pub fn run(mut self) {
        loop {
            let wakes = self.wait();
            if let Some(reply) = self.take_shutdown() {
                self.shut_down(reply);
                return;
            }
            let is_source_due = wakes || self.has_background_work();
            if self.pending.is_empty() && !is_source_due {
                self.sync_if_due();
                continue;
            }
            if self.pending.is_empty() && !self.pause_between_epochs() {
                continue;
            }
            if let Err(error) = self.run_epoch() {
                // Everything a person could cause is handled inside; this is the environment or a bug of ours.
                error!(%error, "epoch failed");
                std::thread::sleep(Duration::from_millis(100));
            }
            self.refresh_sources();
            self.answer_position_waiters();
            self.sync_if_due();
        }
    }

    /// Whether epochs have something to do without any input.
    fn has_background_work(&self) -> bool {
        !self.backfilling.is_empty()
            || !self.reshapes.is_empty()
            || !self.indexing.is_empty()
            || self
                .next_watermark_check()
                .is_some_and(|due| due <= instant())
            || self.time_to_due().is_some_and(|left| left.is_zero())
    }

    /// How long until a view has something to do without any input.
    fn time_to_due(&self) -> Option<Duration> {
        let views = self.views.values().filter(|view| view.is_maintained());
        let due = views.filter_map(|view| view.due_us).min()?;
        let left_us = due.saturating_sub(self.now_us.max(now_us())).max(0);
        Some(Duration::from_micros(left_us as u64))
    }

    /// Waits for work; true if sources may have something.
    fn wait(&mut self) -> bool {
        let mut has_wake = self.wake.try_recv().is_ok();
        if self.pending.is_empty() && !has_wake && !self.has_background_work() {
            let silence = self.next_watermark_check();
            let silence = silence.map(|due| due.saturating_duration_since(instant()));
            let due = silence.into_iter().chain(self.time_to_due()).min();
            let to_sync = self.time_to_sync();
            let timeout = due.map_or(to_sync, |due| due.min(to_sync));
            select! {
                recv(self.commands) -> command => match command {
                    Ok(command) => self.pending.push_back(command),
                    // All handles are gone: stop as if asked to.
                    Err(_) => self.pending.push_back(Command::Shutdown { reply: oneshot::channel().0 }),
                },
                recv(self.wake) -> _ => has_wake = true,
                default(timeout) => {}
            }
        }
        self.pending.extend(self.commands.try_iter());
        has_wake
    }

    /// Source-driven epochs are paced; commands end the pause at once. False: a command came, look again.
    fn pause_between_epochs(&mut self) -> bool {
        let due = self.last_epoch_at + self.config.min_epoch_interval;
        let now = Instant::now();
        if now >= due {
            return true;
        }
        match self.commands.recv_timeout(due - now) {
            Ok(command) => {
                self.pending.push_back(command);
                self.pending.extend(self.commands.try_iter());
                !self
                    .pending
                    .iter()
                    .any(|c| matches!(c, Command::Shutdown { .. }))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => true,
        }
    }

    fn time_to_sync(&self) -> Duration {
        if self.synced_epoch < self.epoch && !self.wal_sync.is_running() {
            self.wal_sync.time_to_next(self.config.wal_sync_interval)
        } else {
            Duration::from_secs(1)
        }
    }

    /// Begins to fsync what was committed, every `wal_sync_interval`, and notes what has become durable.
    fn sync_if_due(&mut self) {
        if let Some(synced) = self.wal_sync.ended() {
            self.note_synced(synced);
        }
        if self.time_to_sync().is_zero() {
            let read = self.sources.iter().filter(|(_, s)| s.is_read());
            let positions = read.map(|(id, s)| (*id, s.progress.positions.clone()));
            self.wal_sync.begin(self.epoch, positions.collect());
        }
    }

    /// Tells who asks what is durable, and the connectors what will not be read again.
    fn note_synced(&mut self, synced: Synced) {
        if let Some(error) = synced.error {
            error!(%error, "fsync of the write-ahead log failed; trying again");
            self.published.set_storage_error(Some(error.to_string()));
            return;
        }
        self.published.set_storage_error(None);
        self.synced_epoch = synced.epoch;
        self.durable_epoch = self.durable_epoch.max(synced.epoch);
        self.published.set_durable(self.durable_epoch);
        for (id, positions) in synced.positions {
            if let Some(source) = self.sources.get_mut(&id) {
                source.tell_durable_positions(&positions);
            }
        }
    }

    /// Starts the shared readers of all sources that views read.
    pub fn start_sources(&mut self) {
        let context = self.readers.clone();
        let attached: Vec<(ObjectId, ObjectId, Vec<usize>)> = self
            .views
            .values()
            .filter(|v| v.is_maintained())
            .flat_map(|v| {
                v.progress
                    .scans
                    .iter()
                    .map(move |(object, scan)| (v, *object, scan))
            })
            .filter(|(_, _, scan)| **scan == ScanProgress::Live)
            .map(|(view, object, _)| (view.id, object, view.columns_of(object)))
            .collect();
        for (view, object, columns) in attached {
            if let Some(source) = self.sources.get_mut(&object) {
                source.attach(view, columns, &context);
            }
        }
    }

    fn take_shutdown(&mut self) -> Option<oneshot::Sender<()>> {
        let at = self
            .pending
            .iter()
            .position(|c| matches!(c, Command::Shutdown { .. }))?;
        match self.pending.remove(at) {
            Some(Command::Shutdown { reply }) => Some(reply),
            _ => None,
        }
    }

    fn shut_down(mut self, reply: oneshot::Sender<()>) {
        info!(epoch = self.epoch, "stopping");
        self.sources.clear();
        for command in std::mem::take(&mut self.pending) {
            refuse(command);
        }
        for view in self.views.values_mut() {
            view.answer_waiters(Err(ExecutorError::ShuttingDown));
        }
        for waiter in std::mem::take(&mut self.index_waiters)
            .into_values()
            .flatten()
        {
            let _ = waiter.send(Err(ExecutorError::ShuttingDown));
        }
        for waiter in self.position_waiters.drain(..) {
            let _ = waiter.reply.send(Err(ExecutorError::ShuttingDown));
        }
        self.end_subscriptions();
        if let Err(error) = self.store.sync_wal() {
            error!(%error, "the last fsync failed");
        }
        self.published.close();
        drop(self);
        let _ = reply.send(());
    }

    /// Answers each FLUSH whose positions have been reached, or whose source can not reach them any more.
    fn answer_position_waiters(&mut self) {
        let mut waiting = Vec::new();
        for waiter in std::mem::take(&mut self.position_waiters) {
            match self.flush_state(&waiter.targets) {
                Ok(true) => {
                    let _ = waiter.reply.send(Ok(self.epoch));
                }
                Ok(false) => waiting.push(waiter),
                Err(error) => {
                    let _ = waiter.reply.send(Err(error));
                }
            }
        }
        waiting.retain(|w| !w.reply.is_closed());
        self.position_waiters = waiting;
    }

    fn flush_state(&self, targets: &[(ObjectId, Positions)]) -> Result<bool> {
        for (id, target) in targets {
            let Some(source) = self.sources.get(id).filter(|s| s.is_read()) else {
                continue;
            };
            // A resumed view is readable while it catches up with a reader of its own.
            let is_behind = self.views.values().any(|view| {
                view.is_maintained()
                    && view.progress.is_ready
                    && matches!(
                        view.progress.scans.get(id),
                        Some(ScanProgress::Source { positions, .. }) if !has_reached(positions, target)
                    )
            });
            if !is_behind && has_reached(&source.progress.positions, target) {
                continue;
            }
            if let Some(failure) = source.failure() {
                return Err(failure.into());
            }
            return Ok(false);
        }
        Ok(true)
    }
}

/// Tells a statement that the server stops.
fn refuse(command: Command) {
    match command {
        Command::ChangeCatalog { reply, .. } => drop(reply.send(Err(ExecutorError::ShuttingDown))),
        Command::Write { reply, .. } => drop(reply.send(Err(ExecutorError::ShuttingDown))),
        Command::WaitUntilReady { reply, .. } => drop(reply.send(Err(ExecutorError::ShuttingDown))),
        Command::WaitForPositions { reply, .. } => {
            drop(reply.send(Err(ExecutorError::ShuttingDown)))
        }
        Command::Subscribe { reply, .. } => drop(reply.send(Err(ExecutorError::ShuttingDown))),
        Command::Shutdown { reply } => drop(reply.send(())),
    }
}
