//! The decoding threads: runs of messages to batches.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::lanes::Lanes;
use super::messages::Run;
use crate::format::BatchDecoder;

/// A run and the place its batch goes to.
pub struct Job {
    pub place: u64,
    pub run: Run,
}

/// Decodes until the channel is closed or the reader stops.
pub fn decode_runs(jobs: &Receiver<Job>, mut decoder: BatchDecoder, lanes: &Arc<Lanes>) {
    let _guard = FailOnPanic(lanes);
    while let Ok(Job { place, run }) = jobs.recv() {
        if lanes.is_stopped() {
            return;
        }
        match decoder.decode(run.partition, run.messages.iter(), run.next_offset) {
            Ok(batch) => {
                drop(run);
                lanes.complete(place, batch);
            }
            Err(error) => {
                lanes.set_failed(error.to_string());
                return;
            }
        }
    }
}

/// A thread that panics leaves a failed reader, not one that waits for ever.
pub struct FailOnPanic<'a>(pub &'a Arc<Lanes>);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .set_failed("internal connector error: a reader's thread panicked".to_string());
        }
    }
}
