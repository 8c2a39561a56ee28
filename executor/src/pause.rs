//! Views that stand still for a while, with all that read them: their rows can be read, and nothing runs.
//!
//! What tables and other views change meanwhile is not kept. So a view goes on by itself only if all that it and its
//! readers scan are sources and one another: each reads on at the offsets where it stopped. Any other is built anew
//! beside itself (`replace.rs`).

use rivermark_planner::alter::all_dependents;
use rivermark_planner::catalog::ObjectId;

use crate::error::{ExecutorError, Result};
use crate::progress::ScanProgress;
use crate::view::View;
use crate::writer::Writer;

impl Writer {
    /// Stops a view and all materialized views that read it.
    pub fn pause(&mut self, id: ObjectId) -> Result<()> {
        let group = self.group(id);
        for id in &group {
            let Some(view) = self.views.get(id) else {
                continue;
            };
            let is_unfinished =
                view.is_maintained() && (view.is_backfilling() || !view.progress.is_ready);
            if self.successor_of(*id).is_some() || is_unfinished {
                return Err(ExecutorError::NotReadable {
                    message: format!(
                        "materialized view \"{}\" is still being built; it can be paused when that is done",
                        view.name
                    ),
                });
            }
        }
        let paused = group.clone();
        for id in group {
            self.detach(id);
            let Some(view) = self.views.get_mut(&id).filter(|v| v.is_maintained()) else {
                continue;
            };
            for (object, scan) in &mut view.progress.scans {
                if let Some(source) = self.sources.get(object) {
                    *scan = ScanProgress::Source {
                        positions: source.progress.positions.clone(),
                        bounds: source.progress.bounds.clone(),
                    };
                }
            }
            let mut scanned = view.progress.scans.keys();
            view.progress.missed_changes =
                !scanned.all(|object| self.sources.contains_key(object) || paused.contains(object));
            view.progress.is_paused = true;
            view.readers.clear();
            view.is_dirty = true;
        }
        self.are_relations_dirty = true;
        Ok(())
    }

    /// Lets a view that scans only sources go on where it stopped, and its readers with it.
    pub fn resume(&mut self, id: ObjectId) -> Result<()> {
        let group = self.group(id);
        let goes_on =
            |object: &ObjectId| self.sources.contains_key(object) || group.contains(object);
        let mut views = group.iter().filter_map(|id| self.views.get(id));
        let missed_nothing =
            |view: &View| !view.progress.missed_changes && view.progress.scans.keys().all(goes_on);
        if !views.all(missed_nothing) {
            return Err(ExecutorError::NotReadable {
                message: "changes of what the view reads were not kept; rebuild it".into(),
            });
        }
        for id in group {
            let Some(view) = self.views.get_mut(&id).filter(|v| v.progress.is_paused) else {
                continue;
            };
            view.progress.is_paused = false;
            view.is_dirty = true;
            if view.is_backfilling() {
                self.backfilling.insert(id);
            }
        }
        self.are_relations_dirty = true;
        Ok(())
    }

    /// A materialized view and those that read it.
    fn group(&self, id: ObjectId) -> Vec<ObjectId> {
        let readers = all_dependents(&self.catalog, id);
        let all = std::iter::once(id).chain(readers);
        all.filter(|id| self.views.contains_key(id)).collect()
    }
}
