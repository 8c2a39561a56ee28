//! How the one memory limit is divided.

use std::sync::OnceLock;

/// What lives as long as the server. What is left is for queries, for epochs and for decoding.
pub struct MemoryShares {
    pub block_cache: usize,
    pub write_buffers: usize,
    pub operator_caches: usize,
    pub source_queues: usize,
}

impl MemoryShares {
    pub fn of(limit: usize) -> Self {
        MemoryShares {
            block_cache: limit / 100 * 25,
            write_buffers: limit / 100 * 15,
            operator_caches: limit / 100 * 15,
            source_queues: limit / 100 * 10,
        }
    }
}

/// What one epoch may hold in memory, in bytes. Beyond that it goes to temporary files or is worked on at once.
pub struct EpochMemory {
    /// Changes of state tables and rows, before they are spilled.
    pub overlays: usize,
    /// What one operator keeps of its input until it works on it.
    pub held: usize,
    /// What views compute for one another.
    pub shared: usize,
    /// What views hand on to others, together, before it is spooled.
    outputs: usize,
}

/// As memory limit of epochs alone, in bytes: makes every test one of spilling.
const TEST_VARIABLE: &str = "RIVERMARK_TEST_EPOCH_MEMORY";

impl EpochMemory {
    pub fn of(limit: usize) -> Self {
        static OF_TESTS: OnceLock<Option<usize>> = OnceLock::new();
        let of_tests = OF_TESTS.get_or_init(|| std::env::var(TEST_VARIABLE).ok()?.parse().ok());
        let limit = of_tests.unwrap_or(limit);
        EpochMemory {
            overlays: limit / 100 * 8,
            held: limit / 100 * 3,
            shared: limit / 100 * 5,
            outputs: limit / 100 * 6,
        }
    }

    /// The share of the next view's output, if others have handed on so many bytes. It is never nothing: what is spooled
    /// should be worth a file.
    pub fn output_left(&self, used: usize) -> usize {
        self.outputs.saturating_sub(used).max(self.outputs / 16)
    }
}
