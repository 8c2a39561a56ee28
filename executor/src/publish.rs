//! Making a committed epoch visible: a new snapshot for readers, new status rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rivermark_planner::catalog::{ObjectId, ObjectKind};

use crate::api::{EpochStatus, MaterializedViewStatus};
use crate::progress::ScanProgress;
use crate::snapshot::{Readable, Snapshot};
use crate::view::View;
use crate::wall_clock::now_us;
use crate::writer::Writer;

impl Writer {
    /// Publishes the epoch just committed. Its cost follows what changed, not what exists.
    pub fn publish(&mut self, epoch: EpochStatus) {
        let relations = if self.are_relations_dirty || self.is_catalog_dirty {
            Arc::new(self.readables())
        } else {
            self.published.snapshot().relations.clone()
        };
        let catalog = if self.is_catalog_dirty {
            self.published.set_prefixes(self.prefixes.clone());
            Arc::new(self.catalog.clone())
        } else {
            self.published.snapshot().catalog.clone()
        };
        self.is_catalog_dirty = false;
        self.are_relations_dirty = false;
        self.published.set_snapshot(Snapshot {
            epoch: epoch.epoch,
            catalog,
            relations,
            store: self.store.snapshot(),
        });
        self.published.set_epoch(epoch);
        self.show_timed_tables();
    }

    /// How every relation is read now.
    pub fn readables(&self) -> BTreeMap<ObjectId, Readable> {
        let mut readables = BTreeMap::new();
        for object in self.catalog.objects() {
            let name = object.name.clone();
            let readable = match &object.kind {
                ObjectKind::Source(def) => {
                    self.sources.get(&object.id).map(|input| Readable::Source {
                        source: input.source.clone(),
                        name,
                        def: Arc::new(def.clone()),
                    })
                }
                ObjectKind::Table(_) => self.tables.get(&object.id).map(|table| Readable::Rows {
                    format: table.rows.format.clone(),
                    indexes: table.rows.complete_indexes().into(),
                    name,
                    state: crate::api::ViewState::Running,
                }),
                ObjectKind::MaterializedView(_) => {
                    self.views.get(&object.id).map(|view| Readable::Rows {
                        format: view.rows.format.clone(),
                        indexes: view.rows.complete_indexes().into(),
                        name,
                        state: view.state(),
                    })
                }
                // Inlined by the planner; read with its relation.
                ObjectKind::View(_) | ObjectKind::Index(_) => None,
            };
            if let Some(readable) = readable {
                readables.insert(object.id, readable);
            }
        }
        readables
    }

    /// Status rows of the sources; cheap, a few per source.
    pub fn refresh_sources(&mut self) {
        let now = now_us();
        self.sources.values_mut().for_each(|s| s.note_progress(now));
        self.published
            .set_sources(self.sources.values().flat_map(|s| s.status()).collect());
        self.show_timed_tables();
    }

    /// Where the tables with a watermark are. A statement that wrote to one sees it when it is answered.
    fn show_timed_tables(&self) {
        let timed = self.tables.iter().filter_map(|(id, table)| {
            let time = table.time.as_ref()?;
            Some((*id, time.mark.clone()))
        });
        self.published.set_timed_tables(timed.collect());
    }

    /// Status row of one view.
    pub fn view_status(&self, view: &View) -> MaterializedViewStatus {
        let successor = self
            .successor_of(view.id)
            .and_then(|id| self.views.get(&id));
        MaterializedViewStatus {
            view: view.id,
            name: view.name.clone(),
            state: view.state(),
            progress: if view.progress.is_ready {
                1.0
            } else {
                self.backfill_progress(view)
            },
            rows: view.progress.rows,
            state_bytes: 0,
            epoch: view.progress.epoch,
            freshness_ms: 0,
            dead_letters: view.progress.dead_letters.max(0) as u64,
            rebuild_progress: successor.map(|view| self.backfill_progress(view)),
        }
    }

    /// The part of the inputs that has been read, by messages or rows; 1 only when all is read.
    fn backfill_progress(&self, view: &View) -> f64 {
        let mut done = 0.0;
        let mut scans = 0.0f64;
        for (object, scan) in &view.progress.scans {
            scans += 1.0;
            done += match scan {
                ScanProgress::Live if !self.sources.contains_key(object) => 1.0,
                ScanProgress::Rows { .. } => 0.0,
                ScanProgress::Live | ScanProgress::Source { .. } => {
                    let Some(source) = self.sources.get(object) else {
                        continue;
                    };
                    let at = match scan {
                        ScanProgress::Source { positions, .. } => positions,
                        ScanProgress::Live | ScanProgress::Rows { .. } => {
                            &source.progress.positions
                        }
                    };
                    let Some(target) = view.progress.targets.get(object) else {
                        continue;
                    };
                    let total = crate::progress::distance(&source.def.start, target);
                    let left = crate::progress::distance(at, target);
                    if total == 0 {
                        1.0
                    } else {
                        1.0 - left as f64 / total as f64
                    }
                }
            };
        }
        if scans == 0.0 { 1.0 } else { done / scans }
    }
}
