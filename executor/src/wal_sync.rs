//! fsyncs of the write-ahead log beside the epochs, so that no epoch waits for the disk but one that promised it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rivermark_planner::catalog::{ObjectId, Positions};

use crate::error::{ExecutorError, Result};
use crate::state::{StateError, Store};

/// What a sync makes durable.
pub struct Synced {
    /// All epochs up to this one.
    pub epoch: u64,
    /// How far the sources had been read in it.
    pub positions: Vec<(ObjectId, Positions)>,
    /// Why it has failed, if it has.
    pub error: Option<StateError>,
}

type Outcome = std::result::Result<(), StateError>;

/// A thread that syncs when it is asked to, one at a time.
pub struct WalSync {
    requests: Option<Sender<()>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    /// What is being synced.
    running: Option<Synced>,
    started: Instant,
}

impl WalSync {
    /// `wake` is called whenever a sync has ended.
    pub fn start(store: Store, wake: Arc<dyn Fn() + Send + Sync>) -> Result<Self> {
        let (requests, asked) = bounded::<()>(1);
        let (answer, outcomes) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("wal-sync".into())
            .spawn(move || {
                while asked.recv().is_ok() {
                    if answer.send(store.sync_wal()).is_err() {
                        return;
                    }
                    wake();
                }
            })
            .map_err(|e| {
                ExecutorError::Internal(format!("the syncing thread can not start: {e}"))
            })?;
        Ok(WalSync {
            requests: Some(requests),
            outcomes,
            thread: Some(thread),
            running: None,
            started: Instant::now(),
        })
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How long until the next one is due.
    pub fn time_to_next(&self, interval: Duration) -> Duration {
        interval.saturating_sub(self.started.elapsed())
    }

    /// Begins to sync everything that is committed.
    pub fn begin(&mut self, epoch: u64, positions: Vec<(ObjectId, Positions)>) {
        self.started = Instant::now();
        let is_sent = self
            .requests
            .as_ref()
            .is_some_and(|r| r.try_send(()).is_ok());
        if is_sent {
            self.running = Some(Synced {
                epoch,
                positions,
                error: None,
            });
        }
    }

    /// The sync that has ended since this was last asked.
    pub fn ended(&mut self) -> Option<Synced> {
        let outcome = match self.outcomes.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                Err(StateError::Io("the syncing thread has ended".into()))
            }
        };
        let mut synced = self.running.take()?;
        synced.error = outcome.err();
        Some(synced)
    }
}

impl Drop for WalSync {
    /// Lets go of the store before the writer does.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that can panic, and there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}
