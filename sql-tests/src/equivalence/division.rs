//! How a server divides its work. No answer may depend on it, so scripts run under several divisions.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::random::Random;
use crate::server::{Options, Server};

/// Servers that run side by side, each with a division of its own.
pub const SERVERS: usize = 2;

/// How many threads share an operator's work, and how many rows are worked on together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// `--shards`.
    pub shards: usize,
    /// `None`: as much as there is at once.
    pub piece_rows: Option<usize>,
}

impl Division {
    /// The division of a server under a seed: the first server has one shard, the second three.
    pub fn of(seed: u64, server: usize) -> Division {
        let mut random = Random::seed_from_u64(seed ^ 0x5851_f42d ^ server as u64);
        let small = *[1, 2, 3, 7].choose(&mut random).unwrap_or(&1);
        let is_divided = server % SERVERS == 1 || random.random_bool(0.3);
        Division {
            shards: if server % SERVERS == 1 { 3 } else { 1 },
            piece_rows: is_divided.then_some(small),
        }
    }

    /// Options of such a server.
    pub fn options(&self) -> Options {
        let options = Server::options().shards(self.shards);
        match self.piece_rows {
            Some(rows) => options.small_pieces(rows),
            None => options,
        }
    }
}

impl std::fmt::Display for Division {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--shards {}", self.shards)?;
        match self.piece_rows {
            Some(rows) => write!(f, ", RIVERMARK_PIECE_ROWS={rows}"),
            None => Ok(()),
        }
    }
}
