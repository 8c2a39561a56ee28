//! The watching thread: looks from time to time whether the topic is there, has new partitions, or is another one
//! under the same name. Trouble that the fetching thread hears of is confirmed (and seen to pass) here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::client::{BEGINNING, Client, TopicError};
use super::decode::FailOnPanic;
use super::fetch::Command;
use super::lanes::Lanes;
use super::messages::Queue;

const TIMEOUT_MS: u64 = 5_000;
/// How soon to look again while something is wrong.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);

pub struct Watcher {
    pub client: Arc<Client>,
    pub queue: Arc<Queue>,
    pub lanes: Arc<Lanes>,
    pub commands: Sender<Command>,
    pub pokes: Receiver<()>,
    pub interval: Duration,
    /// Partitions that are being read.
    pub known: BTreeSet<i32>,
    /// If not all that there are.
    pub only: Option<BTreeSet<i32>>,
}

impl Watcher {
    /// Watches until the reader is gone.
    pub fn run(mut self) {
        let lanes = self.lanes.clone();
        let _guard = FailOnPanic(&lanes);
        let mut topic_id = None;
        while !self.lanes.is_stopped() {
            self.look(&mut topic_id);
            let interval = if self.lanes.is_retrying() {
                RETRY_INTERVAL
            } else {
                self.interval
            };
            if self.pokes.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn look(&mut self, topic_id: &mut Option<String>) {
        let topic = match self.client.partitions(TIMEOUT_MS) {
            Ok(topic) => topic,
            Err(TopicError::Missing) => {
                let name = self.client.topic();
                return self
                    .lanes
                    .set_retrying(format!("Kafka topic \"{name}\" does not exist"));
            }
            Err(TopicError::Unavailable(error)) => return self.lanes.set_retrying(error),
        };
        if let Some(trouble) = topic.trouble {
            return self.lanes.set_retrying(trouble);
        }
        if let Some(gone) = self.known.iter().find(|p| !topic.partitions.contains(p)) {
            let name = self.client.topic();
            return self.lanes.set_retrying(format!(
                "Kafka topic \"{name}\" has no partition {gone} any more"
            ));
        }
        if let Some(id) = self.client.topic_id(TIMEOUT_MS) {
            if topic_id.as_ref().is_some_and(|known| *known != id) {
                self.command(Command::Recreated);
            }
            *topic_id = Some(id);
        }
        let is_wanted = |p: &i32| self.only.as_ref().is_none_or(|only| only.contains(p));
        let new: Vec<_> = topic
            .partitions
            .into_iter()
            .filter(|p| is_wanted(p) && !self.known.contains(p))
            .collect();
        match self.client.list_offsets(&new, BEGINNING, TIMEOUT_MS) {
            Ok(starts) => {
                for (partition, start) in starts {
                    self.known.insert(partition);
                    self.command(Command::Open { partition, start });
                }
                self.lanes.set_running();
            }
            Err(error) => self.lanes.set_retrying(error.to_string()),
        }
    }

    fn command(&self, command: Command) {
        // The fetching thread may have ended; then there is nothing to command.
        let _ = self.commands.send(command);
        self.queue.wake();
    }
}
