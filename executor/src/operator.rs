//! The protocol between the dataflow and one incremental operator.
//!
//! An operator is a synchronous, deterministic function from deltas (and its state tables) to deltas, such that for
//! every prefix of the input the accumulated output equals the batch query over the accumulated input, for any split
//! of the input into epochs and of an epoch into deltas.

use crate::delta::Delta;
use crate::error::Result;
use crate::state::{StateTable, WriteSet};
use crate::watermark::Watermarks;

/// Takes a piece of an operator's output to where it goes.
pub type Emit<'a> = dyn FnMut(Delta, &mut EpochContext) -> Result<()> + 'a;

/// One running operator.
pub trait Operator: Send {
    /// For metrics and errors.
    fn name(&self) -> &'static str;

    /// What the operator's output holds before any input, e.g. constant rows or the one row of a global aggregate.
    /// Called once, in the first epoch of the view, before any push.
    fn initialize(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        Ok(Vec::new())
    }

    /// One delta at input `port`. May return output at once (stateless operators) or keep it for [`Self::finish`].
    /// Called any number of times in an epoch.
    fn push(&mut self, port: usize, delta: Delta, context: &mut EpochContext)
    -> Result<Vec<Delta>>;

    /// The end of the epoch's input. Stateful operators touch state once per distinct group here and emit the difference.
    /// Called only if the operator had input in this epoch, or is to run for another reason; and called before the end,
    /// then again, where the input is too much to be held at once.
    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        Ok(Vec::new())
    }

    /// As [`Self::finish`], but hands the output over piece by piece, so that no more than a piece need be held. This is
    /// what the dataflow calls.
    fn finish_into(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        for delta in self.finish(context)? {
            emit(delta, context)?;
        }
        Ok(())
    }

    /// The epoch's input is at its end, and bounds of the inputs (`inputs`, by port) have risen since the last call, or
    /// the server has started: what they make final can be emitted, what they leave behind can be forgotten. `output`: the
    /// bounds of the operator's own columns. They rise together with the epoch's commit, and never fall, but for a
    /// restart, after which a call may bring what is known already.
    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        _output: &Watermarks,
        _context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        Ok(())
    }

    /// Rows that came for what is forgotten, since the last call.
    fn take_dropped(&mut self) -> u64 {
        0
    }

    /// The earliest time (microseconds since 1970) at which there is something to do without any input: then the epoch
    /// finishes the operator though nothing was pushed. Too early a time costs an epoch that changes nothing.
    fn due_us(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }

    /// Bytes, about, of what was pushed and is kept for [`Self::finish`].
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether all that an epoch brings at the last port must be known before anything comes at the others.
    fn takes_last_input_first(&self) -> bool {
        false
    }

    /// The state tables the operator owns (for commit, discard and metrics).
    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        Vec::new()
    }

    /// Adds what this epoch changed in the operator's state to the epoch's one write.
    fn drain_into(&mut self, writes: &mut WriteSet) {
        for table in self.state_tables() {
            table.drain_into(writes);
        }
    }

    /// The epoch is committed: caches may take over what was written.
    fn committed(&mut self) {
        for table in self.state_tables() {
            table.committed();
        }
    }

    /// The epoch failed: forget everything that was pushed or written since the last commit.
    fn discard(&mut self) {
        for table in self.state_tables() {
            table.discard();
        }
    }
}

/// What an operator may use and report while an epoch is computed.
pub struct EpochContext {
    pub epoch: u64,
    /// The epoch's time, microseconds since 1970: what `now()` is in all of it. Never less than an earlier epoch's.
    pub now_us: i64,
    /// How many threads may share the work of one operator (1: run inline).
    pub shards: usize,
    /// Bytes that one operator may hold of an epoch's input before it has to work on them.
    pub held_limit: usize,
    /// Rows and groups that failed or recovered in this epoch; they become dead letters with the commit.
    pub failures: Vec<Failure>,
}

/// A row (or output group) that could not be computed, or one whose failure is taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Identifies the failing thing within the view: operator id and encoded row or group key.
    pub key: Vec<u8>,
    /// +n: failed n times; -n: retracted. Letters whose weight returns to 0 disappear.
    pub weight: i64,
    /// The failing row or group key, as JSON text.
    pub payload: String,
    pub error: String,
}

impl Failure {
    /// The failure as another view has it that computes the same, but whose operators are numbered from `to` on
    /// instead of `from`.
    pub fn for_operator(&self, from: u32, to: u32) -> Failure {
        let mut failure = self.clone();
        if let Some((id, _)) = failure.key.split_first_chunk_mut::<4>() {
            *id = (u32::from_be_bytes(*id) - from + to).to_be_bytes();
        }
        failure
    }
}
