//! Materialized views built beside those that they replace, and the epoch in which they take their places.
//!
//! The successors run as any new view does, under ids of their own that nobody can name. Once all of them have read
//! everything and go along with the shared readers, they stand exactly where the old ones stand: the catalog is
//! changed and the old ones are dropped in that epoch's commit. Until then a failure, a restart or the statement's end
//! leaves the old ones as they were; after a restart the successors go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rivermark_planner::Catalog;
use rivermark_planner::alter::Successor;
use rivermark_planner::catalog::{ObjectId, Positions, Replacement};
use tracing::warn;

use crate::create_view::Beginnings;
use crate::epoch::EpochWork;
use crate::error::{ExecutorError, Result};
use crate::progress::ScanProgress;
use crate::writer::Writer;

impl Writer {
    /// Begins to build the successors; the id of the first.
    pub fn start_replacement(
        &mut self,
        members: Vec<Successor>,
        targets: Vec<(ObjectId, Positions)>,
        starts: &BTreeMap<ObjectId, Positions>,
    ) -> Result<ObjectId> {
        for member in &members {
            self.refuse_replaced(&[member.replaces])?;
            self.refuse_replaced(&member.object.depends_on)?;
        }
        let mut siblings = BTreeSet::new();
        let mut views = Vec::with_capacity(members.len());
        let mut replacement = Replacement {
            members: Vec::with_capacity(members.len()),
        };
        for member in members {
            let beginnings = Beginnings {
                targets: &targets,
                starts,
                siblings: &siblings,
            };
            let (view, object) = self.new_view(member.object, &member.plan, &beginnings)?;
            siblings.insert(object.id);
            views.push(view);
            replacement
                .members
                .push((member.replaces, Arc::new(object)));
        }
        let first = replacement
            .first()
            .ok_or_else(|| ExecutorError::Internal("a replacement of nothing".into()))?;
        views.into_iter().for_each(|view| self.add_view(view));
        self.catalog.add_replacement(replacement);
        self.show_replaced(first);
        Ok(first)
    }

    /// New readers of a view that is about to be replaced would not be replaced with it.
    pub fn refuse_replaced(&self, objects: &[ObjectId]) -> Result<()> {
        for id in objects {
            let Some(object) = self.catalog.get(*id) else {
                continue;
            };
            if self.catalog.replacements().iter().any(|r| r.replaces(*id)) {
                return Err(ExecutorError::NotReadable {
                    message: format!(
                        "{} \"{}\" is being rebuilt; wait until that is done",
                        object.kind_name(),
                        object.name
                    ),
                });
            }
            self.refuse_replaced(&object.depends_on)?;
        }
        Ok(())
    }

    /// The catalog in which a view under construction was planned.
    pub fn catalog_with(&self, replacement: &Replacement) -> Catalog {
        let mut catalog = self.catalog.clone();
        catalog.complete_replacement(replacement);
        catalog
    }

    /// Lets the successors that have caught up take their places, and gives up replacements that have failed.
    /// `ready`: views that have become readable in this epoch; a successor is so only now.
    pub fn run_replacements(
        &mut self,
        ready: &mut Vec<ObjectId>,
        work: &mut EpochWork,
    ) -> Result<()> {
        if self.catalog.replacements().is_empty() {
            return Ok(());
        }
        ready.retain(|id| !self.catalog.is_successor(*id));
        for replacement in self.catalog.replacements().to_vec() {
            let Some(first) = replacement.first() else {
                continue;
            };
            let views = || {
                let ids = replacement.members.iter().map(|(_, object)| object.id);
                ids.filter_map(|id| self.views.get(&id))
            };
            if let Some(failed) = views().find(|v| !v.is_maintained()) {
                let needs_rebuild = || "this version lays out its state differently".to_string();
                let why = failed.progress.failed.clone().unwrap_or_else(needs_rebuild);
                self.give_up_replacement(first, &why)?;
                self.is_catalog_dirty = true;
                continue;
            }
            let is_complete = views().all(|view| {
                let mut scans = view.progress.scans.values();
                view.progress.is_ready && scans.all(|scan| *scan == ScanProgress::Live)
            });
            if is_complete {
                self.complete(&replacement, ready)?;
                work.needs_sync = true;
            }
        }
        Ok(())
    }

    fn complete(&mut self, replacement: &Replacement, ready: &mut Vec<ObjectId>) -> Result<()> {
        if let Some(first) = replacement.first() {
            self.catalog.remove_replacement(first);
        }
        let mut olds = Vec::with_capacity(replacement.members.len());
        for (old, object) in &replacement.members {
            let before = self.catalog.get(*old).cloned();
            self.forget(*old, before.as_deref())?;
            olds.push((object.id, before));
            ready.push(object.id);
            if let Some(view) = self.views.get_mut(&object.id) {
                view.is_dirty = true;
            }
        }
        self.catalog.complete_replacement(replacement);
        for (id, before) in olds {
            self.renew_indexes(id, before.as_deref());
        }
        self.is_catalog_dirty = true;
        Ok(())
    }

    /// Gives up the replacements that have to do with objects which are about to be dropped.
    pub fn give_up_replacements_of(&mut self, dropped: &[ObjectId]) -> Result<()> {
        let involved: Vec<ObjectId> = self
            .catalog
            .replacements()
            .iter()
            .filter(|r| dropped.iter().any(|id| r.involves(*id)))
            .filter_map(Replacement::first)
            .collect();
        for first in involved {
            self.give_up_replacement(first, "what it reads or replaces was dropped")?;
        }
        Ok(())
    }

    /// Drops the successors; the old views go on as they do.
    pub fn give_up_replacement(&mut self, first: ObjectId, why: &str) -> Result<()> {
        let Some(replacement) = self.catalog.remove_replacement(first) else {
            return Ok(());
        };
        warn!(
            view = first.0,
            why, "a view that was built beside another was given up"
        );
        for (_, object) in replacement.members.iter().rev() {
            if let Some(view) = self.views.get_mut(&object.id) {
                view.answer_waiters(Err(ExecutorError::NotReadable {
                    message: format!(
                        "materialized view \"{}\" could not be rebuilt and stays as it was: {why}",
                        object.name
                    ),
                }));
            }
            self.forget(object.id, Some(object))?;
        }
        for (old, _) in &replacement.members {
            if let Some(view) = self.views.get_mut(old) {
                view.is_dirty = true;
            }
        }
        Ok(())
    }

    /// Marks the replaced views, whose status shows how far their successors are.
    fn show_replaced(&mut self, first: ObjectId) {
        let olds: Vec<ObjectId> = self
            .catalog
            .replacements()
            .iter()
            .filter(|r| r.first() == Some(first))
            .flat_map(|r| r.members.iter().map(|(old, _)| *old))
            .collect();
        for old in olds {
            if let Some(view) = self.views.get_mut(&old) {
                view.is_dirty = true;
            }
        }
    }

    /// The view that a status row is about: of a successor, the one that it will replace.
    pub fn shown_view(&self, id: ObjectId) -> ObjectId {
        self.catalog
            .replacements()
            .iter()
            .flat_map(|r| &r.members)
            .find(|(_, object)| object.id == id)
            .map_or(id, |(old, _)| *old)
    }

    /// The successor that is being built for a view.
    pub fn successor_of(&self, id: ObjectId) -> Option<ObjectId> {
        self.catalog
            .replacements()
            .iter()
            .flat_map(|r| &r.members)
            .find(|(old, _)| *old == id)
            .map(|(_, object)| object.id)
    }
}
