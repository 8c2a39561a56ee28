//! Rows that failed, kept with the epoch that met them.
//!
//! Two state tables in the log family: `letters` (identity -> letter) and `order` (sequence number -> identity), so
//! that a letter can be taken back when its row is retracted, and the oldest are dropped first when the byte bound
//! is reached. An identity is the object and either the message's (partition, offset, column) or the failing row's
//! operator and content.

use arrow::datatypes::ToByteSlice;
use rivermark_planner::TableId;
use rivermark_planner::catalog::ObjectId;
use serde::{Deserialize, Serialize};

use crate::api::DeadLetter;
use crate::error::{ExecutorError, Result};
use crate::operator::Failure;
use crate::source::{ColumnError, MalformedMessage};
use crate::state::{KeyRange, Keys, StateTable, WriteSet};
use crate::storage_retry;

/// Table ids at the top of the id space belong to the engine itself.
pub const LETTERS_TABLE: TableId = TableId(u32::MAX - 1);
pub const ORDER_TABLE: TableId = TableId(u32::MAX - 2);

/// Payload bytes kept of one letter.
const MAX_PAYLOAD: usize = 64 * 1024;

/// What is stored of one letter.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Letter {
    sequence: u64,
    at_us: i64,
    object: u32,
    partition: Option<i32>,
    offset: Option<i64>,
    column: Option<String>,
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    error: String,
    count: i64,
}

/// Counters that survive a restart; stored with every epoch that changed them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LetterCounters {
    pub next_sequence: u64,
    /// Bytes of the letters kept.
    pub bytes: u64,
    /// Sequence number of the oldest letter that may still exist.
    pub oldest: u64,
}

/// The writer's dead letters.
pub struct DeadLetters {
    letters: StateTable,
    order: StateTable,
    counters: LetterCounters,
    max_bytes: u64,
}

impl DeadLetters {
    pub fn new(
        letters: StateTable,
        order: StateTable,
        counters: LetterCounters,
        max_bytes: u64,
    ) -> Self {
        DeadLetters {
            letters,
            order,
            counters,
            max_bytes,
        }
    }

    pub fn counters(&self) -> &LetterCounters {
        &self.counters
    }

    /// A message that is no row. Returns whether it is new (a replay or a second reader meets it again).
    pub fn malformed(
        &mut self,
        source: ObjectId,
        partition: i32,
        message: MalformedMessage,
        now_us: i64,
    ) -> Result<bool> {
        self.add(Letter {
            sequence: 0,
            at_us: now_us,
            object: source.0,
            partition: Some(partition),
            offset: Some(message.offset),
            column: None,
            key: message.key,
            payload: message.payload,
            error: message.error,
            count: 1,
        })
    }

    /// A value that could not be converted to its column's type. Returns whether it is new.
    pub fn column_error(
        &mut self,
        source: ObjectId,
        partition: i32,
        offset: i64,
        column: &str,
        error: ColumnError,
        now_us: i64,
    ) -> Result<bool> {
        self.add(Letter {
            sequence: 0,
            at_us: now_us,
            object: source.0,
            partition: Some(partition),
            offset: Some(offset),
            column: Some(column.to_string()),
            key: error.key,
            payload: error.payload,
            error: error.error,
            count: 1,
        })
    }

    fn add(&mut self, letter: Letter) -> Result<bool> {
        let identity = message_identity(&letter);
        if self.read(&identity)?.is_some() {
            return Ok(false);
        }
        self.store(&identity, letter)?;
        Ok(true)
    }

    /// A row or group that failed inside a view (or recovered: negative weight). Returns the view's new letters less
    /// those taken back.
    pub fn failure(&mut self, view: ObjectId, failure: Failure, now_us: i64) -> Result<i64> {
        let identity = [&view.0.to_be_bytes()[..], &[1], &failure.key].concat();
        match self.read(&identity)? {
            Some(mut letter) => {
                letter.count += failure.weight;
                if letter.count <= 0 {
                    self.remove(&identity, &letter);
                } else {
                    letter.error = failure.error;
                    self.letters.put(&identity, &encode(&letter)?);
                }
                Ok(failure.weight)
            }
            // Taking back a letter that the byte bound has dropped.
            None if failure.weight <= 0 => Ok(failure.weight),
            None => {
                let letter = Letter {
                    sequence: 0,
                    at_us: now_us,
                    object: view.0,
                    partition: None,
                    offset: None,
                    column: None,
                    key: None,
                    payload: failure.payload.into_bytes(),
                    error: failure.error,
                    count: failure.weight,
                };
                self.store(&identity, letter)?;
                Ok(failure.weight)
            }
        }
    }

    /// Forgets all letters of a dropped object.
    pub fn forget(&mut self, object: ObjectId) -> Result<()> {
        let prefix = object.0.to_be_bytes();
        let mut doomed = Vec::new();
        for entry in self.letters.scan(&KeyRange::prefix(&prefix))? {
            let (identity, value) = entry?;
            doomed.push((identity.to_vec(), decode(&value)?));
        }
        for (identity, letter) in doomed {
            self.remove(&identity, &letter);
        }
        Ok(())
    }

    fn read(&mut self, identity: &[u8]) -> Result<Option<Letter>> {
        let identity: Keys = std::iter::once(identity).collect();
        let found =
            storage_retry::read(
                &mut self.letters,
                |letters| Ok(letters.get_many(&identity)?),
            )?;
        found.get(0).map(decode).transpose()
    }

    fn store(&mut self, identity: &[u8], mut letter: Letter) -> Result<()> {
        letter.payload.truncate(MAX_PAYLOAD);
        letter.sequence = self.counters.next_sequence;
        self.counters.next_sequence += 1;
        self.counters.bytes += letter.size();
        self.order.put(&letter.sequence.to_be_bytes(), identity);
        self.letters.put(identity, &encode(&letter)?);
        self.enforce_bound()
    }

    fn remove(&mut self, identity: &[u8], letter: &Letter) {
        self.letters.delete(identity);
        self.order.delete(&letter.sequence.to_be_bytes());
        self.counters.bytes = self.counters.bytes.saturating_sub(letter.size());
    }

    fn enforce_bound(&mut self) -> Result<()> {
        while self.counters.bytes > self.max_bytes
            && self.counters.oldest < self.counters.next_sequence
        {
            let sequence = self.counters.oldest;
            self.counters.oldest += 1;
            let sequence: Keys = std::iter::once(&sequence.to_be_bytes()[..]).collect();
            let found =
                storage_retry::read(&mut self.order, |order| Ok(order.get_many(&sequence)?))?;
            let Some(identity) = found.get(0).map(<[u8]>::to_vec) else {
                continue;
            };
            if let Some(letter) = self.read(&identity)? {
                self.remove(&identity, &letter);
            }
        }
        Ok(())
    }

    /// Whether letters came or went since the last commit.
    pub fn is_dirty(&self) -> bool {
        self.letters.overlay_bytes() > 0
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.letters.drain_into(writes);
        self.order.drain_into(writes);
    }

    pub fn committed(&mut self) {
        self.letters.committed();
        self.order.committed();
    }
}

impl Letter {
    fn size(&self) -> u64 {
        (self.payload.len() + self.error.len() + self.key.as_ref().map_or(0, Vec::len) + 64) as u64
    }
}

fn message_identity(letter: &Letter) -> Vec<u8> {
    let mut identity = letter.object.to_be_bytes().to_vec();
    identity.push(0);
    identity.extend_from_slice(&letter.partition.unwrap_or(-1).to_be_bytes());
    identity.extend_from_slice(&letter.offset.unwrap_or(-1).to_be_bytes());
    identity.extend_from_slice(
        letter
            .column
            .as_deref()
            .unwrap_or("")
            .as_bytes()
            .to_byte_slice(),
    );
    identity
}

fn encode(letter: &Letter) -> Result<Vec<u8>> {
    serde_json::to_vec(letter).map_err(|e| ExecutorError::Internal(format!("dead letter: {e}")))
}

fn decode(bytes: &[u8]) -> Result<Letter> {
    serde_json::from_slice(bytes)
        .map_err(|e| ExecutorError::Internal(format!("stored dead letter: {e}")))
}

/// A stored letter, for readers of a snapshot.
pub fn read_letter(value: &[u8]) -> Result<DeadLetter> {
    let letter = decode(value)?;
    Ok(DeadLetter {
        at_us: letter.at_us,
        object: ObjectId(letter.object),
        partition: letter.partition,
        offset: letter.offset,
        column: letter.column,
        key: letter.key,
        payload: letter.payload,
        error: letter.error,
        count: letter.count,
    })
}
