//! The views whose upkeep is measured: one of each kind of operator, and some of TPC-H.

use rivermark_sql_tests::tpch::QUERIES;

/// A view.
pub struct View {
    pub name: String,
    pub sql: String,
    /// A query of TPC-H, which is also computed anew.
    pub is_query: bool,
}

/// Few groups are large ones, many are small: a change should cost the same in both. Windows that compute a whole
/// partition again have partitions of one order.
const OPERATORS: [(&str, &str); 8] = [
    (
        "join",
        "SELECT l_orderkey, l_linenumber, l_extendedprice, o_custkey, o_orderdate FROM lineitem JOIN orders
         ON l_orderkey = o_orderkey",
    ),
    (
        "aggregate, many groups",
        "SELECT l_orderkey, count(*) AS n, sum(l_extendedprice) AS s, avg(l_quantity) AS m FROM lineitem
         GROUP BY l_orderkey",
    ),
    (
        "aggregate, few groups",
        "SELECT l_linenumber, count(*) AS n, sum(l_extendedprice) AS s, min(l_extendedprice) AS lo,
         max(l_extendedprice) AS hi FROM lineitem GROUP BY l_linenumber",
    ),
    (
        "top 100",
        "SELECT l_orderkey, l_linenumber, l_extendedprice FROM lineitem ORDER BY l_extendedprice DESC LIMIT 100",
    ),
    (
        "top 2 of each order",
        "SELECT * FROM (SELECT l_orderkey, l_linenumber, l_extendedprice, row_number() OVER
         (PARTITION BY l_orderkey ORDER BY l_extendedprice DESC) AS place FROM lineitem) AS p WHERE place <= 2",
    ),
    (
        "window, neighbours",
        "SELECT l_orderkey, l_linenumber, l_extendedprice - lag(l_extendedprice) OVER
         (PARTITION BY l_linenumber ORDER BY l_extendedprice, l_orderkey) AS gap FROM lineitem",
    ),
    (
        "window, partitions of an order",
        "SELECT l_orderkey, l_linenumber, sum(l_extendedprice) OVER (PARTITION BY l_orderkey) AS total FROM lineitem",
    ),
    (
        "distinct count",
        "SELECT l_linenumber, count(DISTINCT l_extendedprice) AS n FROM lineitem GROUP BY l_linenumber",
    ),
];
const OF_TPCH: [usize; 3] = [3, 5, 18];

/// All of them.
pub fn views() -> Vec<View> {
    let operators = OPERATORS.iter().map(|(name, sql)| View {
        name: (*name).to_string(),
        sql: (*sql).to_string(),
        is_query: false,
    });
    let queries = QUERIES
        .iter()
        .filter(|q| OF_TPCH.contains(&q.number))
        .map(|query| View {
            name: format!("Q{}", query.number),
            // only Q11 depends on the scale
            sql: query.sql(1.0),
            is_query: true,
        });
    operators.chain(queries).collect()
}
