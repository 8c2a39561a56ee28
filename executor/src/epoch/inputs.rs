//! What a view gets in an epoch of each object that it scans.

use rivermark_planner::catalog::ObjectId;

use super::EpochWork;
use crate::dataflow::{InputPart, ScanInput, ViewInputs};
use crate::delta::Delta;
use crate::error::Result;
use crate::progress::ScanProgress;
use crate::spool::RelationChange;
use crate::view::View;
use crate::watermark::Watermarks;
use crate::writer::Writer;

impl Writer {
    /// What a view gets in this epoch, from each object it scans. On an error it has read nothing.
    pub(super) fn view_inputs(
        &mut self,
        view: &mut View,
        work: &mut EpochWork,
    ) -> Result<ViewInputs> {
        if !view.is_backfilling() {
            return self.take_inputs(view, work);
        }
        let scans = view.progress.scans.clone();
        let inputs = self.take_inputs(view, work);
        if inputs.is_err() {
            // What readers have handed over is read again.
            view.readers.clear();
            view.progress.scans = scans;
        }
        inputs
    }

    fn take_inputs(&mut self, view: &mut View, work: &mut EpochWork) -> Result<ViewInputs> {
        let mut inputs = ViewInputs::new();
        let objects: Vec<ObjectId> = view.progress.scans.keys().copied().collect();
        for object in objects {
            let columns = view.columns_of(object);
            let scan = view.progress.scans[&object].clone();
            let is_live = scan == ScanProgress::Live;
            let parts = match scan {
                ScanProgress::Live => live_input(object, &columns, work)?,
                _ if self.must_wait(view, object) => Vec::new(),
                ScanProgress::Rows { cursor } => {
                    self.backfill_rows(view, object, cursor, &columns, work)?
                }
                ScanProgress::Source { positions, bounds } => {
                    self.backfill_source(view, object, (positions, bounds), &columns, work)?
                }
            };
            // Until all that is older has been read, it is still to come.
            let is_complete = view.progress.scans[&object] == ScanProgress::Live;
            let watermarks = match is_complete {
                true => self.watermarks_of(object).project(&columns),
                false => Watermarks::default(),
            };
            if !parts.is_empty() || !watermarks.is_empty() {
                let input = ScanInput {
                    parts,
                    is_live,
                    watermarks,
                };
                inputs.insert(object, input);
            }
        }
        if view
            .progress
            .scans
            .values()
            .all(|s| *s == ScanProgress::Live)
        {
            self.backfilling.remove(&view.id);
        }
        Ok(inputs)
    }

    /// Whether a view must not begin yet to read an object: it has not read all that comes first, or that is not complete
    /// itself, as while it is rebuilt along with the view.
    fn must_wait(&self, view: &View, object: ObjectId) -> bool {
        view.read_before(object).any(|first| {
            let scan = view.progress.scans.get(first);
            let is_building = |first: &View| first.is_maintained() && !first.progress.is_ready;
            scan.is_some_and(|scan| *scan != ScanProgress::Live)
                || self.views.get(first).is_some_and(is_building)
        })
    }
}

/// The epoch's changes of an object that the view is live on. All of them are known before the first view runs that
/// reads it.
fn live_input(object: ObjectId, columns: &[usize], work: &mut EpochWork) -> Result<Vec<InputPart>> {
    let key = (object, columns.to_vec());
    if let Some(parts) = work.pruned.get(&key) {
        return Ok(parts.clone());
    }
    let parts: Vec<InputPart> = if let Some(batches) = work.decoded.get(&object) {
        let pruned = batches.iter().map(|batch| batch.for_columns(columns));
        pruned
            .map(|delta| Ok(InputPart::Delta(delta?)))
            .collect::<Result<_>>()?
    } else {
        let changes = work.changes.get(&object).into_iter().flatten();
        let pruned = changes.map(|change| match change {
            RelationChange::Delta(delta) => Ok(InputPart::Delta(project(delta, columns)?)),
            RelationChange::Spooled(change) => Ok(InputPart::Spooled {
                change: change.clone(),
                columns: columns.to_vec(),
                up_to: None,
            }),
        });
        pruned.collect::<Result<_>>()?
    };
    work.pruned.insert(key, parts.clone());
    Ok(parts)
}

/// A stored relation's delta with only the columns that the view uses.
pub fn project(delta: &Delta, columns: &[usize]) -> Result<Delta> {
    Ok(delta.with_batch(delta.batch().project(columns)?))
}
