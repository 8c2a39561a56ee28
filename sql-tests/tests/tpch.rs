//! TPC-H: all 22 queries as materialized views over tables that are loaded in epochs of 1,000 orders with their line
//! items and then changed in rounds, some of the orders deleted, others updated, the dimensions too. After the load and
//! after each round every view equals PostgreSQL's answer to its query; numerics must agree to the last digit.
//!
//! Scale 0.01, with `./dev test --full` 0.1. `RIVERMARK_TPCH=3,18` has only these queries; `RIVERMARK_TPCH_SCALE=20`
//! is a scale in thousandths: at least 10, below which the generator repeats keys.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Row, Session};
use rivermark_sql_tests::tpch::{Orders, QUERIES, Query, REVENUE, Table, orders};
use rivermark_sql_tests::values::{exact_difference, show};
use rivermark_sql_tests::{env_number, is_full};

/// Orders in one epoch.
const ORDERS_PER_EPOCH: usize = 1000;
/// Rows of a dimension in one statement.
const ROWS_PER_INSERT: usize = 1000;
const ROUNDS: usize = 5;

/// What PostgreSQL needs to answer the correlated subqueries before tomorrow.
const ORACLE_INDEXES: &str =
    "CREATE INDEX ON lineitem (l_partkey, l_suppkey); CREATE INDEX ON orders (o_custkey)";

struct Run {
    scale: f64,
    queries: Vec<Query>,
    server: Server,
    rivermark: Session,
    oracle: Session,
    /// Numbers of the queries whose views exist.
    created: BTreeSet<usize>,
    /// Numbers of the queries that had an answer with rows at some time.
    answered: BTreeSet<usize>,
    complaints: Vec<String>,
}

impl Run {
    fn new(scale: f64, postgres: &Postgres) -> Run {
        let server = Server::options().start().expect("the server starts");
        let wanted = std::env::var("RIVERMARK_TPCH").ok().map(|list| {
            let numbers = list
                .split(',')
                .map(|n| n.parse().expect("a list of numbers"));
            numbers.collect::<BTreeSet<usize>>()
        });
        let is_wanted = |q: &&Query| wanted.as_ref().is_none_or(|w| w.contains(&q.number));
        Run {
            scale,
            queries: QUERIES.iter().filter(is_wanted).copied().collect(),
            rivermark: patient(server.connect()),
            oracle: patient(postgres.connect().expect("PostgreSQL accepts connections")),
            server,
            created: BTreeSet::new(),
            answered: BTreeSet::new(),
            complaints: Vec::new(),
        }
    }

    fn both(&self, sql: &str) {
        let theirs = self.oracle.must(sql).affected;
        let ours = match self.rivermark.run(sql) {
            Ok(answer) => answer.affected,
            Err(error) => panic!("{error}\nin: {}", sql.chars().take(300).collect::<String>()),
        };
        assert_eq!(
            ours,
            theirs,
            "rows affected by {}",
            sql.chars().take(300).collect::<String>()
        );
    }

    fn create_tables(&self) {
        for table in Table::ALL {
            self.both(&table.ddl());
        }
        self.oracle.must(ORACLE_INDEXES);
        self.both(REVENUE);
        for table in Table::ALL {
            if matches!(table, Table::Orders | Table::LineItem) {
                continue;
            }
            let rows: Vec<String> = table.rows(self.scale).collect();
            for some in rows.chunks(ROWS_PER_INSERT) {
                self.both(&table.insert(some));
            }
        }
    }

    /// Creates the views of the queries whose number `is_wanted`.
    fn create_views(&mut self, is_wanted: impl Fn(usize) -> bool) {
        for query in self.queries.iter().filter(|q| is_wanted(q.number)) {
            let sql = format!(
                "CREATE MATERIALIZED VIEW q{} AS {}",
                query.number,
                query.sql(self.scale)
            );
            match self.rivermark.run(&sql) {
                Ok(_) => drop(self.created.insert(query.number)),
                Err(error) => self.complaints.push(format!("Q{}: {error}", query.number)),
            }
        }
    }

    /// Compares all views with PostgreSQL.
    fn compare(&mut self, when: &str) {
        let begin = Instant::now();
        self.oracle.must("ANALYZE");
        for query in self
            .queries
            .iter()
            .filter(|q| self.created.contains(&q.number))
        {
            let ours = self
                .rivermark
                .rows(&format!("SELECT * FROM q{}", query.number));
            if !ours.is_empty() {
                self.answered.insert(query.number);
            }
            if let Some(difference) = self.difference(query, &ours) {
                self.complaints
                    .push(format!("Q{} differs {when}\n{difference}", query.number));
            }
        }
        println!("compared {when} in {:.1} s", begin.elapsed().as_secs_f32());
    }

    /// The queries themselves, asked as batch queries, must say the same. Q1 shows averages, whose last digit is cut
    /// off there (docs/limits.md).
    fn compare_batch(&mut self) {
        for query in self.queries.iter().filter(|q| q.number != 1) {
            match self.rivermark.run(&query.sql(self.scale)) {
                Ok(ours) => {
                    if let Some(difference) = self.difference(query, &ours.rows) {
                        self.complaints.push(format!(
                            "Q{} differs as a batch query\n{difference}",
                            query.number
                        ));
                    }
                }
                Err(error) => self
                    .complaints
                    .push(format!("Q{} as a batch query: {error}", query.number)),
            }
        }
    }

    fn difference(&self, query: &Query, ours: &[Row]) -> Option<String> {
        let sql = query.sql(self.scale);
        let Some(order) = query.limited_by() else {
            return exact_difference(&self.oracle.rows(&sql), ours);
        };
        let (sql, limit) = sql.rsplit_once("limit").expect("a query with a limit");
        let limit: usize = limit.trim().parse().expect("a limit is a number");
        let theirs = self
            .oracle
            .rows(&format!("{sql} FETCH FIRST {limit} ROWS WITH TIES"));
        limited_difference(&theirs, ours, order, limit)
    }
}

/// Of the last of the first rows any may be there that tie: `theirs` has them all, in order.
fn limited_difference(
    theirs: &[Row],
    ours: &[Row],
    order: &[usize],
    limit: usize,
) -> Option<String> {
    let key = |row: &Row| order.iter().map(|i| row[*i].clone()).collect::<Vec<_>>();
    if theirs.len() <= limit {
        return exact_difference(theirs, ours);
    }
    let last = key(theirs.last().expect("more rows than the limit"));
    let sure: Vec<Row> = theirs
        .iter()
        .filter(|row| key(row) != last)
        .cloned()
        .collect();
    let (tied, others): (Vec<Row>, Vec<Row>) =
        ours.iter().cloned().partition(|row| key(row) == last);
    let mut candidates: Vec<&Row> = theirs.iter().filter(|row| key(row) == last).collect();
    let unknown: Vec<Row> = tied
        .iter()
        .filter(|row| match candidates.iter().position(|c| c == row) {
            Some(at) => {
                candidates.swap_remove(at);
                false
            }
            None => true,
        })
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Some(format!("no row of the query:\n{}", show(&unknown)));
    }
    if ours.len() != limit {
        return Some(format!("{} rows instead of {limit}", ours.len()));
    }
    exact_difference(&sure, &others)
}

fn patient(mut session: Session) -> Session {
    session.timeout = Duration::from_secs(600);
    session
}

/// Orders are told apart by the rest of their key modulo this: a twentieth each.
const PARTS: usize = 20;

/// The part that a round deletes.
fn deleted_part(round: usize) -> usize {
    round * 7 % PARTS
}

/// Round `round`'s changes: each a transaction of its own.
fn changes(round: usize) -> Vec<String> {
    let part = |column: &str, rest: usize| {
        format!(
            "{column} % {PARTS} = {}",
            (deleted_part(round) + rest) % PARTS
        )
    };
    let orders = |rest: usize| part("o_orderkey", rest);
    let lines = |rest: usize| part("l_orderkey", rest);
    let of = |column: &str, modulus: usize| format!("{column} % {modulus} = {}", round % modulus);
    vec![
        // 5 % of the orders go with their lines
        format!("DELETE FROM lineitem WHERE {}; DELETE FROM orders WHERE {}", lines(0), orders(0)),
        // others change in what the queries select, join, group and add up
        format!(
            "UPDATE lineitem SET l_quantity = 51 - l_quantity / 10, l_discount = 0.10 - l_discount, l_tax = l_tax + 0.01
             WHERE {}",
            lines(1)
        ),
        format!(
            "UPDATE lineitem SET l_receiptdate = l_commitdate + (l_linenumber - 3), l_returnflag = 'R',
                    l_shipmode = CASE WHEN l_linenumber % 2 = 0 THEN 'AIR' ELSE 'MAIL' END
             WHERE {}; UPDATE orders SET o_orderstatus = 'F', o_orderdate = o_orderdate + 31 WHERE {}",
            lines(2),
            orders(2)
        ),
        format!(
            "UPDATE orders SET o_comment = 'a special kind of requests', o_orderpriority = '2-HIGH',
                    o_totalprice = o_totalprice * 1.01, o_custkey = o_custkey + CASE WHEN o_custkey % 3 = 1 THEN 1 ELSE -1 END
             WHERE {}",
            orders(3)
        ),
        // a line without its order, an order without its lines
        format!("DELETE FROM lineitem WHERE {} AND l_linenumber <= 2", lines(4)),
        // the dimensions, which meet many rows
        format!(
            "UPDATE customer SET c_mktsegment = 'BUILDING', c_acctbal = c_acctbal - 100 WHERE {};
             UPDATE supplier SET s_nationkey = (s_nationkey + 1) % 25, s_comment = 'Customer is full of Complaints'
             WHERE {};
             UPDATE part SET p_brand = 'Brand#23', p_container = 'MED BOX', p_size = 15, p_name = 'forest green' WHERE {};
             UPDATE partsupp SET ps_supplycost = ps_supplycost + 10, ps_availqty = ps_availqty / 2 WHERE {}",
            of("c_custkey", 50),
            of("s_suppkey", 25),
            of("p_partkey", 100),
            of("ps_partkey", 20)
        ),
    ]
}

#[test]
fn views_of_all_queries_equal_postgres() {
    let thousandths =
        env_number("RIVERMARK_TPCH_SCALE").unwrap_or(if is_full() { 100 } else { 10 });
    let scale = thousandths as f64 / 1000.0;
    let postgres = Postgres::start().expect("PostgreSQL is the oracle");
    let mut run = Run::new(scale, &postgres);
    let begin = Instant::now();
    let seconds = |begin: &Instant| begin.elapsed().as_secs_f32();
    run.create_tables();
    println!("scale {scale}: dimensions in {:.1} s", seconds(&begin));
    // half of the views are there before the orders, half meet a table in which half of them are
    run.create_views(|number| number % 2 == 1);
    println!("views by {:.1} s", seconds(&begin));
    let chunks: Vec<_> = orders(scale, ORDERS_PER_EPOCH).collect();
    for (i, chunk) in chunks.iter().enumerate() {
        if i == chunks.len() / 2 {
            run.create_views(|number| number % 2 == 0);
            run.compare("in the middle of the load");
        }
        run.both(&chunk.insert());
    }
    println!("{} epochs loaded by {:.1} s", chunks.len(), seconds(&begin));
    run.compare("after the load");
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            run.server.restart().expect("the server restarts");
            run.rivermark = patient(run.server.connect());
        }
        for change in changes(round) {
            run.both(&change);
        }
        if let Some(before) = round.checked_sub(2) {
            let back = chunks
                .iter()
                .map(|chunk| chunk.part(deleted_part(before), PARTS));
            run.both(&back.collect::<Orders>().insert());
        }
        run.compare(&format!("after round {round}"));
    }
    run.compare_batch();
    println!("done by {:.1} s", seconds(&begin));
    let unanswered: Vec<usize> = run
        .queries
        .iter()
        .map(|q| q.number)
        .filter(|n| !run.answered.contains(n))
        .collect();
    println!("queries whose answers were always empty: {unanswered:?}");
    assert!(run.complaints.is_empty(), "{}", run.complaints.join("\n"));
    assert!(
        unanswered.is_empty(),
        "queries {unanswered:?} never had a row: they test nothing"
    );
    run.server.stop().expect("the server stops cleanly");
}
