//! Following changes from outside: subscriptions to the rows of a relation, and the news of which relations an epoch
//! has changed.
//!
//! A subscription is a bounded queue of the epochs' changes, which are shared by all who follow the relation. The
//! writer never waits for a reader: a queue that is full is cut off, and its reader gets an error once it asks again.
//! What was spilled to disk stays there for as long as somebody has not read it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rivermark_planner::catalog::ObjectId;
use tokio::sync::{Notify, broadcast};

use crate::api::ViewState;
use crate::change_log::ChangeLog;
use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::rows::RowFormat;
use crate::snapshot::Snapshot;
use crate::spool::RelationChange;
use crate::writer::Writer;

/// Epochs whose news may wait for a reader.
const NEWS_CAPACITY: usize = 256;
/// A subscription's part of the memory limit.
const QUEUE_PART: usize = 64;
/// The part of all subscriptions together.
const ALL_QUEUES_PART: usize = 8;

/// The part of all change logs together.
const ALL_LOGS_PART: usize = 32;

/// The relations that an epoch has changed.
#[derive(Debug, Clone)]
pub struct ChangedRelations {
    pub epoch: u64,
    pub relations: Vec<ObjectId>,
}

/// What changed in one relation in one epoch.
pub struct EpochChange {
    pub epoch: u64,
    changes: Vec<RelationChange>,
}

impl EpochChange {
    pub(crate) fn new(epoch: u64, changes: Vec<RelationChange>) -> Self {
        EpochChange { epoch, changes }
    }

    /// Hands the change over piece by piece; a row comes once. Reads the disk if the change was spilled there.
    pub fn for_each(&self, take: &mut dyn FnMut(Delta) -> Result<()>) -> Result<()> {
        let mut in_memory = Vec::new();
        for change in &self.changes {
            match change {
                RelationChange::Delta(delta) => in_memory.push(delta.clone()),
                RelationChange::Spooled(spooled) => spooled.for_each(None, take)?,
            }
        }
        match in_memory.first() {
            Some(first) => take(consolidate(Delta::concat(first.schema(), &in_memory)?)?),
            None => Ok(()),
        }
    }

    /// Whether reading it reads the disk.
    pub fn is_spooled(&self) -> bool {
        let is_spooled = |change: &RelationChange| matches!(change, RelationChange::Spooled(_));
        self.changes.iter().any(is_spooled)
    }

    pub(crate) fn memory(&self) -> usize {
        self.changes.iter().map(RelationChange::memory).sum()
    }
}

/// What a subscriber hears.
pub enum Event {
    Change(Arc<EpochChange>),
    /// All changes up to this epoch have been handed over.
    Progress(u64),
}

/// A subscriber's end of its queue.
pub struct Subscription {
    queue: Arc<Queue>,
    /// The last epoch that it has heard of.
    heard: u64,
}

impl Subscription {
    /// What comes next. Waits while nothing happens.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            // a wake-up between the two is kept
            if let Some(event) = self.ready()? {
                return Ok(event);
            }
            self.queue.wake.notified().await;
        }
    }

    /// What comes next, if it is there.
    pub fn ready(&mut self) -> Result<Option<Event>> {
        let mut waiting = self.queue.waiting.lock();
        if let Some(change) = waiting.missed.pop_front() {
            return Ok(Some(Event::Change(change)));
        }
        if let Some(change) = waiting.changes.pop_front() {
            waiting.bytes -= change.memory();
            return Ok(Some(Event::Change(change)));
        }
        if waiting.epoch > self.heard {
            self.heard = waiting.epoch;
            return Ok(Some(Event::Progress(self.heard)));
        }
        match &waiting.end {
            Some(end) => Err(end.clone()),
            None => Ok(None),
        }
    }
}

/// Between the writer and one subscriber.
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    /// What came while the subscriber was not connected. It may be more than a queue takes of what is new.
    missed: VecDeque<Arc<EpochChange>>,
    changes: VecDeque<Arc<EpochChange>>,
    bytes: usize,
    /// The last published epoch.
    epoch: u64,
    /// Why nothing more will come.
    end: Option<ExecutorError>,
}

impl Queue {
    /// Nothing more comes; a subscriber that is cut off does not get what it has not read either.
    fn end(&self, error: ExecutorError, is_cut_off: bool) {
        let mut waiting = self.waiting.lock();
        if is_cut_off {
            waiting.missed.clear();
            waiting.changes.clear();
            waiting.bytes = 0;
        }
        waiting.end.get_or_insert(error);
        drop(waiting);
        self.wake.notify_one();
    }

    fn bytes(&self) -> usize {
        let waiting = self.waiting.lock();
        // The log and other subscribers may hold the same changes.
        let share = |change: &Arc<EpochChange>| change.memory() / Arc::strong_count(change);
        waiting.bytes + waiting.missed.iter().map(share).sum::<usize>()
    }

    fn has_ended(&self) -> bool {
        self.waiting.lock().end.is_some()
    }
}

/// The writer's list of those who follow.
pub struct Followers {
    by_relation: BTreeMap<ObjectId, Followed>,
    news: broadcast::Sender<Arc<ChangedRelations>>,
}

struct Followed {
    name: String,
    /// As subscribers know the rows.
    format: Arc<RowFormat>,
    queues: Vec<Arc<Queue>>,
    log: ChangeLog,
    /// The relation is not what it was any more.
    is_over: bool,
}

impl Default for Followers {
    fn default() -> Self {
        Followers {
            by_relation: BTreeMap::new(),
            news: broadcast::channel(NEWS_CAPACITY).0,
        }
    }
}

impl Followers {
    /// Whether somebody follows the relation's rows.
    pub fn follow(&self, relation: ObjectId) -> bool {
        self.by_relation.contains_key(&relation)
    }

    /// Where the news come from.
    pub fn news(&self) -> broadcast::Sender<Arc<ChangedRelations>> {
        self.news.clone()
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.by_relation.values().flat_map(|f| &f.queues)
    }
}

impl Writer {
    /// Begins a subscription behind the published epoch, or behind `as_of`, with what has changed since.
    pub fn subscribe(
        &mut self,
        relation: ObjectId,
        as_of: Option<u64>,
    ) -> Result<(Arc<Snapshot>, Subscription)> {
        let snapshot = self.published.snapshot();
        // an error unless its rows can be read
        snapshot.table_provider(relation)?;
        let (name, format) = match (self.tables.get(&relation), self.views.get(&relation)) {
            (Some(table), _) => (table.name.clone(), table.rows.format.clone()),
            (None, Some(view)) => (view.name.to_string(), view.rows.format.clone()),
            (None, None) => {
                return Err(ExecutorError::NotReadable {
                    message: "only tables and materialized views can be followed".into(),
                });
            }
        };
        let missed = match as_of {
            Some(as_of) => self.missed(relation, as_of, &snapshot, &name)?,
            None => VecDeque::new(),
        };
        let queue = Arc::new(Queue {
            waiting: Mutex::new(Waiting {
                missed,
                epoch: snapshot.epoch,
                ..Waiting::default()
            }),
            wake: Notify::new(),
        });
        let followed = self.followers.by_relation.entry(relation);
        let followed = followed.or_insert_with(|| Followed {
            name,
            format,
            queues: Vec::new(),
            log: ChangeLog::new(snapshot.epoch, self.now_us),
            is_over: false,
        });
        followed.queues.push(queue.clone());
        let subscription = Subscription {
            queue,
            heard: as_of.unwrap_or(snapshot.epoch),
        };
        Ok((snapshot, subscription))
    }

    /// What has changed in a relation behind an epoch, up to the published one.
    fn missed(
        &self,
        relation: ObjectId,
        as_of: u64,
        snapshot: &Snapshot,
        name: &str,
    ) -> Result<VecDeque<Arc<EpochChange>>> {
        let newest = snapshot.epoch;
        if as_of > newest {
            let message = format!("epoch {as_of} has not come yet, the newest is {newest}");
            return Err(ExecutorError::NotReadable { message });
        }
        let followed = self.followers.by_relation.get(&relation);
        // The log of one that was rebuilt or given other columns since is not of the rows of today.
        let log = followed
            .filter(|followed| self.still_followed(relation, followed).is_ok())
            .map(|followed| &followed.log);
        let missed = match log {
            Some(log) => log.behind(as_of),
            None => (as_of == newest).then(VecDeque::new),
        };
        missed.ok_or_else(|| ExecutorError::NotReadable {
            message: format!(
                "changes of \"{name}\" behind epoch {as_of} are not kept, only those behind epoch {}; \
                 subscribe without AS OF, which begins with all rows",
                log.map_or(newest, ChangeLog::since)
            ),
        })
    }

    /// The relations with changes that the next commit makes visible.
    pub fn changed_relations(&self, epoch: u64) -> ChangedRelations {
        let tables = self.tables.iter().filter(|(_, table)| table.is_dirty);
        let views = self.views.values().filter(|v| v.progress.epoch == epoch);
        let tables = tables.map(|(id, _)| *id);
        ChangedRelations {
            epoch,
            relations: tables.chain(views.map(|v| v.id)).collect(),
        }
    }

    /// Hands a published epoch's changes to those who follow the relations.
    pub fn tell_followers(
        &mut self,
        changed: ChangedRelations,
        changes: &mut BTreeMap<ObjectId, Vec<RelationChange>>,
    ) {
        let epoch = changed.epoch;
        let (now_us, retention_us) = (self.now_us, self.change_log_retention_us());
        if !changed.relations.is_empty() {
            // nobody may want to know
            let _ = self.followers.news.send(Arc::new(changed));
        }
        let mut followers = std::mem::take(&mut self.followers.by_relation);
        for (relation, followed) in &mut followers {
            // A subscriber that has gone away has left the writer alone with its queue.
            followed
                .queues
                .retain(|q| Arc::strong_count(q) > 1 && !q.has_ended());
            if let Err(error) = self.still_followed(*relation, followed) {
                followed
                    .queues
                    .drain(..)
                    .for_each(|q| q.end(error.clone(), false));
                followed.is_over = true;
                continue;
            }
            let change = changes
                .remove(relation)
                .map(|changes| Arc::new(EpochChange::new(epoch, changes)));
            if let Some(change) = &change {
                followed.log.add(change, now_us, retention_us);
            }
            for queue in &followed.queues {
                self.tell(queue, epoch, change.as_ref(), &followed.name);
            }
        }
        followers.retain(|_, followed| {
            let is_followed = !followed.queues.is_empty();
            !followed.is_over && followed.log.is_wanted(is_followed, now_us, retention_us)
        });
        self.followers.by_relation = followers;
        self.bound_all_queues();
        self.bound_all_logs();
    }

    fn change_log_retention_us(&self) -> i64 {
        let micros = self.config.change_log_retention.as_micros();
        i64::try_from(micros).unwrap_or(i64::MAX)
    }

    /// The logs together are bounded as well: the largest forgets first.
    fn bound_all_logs(&mut self) {
        let limit = self.config.memory_limit / ALL_LOGS_PART;
        let logs = || self.followers.by_relation.values().map(|f| &f.log);
        let mut total: usize = logs().map(ChangeLog::bytes).sum();
        while total > limit {
            let logs = self.followers.by_relation.values_mut().map(|f| &mut f.log);
            let Some(largest) = logs.max_by_key(|log| log.bytes()) else {
                return;
            };
            let before = largest.bytes();
            if !largest.forget_oldest() {
                return;
            }
            total -= before - largest.bytes();
        }
    }

    fn tell(&self, queue: &Queue, epoch: u64, change: Option<&Arc<EpochChange>>, name: &str) {
        let limit = self.config.memory_limit / QUEUE_PART;
        let mut waiting = queue.waiting.lock();
        waiting.epoch = epoch;
        if let Some(change) = change {
            waiting.bytes += change.memory();
            waiting.changes.push_back(change.clone());
        }
        let is_full = waiting.changes.len() > 1 && waiting.bytes > limit;
        drop(waiting);
        match is_full {
            true => queue.end(too_slow(name), true),
            false => queue.wake.notify_one(),
        }
    }

    /// All queues together are bounded, too: the fullest is cut off first.
    fn bound_all_queues(&self) {
        let limit = self.config.memory_limit / ALL_QUEUES_PART;
        let mut total: usize = self.followers.queues().map(|q| q.bytes()).sum();
        while total > limit {
            let Some(fullest) = self.followers.queues().max_by_key(|q| q.bytes()) else {
                return;
            };
            total -= fullest.bytes();
            fullest.end(too_slow("the relation"), true);
        }
    }

    /// An error once the relation is no more what its subscribers know.
    fn still_followed(&self, relation: ObjectId, followed: &Followed) -> Result<()> {
        let name = &followed.name;
        let ended = |why: &str| {
            Err(ExecutorError::NotReadable {
                message: format!("\"{name}\" {why}; subscribe again"),
            })
        };
        let format = match (self.tables.get(&relation), self.views.get(&relation)) {
            (Some(table), _) => &table.rows.format,
            (None, Some(view)) => {
                if let ViewState::Failed(error) = view.state() {
                    return ended(&format!("has failed ({error})"));
                }
                &view.rows.format
            }
            (None, None) => return ended("was dropped or rebuilt"),
        };
        match Arc::ptr_eq(format, &followed.format) {
            true => Ok(()),
            false => ended("has changed its columns"),
        }
    }

    /// The server stops.
    pub fn end_subscriptions(&mut self) {
        for queue in self.followers.queues() {
            queue.end(ExecutorError::ShuttingDown, false);
        }
    }
}

fn too_slow(name: &str) -> ExecutorError {
    ExecutorError::SubscriberTooSlow {
        message: format!(
            "the subscription to \"{name}\" was cut off: changes are not read as fast as they come"
        ),
    }
}
