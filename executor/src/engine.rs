//! The engine's handle: cheap to clone, usable from any task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{ObjectId, ObjectKind, Positions, QualifiedName, SourceDef};
use rivermark_planner::prefix::Prefix;
use rivermark_planner::security::BOOTSTRAP;
use tokio::sync::{broadcast, oneshot};

use crate::api::{
    CatalogChange, EngineConfig, EpochStatus, MaterializedViewStatus, OperatorStatus, Retention,
    SourceStatus, TableWrite,
};
use crate::changes::{ChangedRelations, Subscription};
use crate::clock::TableMark;
use crate::command::{Command, PreparedChange};
use crate::computed_time::WithComputedTime;
use crate::error::{ExecutorError, Result};
use crate::published::Published;
use crate::recovery;
use crate::snapshot::Snapshot;
use crate::source::{ConnectorFactory, Source, SourceError};
use crate::source_secrets::open_source;
use crate::state::{Store, StoreUsage};
use crate::wall_clock::now_us;
use crate::writer::Writer;

/// Requests that may wait for the writer before senders have to.
const COMMAND_QUEUE: usize = 1024;
/// How long creating a source or view, and FLUSH, wait for a broker to answer.
const SOURCE_TIMEOUT_MS: u64 = 10_000;

/// A running engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    published: Arc<Published>,
    connectors: Arc<dyn ConnectorFactory>,
    store: Store,
    news: broadcast::Sender<Arc<ChangedRelations>>,
    is_stopped: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens the data directory, recovers, and starts the epoch loop. Blocking.
    pub fn open(config: EngineConfig, connectors: Arc<dyn ConnectorFactory>) -> Result<Engine> {
        let connectors: Arc<dyn ConnectorFactory> = Arc::new(WithComputedTime(connectors));
        let (command_sender, commands) = bounded(COMMAND_QUEUE);
        let writer = recovery::recover(config, connectors.clone(), commands)?;
        let published = writer.published.clone();
        let store = writer.store.clone();
        let news = writer.followers.news();
        let thread = std::thread::Builder::new()
            .name("epoch-loop".into())
            .spawn(move || run_or_abort(writer))
            .map_err(|e| ExecutorError::Internal(format!("the epoch loop can not start: {e}")))?;
        let inner = Inner {
            commands: command_sender,
            published,
            connectors,
            store,
            news,
            is_stopped: AtomicBool::new(false),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Engine {
            inner: Arc::new(inner),
        })
    }

    /// The last published epoch.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.published.snapshot()
    }

    /// Applies a catalog change; returns when its epoch is published. The id of the created object, if one was.
    /// A materialized view is then registered but possibly still backfilling: see [`Self::wait_until_ready`].
    pub async fn change_catalog(
        &self,
        catalog_version: u64,
        change: CatalogChange,
    ) -> Result<Option<ObjectId>> {
        self.change_catalog_as(BOOTSTRAP, catalog_version, change)
            .await
    }

    /// As [`Self::change_catalog`], by a role to which belongs what is created.
    pub async fn change_catalog_as(
        &self,
        creator: &str,
        catalog_version: u64,
        change: CatalogChange,
    ) -> Result<Option<ObjectId>> {
        let prepared = PreparedChange {
            creator: creator.to_string(),
            ..self.prepare(change).await?
        };
        self.ask(|reply| Command::ChangeCatalog {
            catalog_version,
            change: Box::new(prepared),
            reply,
        })
        .await
    }

    /// The source that `def` describes, as of a catalog with its secrets.
    fn opened(
        &self,
        catalog: &Catalog,
        name: &QualifiedName,
        def: &SourceDef,
    ) -> Result<Arc<dyn Source>> {
        open_source(self.inner.connectors.as_ref(), catalog, name, def)
    }

    /// Asks the outside what a change needs to know of it.
    async fn prepare(&self, change: CatalogChange) -> Result<PreparedChange> {
        match change {
            CatalogChange::CreateSource { name, sql, mut def } => {
                let catalog = self.snapshot().catalog.clone();
                let source = self.opened(&catalog, &name, &def)?;
                def.start = blocking(move || source.resolve_start(SOURCE_TIMEOUT_MS)).await??;
                Ok(PreparedChange {
                    creator: BOOTSTRAP.to_string(),
                    change: CatalogChange::CreateSource { name, sql, def },
                    targets: Vec::new(),
                    starts: BTreeMap::new(),
                })
            }
            CatalogChange::CreateMaterializedView(new) => {
                let targets = self.source_ends(&new.plan.root.scanned_objects()).await?;
                Ok(PreparedChange {
                    creator: BOOTSTRAP.to_string(),
                    change: CatalogChange::CreateMaterializedView(new),
                    targets,
                    starts: BTreeMap::new(),
                })
            }
            CatalogChange::Replace { members, retention } => {
                let mut scanned: Vec<ObjectId> = members
                    .iter()
                    .flat_map(|member| member.plan.root.scanned_objects())
                    .collect();
                scanned.sort();
                scanned.dedup();
                let targets = self.source_ends(&scanned).await?;
                let starts = self.retained_starts(&scanned, retention).await?;
                Ok(PreparedChange {
                    creator: BOOTSTRAP.to_string(),
                    change: CatalogChange::Replace { members, retention },
                    targets,
                    starts,
                })
            }
            change => Ok(PreparedChange {
                creator: BOOTSTRAP.to_string(),
                change,
                targets: Vec::new(),
                starts: BTreeMap::new(),
            }),
        }
    }

    /// Where the sources among `objects` end now.
    async fn source_ends(&self, objects: &[ObjectId]) -> Result<Vec<(ObjectId, Positions)>> {
        let snapshot = self.snapshot();
        let mut ends = Vec::new();
        for id in objects {
            let Some(object) = snapshot.catalog.get(*id) else {
                continue;
            };
            let ObjectKind::Source(def) = &object.kind else {
                continue;
            };
            let source = self.opened(&snapshot.catalog, &object.name, def)?;
            let mut end = blocking(move || source.end_offsets(SOURCE_TIMEOUT_MS)).await??;
            // An empty partition ends where it starts; one before the source's start needs no reading.
            end.retain(|partition, end| def.start.get(partition).is_none_or(|start| *end > *start));
            ends.push((*id, end));
        }
        Ok(ends)
    }

    /// Where to start reading those of the sources that do not hold any more what views were built from.
    async fn retained_starts(
        &self,
        objects: &[ObjectId],
        retention: Retention,
    ) -> Result<BTreeMap<ObjectId, Positions>> {
        let mut starts = BTreeMap::new();
        if retention == Retention::NotAsked {
            return Ok(starts);
        }
        let snapshot = self.snapshot();
        for id in objects {
            let Some(object) = snapshot.catalog.get(*id) else {
                continue;
            };
            let ObjectKind::Source(def) = &object.kind else {
                continue;
            };
            let source = self.opened(&snapshot.catalog, &object.name, def)?;
            let first = blocking(move || source.first_offsets(SOURCE_TIMEOUT_MS)).await??;
            let mut start = def.start.clone();
            let mut lost = Vec::new();
            for (partition, first) in first {
                let at = start.entry(partition).or_insert(0);
                if *at < first {
                    lost.push(format!(
                        "partition {partition}: offsets {at} to {}",
                        first - 1
                    ));
                    *at = first;
                }
            }
            if lost.is_empty() {
                continue;
            }
            if retention == Retention::Refuse {
                return Err(SourceError::DataLoss(format!(
                    "source \"{}\" does not hold any more what the view was built from ({}); REBUILD FORCE builds it from what is left",
                    object.name,
                    lost.join(", ")
                ))
                .into());
            }
            starts.insert(*id, start);
        }
        Ok(starts)
    }

    /// Returns when the view has caught up with what its inputs held when it was created; an error if it failed.
    /// Dropping the future has no effect on the view.
    pub async fn wait_until_ready(&self, view: ObjectId) -> Result<()> {
        self.ask(|reply| Command::WaitUntilReady { view, reply })
            .await
    }

    /// Applies the changes in one epoch, all or none; they are durable and published when this returns. The epoch.
    pub async fn write(&self, writes: Vec<TableWrite>) -> Result<u64> {
        self.ask(|reply| Command::Write { writes, reply }).await
    }

    /// Follows a table or materialized view: its rows as of the snapshot, then the changes of each epoch behind it; or
    /// those of each epoch behind `as_of`.
    pub async fn subscribe(
        &self,
        relation: ObjectId,
        as_of: Option<u64>,
    ) -> Result<(Arc<Snapshot>, Subscription)> {
        self.ask(|reply| Command::Subscribe {
            relation,
            as_of,
            reply,
        })
        .await
    }

    /// Which relations each epoch changes, from now on.
    pub fn changed_relations(&self) -> broadcast::Receiver<Arc<ChangedRelations>> {
        self.inner.news.subscribe()
    }

    /// Rewrites what is stored, so that what was deleted takes no room on the disk any more. Everything else goes on.
    pub async fn compact(&self) -> Result<()> {
        let store = self.inner.store.clone();
        Ok(blocking(move || store.compact()).await??)
    }

    /// Waits until everything that was in the sources' topics when it was called has been published; the epoch.
    pub async fn flush(&self) -> Result<u64> {
        let snapshot = self.snapshot();
        let read: Vec<ObjectId> = self
            .inner
            .published
            .status()
            .sources
            .iter()
            .filter(|s| s.status != "IDLE" && snapshot.catalog.get(s.source).is_some())
            .map(|s| s.source)
            .collect();
        let mut unique = read;
        unique.dedup();
        let targets = self.source_ends(&unique).await?;
        self.ask(|reply| Command::WaitForPositions { targets, reply })
            .await
    }

    /// Rows of `rivermark.sources`.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.inner.published.status().sources
    }

    /// Tables with a watermark, as rows of `rivermark.sources`.
    pub fn timed_tables(&self) -> Vec<SourceStatus> {
        let snapshot = self.snapshot();
        let tables = self.inner.published.status().timed_tables.into_iter();
        let row = |(id, mark): (ObjectId, TableMark)| {
            Some(SourceStatus {
                source: id,
                name: snapshot.catalog.get(id)?.name.clone(),
                partition: None,
                offset: None,
                end_offset: None,
                watermark_us: mark.watermark_us,
                rows: mark.rows,
                bytes: 0,
                late_rows: mark.late_rows,
                dead_letters: 0,
                status: "TABLE",
                last_error: None,
                caught_up_at_us: None,
            })
        };
        tables.filter_map(row).collect()
    }

    /// Rows of `rivermark.materialized_views`.
    pub fn materialized_views(&self) -> Vec<MaterializedViewStatus> {
        let snapshot = self.snapshot();
        let sources = self.sources();
        let mut views = self
            .inner
            .published
            .status()
            .views
            .into_values()
            .collect::<Vec<_>>();
        for view in &mut views {
            let Some(object) = snapshot.catalog.get(view.view) else {
                continue;
            };
            if let ObjectKind::MaterializedView(def) = &object.kind {
                view.state_bytes = crate::usage::state_bytes(&self.inner.store, def);
                view.freshness_ms = freshness_ms(view.view, &snapshot.catalog, &sources);
            }
        }
        views
    }

    /// Rows of `rivermark.operators`.
    pub fn operators(&self) -> Vec<OperatorStatus> {
        let store = &self.inner.store;
        let reports = self.inner.published.operators().into_iter();
        reports
            .flat_map(|(view, reports)| crate::usage::operator_rows(store, view, reports))
            .collect()
    }

    /// Names of the views whose plans begin with the same prefix, for EXPLAIN.
    pub fn views_with(&self, prefix: &Prefix) -> Vec<String> {
        let catalog = &self.snapshot().catalog;
        let prefixes = self.inner.published.status().prefixes;
        let views = prefixes.views_with(prefix).into_iter();
        views
            .filter_map(|view| Some(catalog.get(view)?.name.to_string()))
            .collect()
    }

    /// Rows of `rivermark.epochs`: the most recent ones.
    pub fn epochs(&self) -> Vec<EpochStatus> {
        self.inner.published.status().epochs.into()
    }

    /// The last epoch known to be fsynced.
    pub fn durable_epoch(&self) -> u64 {
        self.inner.published.status().durable_epoch
    }

    /// Memory and disk that the state store uses now.
    pub fn store_usage(&self) -> Result<StoreUsage> {
        Ok(self.inner.store.usage()?)
    }

    /// Why commits are being retried at present (disk full, ...), if they are.
    pub fn storage_error(&self) -> Option<String> {
        self.inner.published.status().storage_error
    }

    /// Stops the epoch loop after a last commit and fsync. Idempotent.
    pub async fn shutdown(&self) {
        if self.inner.is_stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        let (reply, stopped) = oneshot::channel();
        if self
            .inner
            .commands
            .send(Command::Shutdown { reply })
            .is_ok()
        {
            // An error: the loop has ended already.
            let _ = stopped.await;
        }
        let thread = self.inner.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the loop has been logged by the panic hook.
            let _ = blocking(move || thread.join()).await;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let command = command(reply);
        let commands = self.inner.commands.clone();
        // The queue is bounded: a full one must not block an async worker.
        match commands.try_send(command) {
            Ok(()) => {}
            Err(crossbeam_channel::TrySendError::Full(command)) => {
                blocking(move || commands.send(command))
                    .await?
                    .map_err(|_| ExecutorError::ShuttingDown)?;
            }
            Err(crossbeam_channel::TrySendError::Disconnected(_)) => {
                return Err(ExecutorError::ShuttingDown);
            }
        }
        answer.await.map_err(|_| ExecutorError::ShuttingDown)?
    }
}

/// Runs blocking work on tokio's blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ExecutorError::Internal(format!("blocking work: {e}")))
}

/// A panic outside of a view is a bug that leaves the writer's state in doubt. Stopping the process at once is safe,
/// since a restart goes on from the last commit; a server that answers but never changes again would not be.
fn run_or_abort(writer: Writer) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run()));
    if result.is_err() {
        tracing::error!(
            "the epoch loop panicked; the server stops, a restart goes on from the last commit"
        );
        std::process::abort();
    }
}

/// How far the view is behind the topics it reads, directly or through others: the time since the furthest behind of
/// its sources had nothing left to read; 0 where all have been read.
fn freshness_ms(view: ObjectId, catalog: &Catalog, sources: &[SourceStatus]) -> u64 {
    let mut behind_us = 0;
    let mut pending = vec![view];
    while let Some(id) = pending.pop() {
        for row in sources.iter().filter(|row| row.source == id) {
            if let (Some(offset), Some(end)) = (row.offset, row.end_offset)
                && offset < end
            {
                let since = row.caught_up_at_us.unwrap_or_default();
                behind_us = behind_us.max(now_us() - since);
            }
        }
        pending.extend(
            catalog
                .get(id)
                .into_iter()
                .flat_map(|o| o.depends_on.iter().copied()),
        );
    }
    (behind_us / 1000).max(0) as u64
}
