//! From a data directory to a writer that goes on where the last commit left off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use rivermark_planner::Catalog;
use rivermark_planner::alter::replan;
use rivermark_planner::catalog::{
    MaterializedViewDef, Object, ObjectId, ObjectKind, QualifiedName,
};
use tracing::{info, warn};

use crate::api::EngineConfig;
use crate::catalog_change::{table_format, view_format};
use crate::changes::Followers;
use crate::clock::TableTime;
use crate::command::Command;
use crate::dataflow::{Dataflow, ScanInput};
use crate::dead_letters::{DeadLetters, LETTERS_TABLE, ORDER_TABLE};
use crate::error::{ExecutorError, Result};
use crate::late_rows::{FLOORS_TABLE, LATE_ROWS_TABLE, LateRows};
use crate::lateness::EventTime;
use crate::memory::{EpochMemory, MemoryShares};
use crate::meta;
use crate::prefetch::PrefetchBudget;
use crate::progress::{ScanProgress, SourceProgress, TableProgress, ViewProgress};
use crate::published::Published;
use crate::reshape;
use crate::snapshot::Snapshot;
use crate::source::ConnectorFactory;
use crate::source_input::{ReaderContext, SourceInput};
use crate::source_secrets::open_source;
use crate::state::{CacheHandle, Family, MemoryPlan, StateTable, Store, StoreOptions};
use crate::view::View;
use crate::wal_sync::WalSync;
use crate::watermark::Watermarks;
use crate::writer::{Table, Writer, waker};

/// Opens the store and rebuilds everything that runs.
pub fn recover(
    config: EngineConfig,
    connectors: Arc<dyn ConnectorFactory>,
    commands: Receiver<Command>,
) -> Result<Writer> {
    let started = Instant::now();
    let shares = MemoryShares::of(config.memory_limit);
    let memory = MemoryPlan {
        block_cache_bytes: shares.block_cache,
        write_buffer_bytes: shares.write_buffers,
    };
    let options = StoreOptions {
        ingest_threshold_bytes: config.ingest_threshold,
        overlay_bytes: EpochMemory::of(config.memory_limit).overlays,
        ..StoreOptions::new(&config.data_dir, memory)
    };
    let store = Store::open(&options)?;
    reshape::delete_leftovers(&store)?;
    let cache = CacheHandle::new(shares.operator_caches);
    let catalog: Catalog = meta::get(&store, meta::CATALOG)?.unwrap_or_else(Catalog::new);
    let reserved: u64 = meta::get(&store, meta::RESERVED_EPOCHS)?.unwrap_or(0);
    let now_us: i64 = meta::get(&store, meta::NOW)?.unwrap_or(0);
    let letters = dead_letters(&store, &cache, config.dead_letter_bytes)?;
    let log = |id| StateTable::new(id, Family::Log, store.clone(), cache.clone());
    let late = LateRows::new(log(LATE_ROWS_TABLE), log(FLOORS_TABLE));
    let (wake_sender, woken) = bounded(1);
    let published = Arc::new(Published::new(
        Snapshot {
            epoch: reserved,
            catalog: Arc::new(catalog.clone()),
            relations: Arc::default(),
            store: store.snapshot(),
        },
        reserved,
    ));
    let wake = waker(wake_sender);
    let wal_sync = WalSync::start(store.clone(), wake.clone())?;
    let mut writer = Writer {
        readers: ReaderContext {
            prefetch: PrefetchBudget::new(shares.source_queues),
            wake,
        },
        config,
        store,
        cache,
        connectors,
        published,
        commands,
        wake: woken,
        catalog,
        // The first publication shows everything.
        is_catalog_dirty: false,
        are_relations_dirty: true,
        tables: BTreeMap::new(),
        views: BTreeMap::new(),
        sources: BTreeMap::new(),
        letters,
        late,
        dropped: Vec::new(),
        scanned_by: BTreeMap::new(),
        prefixes: Arc::default(),
        backfilling: BTreeSet::new(),
        indexing: BTreeSet::new(),
        index_waiters: BTreeMap::new(),
        reshapes: BTreeMap::new(),
        followers: Followers::default(),
        // Numbers up to the reservation may have been seen outside; they are never given out again.
        epoch: reserved,
        now_us,
        reserved_epochs: reserved,
        durable_epoch: reserved,
        wal_sync,
        synced_epoch: reserved,
        last_epoch_at: Instant::now(),
        position_waiters: Vec::new(),
        pending: VecDeque::new(),
    };
    writer.restore_objects()?;
    // Before anything is shown: a FLUSH must never take a source that is about to be read for an idle one.
    writer.start_sources();
    writer.show_recovered();
    info!(
        epoch = writer.epoch,
        took_ms = started.elapsed().as_millis() as u64,
        "recovered"
    );
    Ok(writer)
}

fn dead_letters(store: &Store, cache: &CacheHandle, max_bytes: u64) -> Result<DeadLetters> {
    let counters = meta::get(store, meta::LETTERS)?.unwrap_or_default();
    let table = |id| StateTable::new(id, Family::Log, store.clone(), cache.clone());
    Ok(DeadLetters::new(
        table(LETTERS_TABLE),
        table(ORDER_TABLE),
        counters,
        max_bytes,
    ))
}

impl Writer {
    fn restore_objects(&mut self) -> Result<()> {
        let catalog = self.catalog.clone();
        let objects: Vec<Arc<Object>> = catalog.objects().cloned().collect();
        for object in &objects {
            match &object.kind {
                ObjectKind::Source(def) => {
                    let source =
                        open_source(self.connectors.as_ref(), &catalog, &object.name, def)?;
                    let progress: SourceProgress =
                        meta::get(&self.store, &meta::source_key(object.id))?.unwrap_or_default();
                    let input = SourceInput::new(
                        object.id,
                        object.name.clone(),
                        def.clone(),
                        source,
                        progress,
                    )?;
                    self.sources.insert(object.id, input);
                }
                ObjectKind::Table(def) => {
                    let progress: TableProgress =
                        meta::get(&self.store, &meta::table_key(object.id))?.unwrap_or_default();
                    let rows = self.table_rows(table_format(def)?, progress.rows)?;
                    let table = Table {
                        name: object.name.name.clone(),
                        rows,
                        time: EventTime::of_table(def)?
                            .map(|time| TableTime::new(time, progress.mark)),
                        is_dirty: false,
                    };
                    self.tables.insert(object.id, table);
                }
                ObjectKind::MaterializedView(def) => {
                    self.restore_view(object.id, &object.name, def, &catalog)?
                }
                ObjectKind::View(_) => {}
                ObjectKind::Index(_) => {}
            }
        }
        // A relation that was replaced has a later id than its indexes.
        for object in &objects {
            if let ObjectKind::Index(def) = &object.kind {
                self.attach_index(object.id, &object.name.name, def)?;
            }
        }
        for replacement in self.catalog.replacements().to_vec() {
            let catalog = self.catalog_with(&replacement);
            for (_, object) in &replacement.members {
                if let ObjectKind::MaterializedView(def) = &object.kind {
                    self.restore_view(object.id, &object.name, def, &catalog)?;
                }
            }
        }
        Ok(())
    }

    fn restore_view(
        &mut self,
        id: ObjectId,
        name: &QualifiedName,
        def: &MaterializedViewDef,
        catalog: &Catalog,
    ) -> Result<()> {
        let progress: ViewProgress =
            meta::get(&self.store, &meta::view_key(id))?.ok_or_else(|| {
                ExecutorError::Storage(format!(
                    "the progress of materialized view \"{name}\" is missing in the data directory"
                ))
            })?;
        let mut dataflow = self.replan(name, def, catalog)?;
        let (mut due_us, mut watermarks) = (None, Watermarks::default());
        if let Some(dataflow) = &mut dataflow {
            due_us = dataflow.due_us()?;
            let scans = dataflow.scan_columns().iter();
            let complete =
                scans.filter(|(object, _)| progress.scans.get(object) == Some(&ScanProgress::Live));
            let inputs = complete.map(|(object, columns)| {
                let input = ScanInput {
                    parts: Vec::new(),
                    is_live: true,
                    watermarks: self.watermarks_of(*object).project(columns),
                };
                (*object, input)
            });
            watermarks = dataflow.restore_watermarks(&inputs.collect());
            dataflow.share(id, Arc::make_mut(&mut self.prefixes));
        }
        for object in progress.scans.keys() {
            self.scanned_by.entry(*object).or_default().insert(id);
        }
        let mut rows = self.view_rows(view_format(def)?, progress.rows)?;
        rows.set_floor(progress.forgotten_us);
        let view = View {
            id,
            name: name.clone(),
            dataflow,
            rows,
            progress,
            emits_on_window_close: def.emit_on_window_close,
            retention: def.retention,
            watermarks,
            has_later_watermarks: false,
            readers: BTreeMap::new(),
            waiters: Vec::new(),
            stats: Default::default(),
            due_us,
            is_dirty: false,
        };
        if view.is_backfilling() {
            self.backfilling.insert(id);
        }
        self.views.insert(id, view);
        Ok(())
    }

    /// The operators over the stored state; `None` if this version lays the state out differently.
    fn replan(
        &self,
        name: &QualifiedName,
        def: &MaterializedViewDef,
        catalog: &Catalog,
    ) -> Result<Option<Dataflow>> {
        let plan = match replan(catalog, def) {
            Ok(plan) => plan,
            Err(error) => {
                warn!(%error, view = %name, "the stored query can not be planned any more; the view needs a rebuild");
                return Ok(None);
            }
        };
        if plan.fingerprint != def.fingerprint || plan.root.state_tables() != def.state_tables {
            warn!(view = %name, "this version lays out the view's state differently; the view needs a rebuild");
            return Ok(None);
        }
        Ok(Some(Dataflow::build(
            &plan.root,
            def.first_state_table,
            &self.store,
            &self.cache,
        )?))
    }

    /// Publishes what was recovered, so that readers see it before the first epoch.
    fn show_recovered(&mut self) {
        // A restored view that needs nothing more to be read is ready; the next commit records it.
        self.newly_ready();
        self.published.set_snapshot(Snapshot {
            epoch: self.epoch,
            catalog: Arc::new(self.catalog.clone()),
            relations: Arc::new(self.readables()),
            store: self.store.snapshot(),
        });
        self.published.update_views(
            self.views
                .values()
                .filter(|v| !self.catalog.is_successor(v.id))
                .map(|v| self.view_status(v)),
        );
        let reports = self.views.values_mut().map(|v| (v.id, v.report()));
        self.published.update_operators(reports);
        self.published.set_prefixes(self.prefixes.clone());
        self.refresh_sources();
        self.are_relations_dirty = false;
    }
}
