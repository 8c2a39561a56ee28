//! A server with base data, and random changes of a given number of rows.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::tpch::{Table, key, orders};

/// Line items at scale 1.
const LINES_AT_SCALE_1: f64 = 6_000_000.0;
const ORDERS_PER_INSERT: usize = 1000;
const ROWS_PER_INSERT: usize = 2000;
const MEMORY: &str = "2GB";

/// See the module.
pub struct Base {
    server: Server,
    pub session: Session,
    /// Each order's key and how many line items it has.
    orders: Vec<(u64, usize)>,
    random: StdRng,
}

impl Base {
    /// A new server with orders that have about `lines` line items, and what they refer to.
    pub fn load(lines: usize) -> Result<Base> {
        let scale = lines as f64 / LINES_AT_SCALE_1;
        let server = Server::options().memory_limit(MEMORY).start()?;
        let mut session = server.connect();
        session.timeout = Duration::from_secs(3600);
        let begin = Instant::now();
        for table in Table::ALL {
            session.must(&table.ddl());
        }
        for table in [
            Table::Region,
            Table::Nation,
            Table::Supplier,
            Table::Customer,
        ] {
            let rows: Vec<String> = table.rows(scale).collect();
            for some in rows.chunks(ROWS_PER_INSERT) {
                session.must(&table.insert(some));
            }
        }
        let mut loaded = Vec::new();
        for chunk in orders(scale, ORDERS_PER_INSERT) {
            session.must(&chunk.insert());
            let mut lines = chunk.line_items.iter().map(|row| key(row)).peekable();
            for order in chunk.orders.iter().map(|row| key(row)) {
                let mut count = 0;
                while lines.next_if(|line| *line == order).is_some() {
                    count += 1;
                }
                loaded.push((order.parse()?, count));
            }
        }
        let base = Base {
            server,
            session,
            orders: loaded,
            random: StdRng::seed_from_u64(1),
        };
        println!(
            "{} lines loaded in {:.0} s",
            base.lines(),
            begin.elapsed().as_secs_f64()
        );
        Ok(base)
    }

    /// Line items there are.
    pub fn lines(&self) -> usize {
        self.orders.iter().map(|(_, lines)| lines).sum()
    }

    /// A statement that updates exactly `rows` line items: all of random orders.
    pub fn change(&mut self, rows: usize) -> String {
        let mut chosen = std::collections::BTreeSet::new();
        let mut rest = rows;
        while rest > 0 {
            let (key, lines) = self.orders[self.random.random_range(0..self.orders.len())];
            if lines <= rest && chosen.insert(key) {
                rest -= lines;
            }
        }
        let keys: Vec<String> = chosen.iter().map(u64::to_string).collect();
        format!(
            "UPDATE lineitem SET l_quantity = 51 - l_quantity, l_extendedprice = l_extendedprice + 1
             WHERE l_orderkey IN ({})",
            keys.join(", ")
        )
    }

    pub fn stop(mut self) -> Result<()> {
        self.server.stop()
    }
}
