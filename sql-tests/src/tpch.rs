//! TPC-H: its tables, the rows that its generator gives them, and its queries with the specification's validation
//! parameters (`sql-tests/tpch/`), for the test of their answers and for the benchmark of their upkeep.

use std::fmt::Display;

use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

/// A table of TPC-H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Region,
    Nation,
    Supplier,
    Customer,
    Part,
    PartSupp,
    Orders,
    LineItem,
}

impl Table {
    /// All of them, a table after those that it refers to.
    pub const ALL: [Table; 8] = [
        Table::Region,
        Table::Nation,
        Table::Supplier,
        Table::Customer,
        Table::Part,
        Table::PartSupp,
        Table::Orders,
        Table::LineItem,
    ];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Table::Region => "region",
            Table::Nation => "nation",
            Table::Supplier => "supplier",
            Table::Customer => "customer",
            Table::Part => "part",
            Table::PartSupp => "partsupp",
            Table::Orders => "orders",
            Table::LineItem => "lineitem",
        }
    }

    /// Its columns and their types, in the order of the generator.
    fn columns(self) -> &'static str {
        match self {
            Table::Region => "r_regionkey bigint, r_name text, r_comment text",
            Table::Nation => "n_nationkey bigint, n_name text, n_regionkey bigint, n_comment text",
            Table::Supplier => {
                "s_suppkey bigint, s_name text, s_address text, s_nationkey bigint, s_phone text, \
                 s_acctbal numeric(15,2), s_comment text"
            }
            Table::Customer => {
                "c_custkey bigint, c_name text, c_address text, c_nationkey bigint, c_phone text, \
                 c_acctbal numeric(15,2), c_mktsegment text, c_comment text"
            }
            Table::Part => {
                "p_partkey bigint, p_name text, p_mfgr text, p_brand text, p_type text, p_size int, p_container text, \
                 p_retailprice numeric(15,2), p_comment text"
            }
            Table::PartSupp => {
                "ps_partkey bigint, ps_suppkey bigint, ps_availqty int, ps_supplycost numeric(15,2), ps_comment text"
            }
            Table::Orders => {
                "o_orderkey bigint, o_custkey bigint, o_orderstatus text, o_totalprice numeric(15,2), o_orderdate date, \
                 o_orderpriority text, o_clerk text, o_shippriority int, o_comment text"
            }
            Table::LineItem => {
                "l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber int, l_quantity numeric(15,2), \
                 l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2), l_returnflag text, \
                 l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text, \
                 l_shipmode text, l_comment text"
            }
        }
    }

    fn primary_key(self) -> &'static str {
        match self {
            Table::Region => "r_regionkey",
            Table::Nation => "n_nationkey",
            Table::Supplier => "s_suppkey",
            Table::Customer => "c_custkey",
            Table::Part => "p_partkey",
            Table::PartSupp => "ps_partkey, ps_suppkey",
            Table::Orders => "o_orderkey",
            Table::LineItem => "l_orderkey, l_linenumber",
        }
    }

    /// The statement that creates it.
    pub fn ddl(self) -> String {
        let not_null = self.columns().replace(", ", " not null, ");
        // the comma within `numeric(15,2)` has no space after it
        format!(
            "CREATE TABLE {} ({not_null} not null, PRIMARY KEY ({}))",
            self.name(),
            self.primary_key()
        )
    }

    /// Its rows at a scale, as SQL's row values: `(1, 'text', …)`. One order has up to seven line items, which come in
    /// the order of their orders.
    pub fn rows(self, scale: f64) -> Box<dyn Iterator<Item = String>> {
        match self {
            Table::Region => self.values(RegionGenerator::new(scale, 1, 1).iter()),
            Table::Nation => self.values(NationGenerator::new(scale, 1, 1).iter()),
            Table::Supplier => self.values(SupplierGenerator::new(scale, 1, 1).iter()),
            Table::Customer => self.values(CustomerGenerator::new(scale, 1, 1).iter()),
            Table::Part => self.values(PartGenerator::new(scale, 1, 1).iter()),
            Table::PartSupp => self.values(PartSuppGenerator::new(scale, 1, 1).iter()),
            Table::Orders => self.values(OrderGenerator::new(scale, 1, 1).iter()),
            Table::LineItem => self.values(LineItemGenerator::new(scale, 1, 1).iter()),
        }
    }

    /// The generator's rows show themselves with a bar after each value.
    fn values<R: Display>(
        self,
        rows: impl Iterator<Item = R> + 'static,
    ) -> Box<dyn Iterator<Item = String>> {
        let is_quoted: Vec<bool> = self
            .columns()
            .split(", ")
            .map(|column| column.ends_with(" text") || column.ends_with(" date"))
            .collect();
        Box::new(rows.map(move |row| {
            let text = row.to_string();
            let values = text.trim_end_matches('|').split('|').zip(&is_quoted);
            let values: Vec<String> = values
                .map(|(value, is_quoted)| match is_quoted {
                    true => format!("'{}'", value.replace('\'', "''")),
                    false => value.to_string(),
                })
                .collect();
            format!("({})", values.join(", "))
        }))
    }

    /// The statement that inserts rows.
    pub fn insert(self, rows: &[String]) -> String {
        format!("INSERT INTO {} VALUES {}", self.name(), rows.join(", "))
    }
}

/// Some orders and all their line items: what is loaded in one transaction, and so in one epoch.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    pub orders: Vec<String>,
    pub line_items: Vec<String>,
}

impl Orders {
    /// Those whose key modulo `parts` is `part`.
    pub fn part(&self, part: usize, parts: usize) -> Orders {
        let is_in_part = |row: &&String| {
            key(row)
                .parse::<usize>()
                .is_ok_and(|key| key % parts == part)
        };
        Orders {
            orders: self.orders.iter().filter(is_in_part).cloned().collect(),
            line_items: self.line_items.iter().filter(is_in_part).cloned().collect(),
        }
    }

    /// The statements that insert them, to be sent as one message.
    pub fn insert(&self) -> String {
        format!(
            "{}; {}",
            Table::Orders.insert(&self.orders),
            Table::LineItem.insert(&self.line_items)
        )
    }
}

impl FromIterator<Orders> for Orders {
    fn from_iter<I: IntoIterator<Item = Orders>>(parts: I) -> Self {
        let mut all = Orders::default();
        for part in parts {
            all.orders.extend(part.orders);
            all.line_items.extend(part.line_items);
        }
        all
    }
}

/// The first value of a row, the order's key of orders and line items.
pub fn key(row: &str) -> &str {
    row.trim_start_matches('(')
        .split(',')
        .next()
        .unwrap_or_default()
}

/// All orders at a scale, `size` at a time.
pub fn orders(scale: f64, size: usize) -> impl Iterator<Item = Orders> {
    let mut orders = Table::Orders.rows(scale);
    let mut line_items = Table::LineItem.rows(scale).peekable();
    std::iter::from_fn(move || {
        let mut chunk = Orders {
            orders: orders.by_ref().take(size).collect(),
            line_items: Vec::new(),
        };
        for order in &chunk.orders {
            while let Some(row) = line_items.next_if(|row| key(row) == key(order)) {
                chunk.line_items.push(row);
            }
        }
        (!chunk.orders.is_empty()).then_some(chunk)
    })
}

/// A query of TPC-H.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// 1 to 22.
    pub number: usize,
    text: &'static str,
}

impl Query {
    /// The query, for data of a scale: Q11's fraction depends on it.
    pub fn sql(&self, scale: f64) -> String {
        let text = self.text.trim();
        match self.number {
            11 => text.replace("0.0001", &format!("{:.7}", 0.0001 / scale)),
            _ => text.to_string(),
        }
    }

    /// The order by which its LIMIT cuts, as positions of output columns; `None` for one without a limit.
    pub fn limited_by(&self) -> Option<&'static [usize]> {
        match self.number {
            2 => Some(&[0, 2, 1, 3]),
            3 => Some(&[1, 2]),
            10 => Some(&[2]),
            18 => Some(&[4, 3]),
            21 => Some(&[1, 0]),
            _ => None,
        }
    }
}

/// The view that Q15 reads.
pub const REVENUE: &str = include_str!("../tpch/revenue.sql");

macro_rules! queries {
    ($($number:literal $file:literal),*) => {
        &[$(Query { number: $number, text: include_str!(concat!("../tpch/", $file, ".sql")) }),*]
    };
}

/// All 22.
pub const QUERIES: &[Query] = queries!(
    1 "q01", 2 "q02", 3 "q03", 4 "q04", 5 "q05", 6 "q06", 7 "q07", 8 "q08", 9 "q09", 10 "q10", 11 "q11",
    12 "q12", 13 "q13", 14 "q14", 15 "q15", 16 "q16", 17 "q17", 18 "q18", 19 "q19", 20 "q20", 21 "q21",
    22 "q22"
);
