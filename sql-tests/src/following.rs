//! A subscriber that adds up what SUBSCRIBE sends it: cheap enough for a hundred of them to be read side by side.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wire::{Wire, field, query};

/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A multiset of rows as a number: sums of their hashes. Two that differ have the same sum by a chance of 2^-64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    pub rows: i64,
    sum: u64,
}

impl Digest {
    /// Adds a row, or takes it away; `cells` is how DataRow has its values.
    fn add(&mut self, cells: &[u8], weight: i64) {
        let mut hasher = DefaultHasher::new();
        cells.hash(&mut hasher);
        let weighted = hasher.finish().wrapping_mul(weight.cast_unsigned());
        self.sum = self.sum.wrapping_add(weighted);
        self.rows += weight;
    }

    /// Of what a query gave.
    pub fn of(rows: &[Vec<Option<String>>]) -> Digest {
        let mut digest = Digest::default();
        let mut cells = Vec::new();
        for row in rows {
            cells.clear();
            for value in row {
                match value {
                    None => cells.extend((-1i32).to_be_bytes()),
                    Some(value) => {
                        cells.extend((value.len() as i32).to_be_bytes());
                        cells.extend(value.as_bytes());
                    }
                }
            }
            digest.add(&cells, 1);
        }
        digest
    }
}

/// A running SUBSCRIBE with PROGRESS.
pub struct Subscriber {
    messages: BufReader<TcpStream>,
    body: Vec<u8>,
    digest: Digest,
    /// Of the last row.
    epoch: u64,
}

impl Subscriber {
    pub fn start(port: u16, relation: &str) -> Result<Subscriber> {
        let mut wire = Wire::connect(port, "rivermark")?;
        wire.send(&query(&format!("SUBSCRIBE {relation} WITH (PROGRESS)")))?;
        wire.0.set_read_timeout(Some(PATIENCE))?;
        Ok(Subscriber {
            messages: BufReader::with_capacity(64 << 10, wire.0),
            body: Vec::new(),
            digest: Digest::default(),
            epoch: 0,
        })
    }

    /// An epoch of which everything has come, and what all changes up to it add up to.
    pub fn next_epoch(&mut self) -> Result<(u64, Digest)> {
        loop {
            let mut head = [0; 5];
            self.messages
                .read_exact(&mut head)
                .context("no message in time")?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            self.body.resize(length.saturating_sub(4), 0);
            self.messages.read_exact(&mut self.body)?;
            match head[0] {
                b'D' => {
                    if let Some(complete) = self.row()? {
                        return Ok(complete);
                    }
                }
                b'E' => bail!("{}", field(&self.body, b'M')),
                _ => {}
            }
        }
    }

    /// Takes a row in; the epoch that it shows to be complete, if it does.
    fn row(&mut self) -> Result<Option<(u64, Digest)>> {
        let (epoch, rest) = number(&self.body[2..])?;
        let (weight, cells) = number(rest)?;
        let epoch = u64::try_from(epoch)?;
        ensure!(epoch >= self.epoch, "epochs come in order");
        let before = (self.epoch, self.digest);
        // Progress is told once for several epochs that a subscriber was late for.
        let is_next = epoch > self.epoch && self.epoch > 0;
        self.epoch = epoch;
        if weight == 0 {
            return Ok(Some((epoch, self.digest)));
        }
        self.digest.add(cells, weight);
        Ok(is_next.then_some(before))
    }
}

/// The number in the first cell, and the cells behind it.
fn number(cells: &[u8]) -> Result<(i64, &[u8])> {
    let (length, rest) = cells.split_at(4);
    let length = u32::from_be_bytes(length.try_into()?) as usize;
    let (text, rest) = rest.split_at(length);
    Ok((std::str::from_utf8(text)?.parse()?, rest))
}
