//! Random INSERT, UPDATE and DELETE statements, and transactions of several of them.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::{expression, predicate};
use super::table::{Table, literal};
use super::{Column, Features, Random, Type};

/// One change of a table, and what it brings along.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it counts as, for the coverage table.
    pub kind: &'static str,
    /// The statement, for both servers; without the rows, if it has some.
    pub head: String,
    /// The rows of an INSERT.
    pub rows: Vec<String>,
    /// What follows the rows.
    pub tail: String,
    /// Whether a NULL is written.
    pub has_nulls: bool,
    /// Whether a row is written twice.
    pub has_duplicates: bool,
    /// Whether rows are taken away, if any match.
    pub retracts: bool,
}

/// What changes are counted as.
pub const KINDS: &[&str] = &[
    "INSERT",
    "INSERT … SELECT",
    "INSERT … ON CONFLICT",
    "UPDATE",
    "UPDATE with a subquery",
    "UPDATE … FROM",
    "DELETE",
    "DELETE with a subquery",
    "DELETE … USING",
    "DELETE of all",
    "TRUNCATE",
    "RETURNING",
    "transaction",
];

impl Change {
    fn new(kind: &'static str, head: String) -> Change {
        Change {
            kind,
            head,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: false,
            retracts: true,
        }
    }

    /// The statement, for both servers.
    pub fn sql(&self) -> String {
        format!("{}{}{}", self.head, self.rows.join(", "), self.tail)
    }

    /// Whether its command tag has the number of rows.
    pub fn is_counted(&self) -> bool {
        !matches!(self.kind, "transaction" | "TRUNCATE")
    }
}

/// Tables, of which one changes.
pub struct Tables<'a> {
    /// All of them.
    pub all: &'a mut [Table],
    /// The one that changes.
    pub at: usize,
}

impl Tables<'_> {
    /// A change; `first` ones only insert, since there is nothing to delete yet.
    pub fn change(&mut self, first: bool, random: &mut Random) -> Change {
        if first {
            return self.insert(random);
        }
        if random.random_bool(0.12) {
            return self.transaction(random);
        }
        let mut change = self.statement(random);
        if change.is_counted() && random.random_bool(0.15) {
            // of several rows that one is joined with, any may be returned
            let list = match change.kind {
                "UPDATE … FROM" | "DELETE … USING" => format!("{}.*", self.table().name),
                _ => "*".to_string(),
            };
            change.kind = "RETURNING";
            change.tail.push_str(&format!(" RETURNING {list}"));
        }
        change
    }

    fn statement(&mut self, random: &mut Random) -> Change {
        match random.random_range(0..26) {
            20 | 21 => self.upsert(random),
            22 | 23 => self.update_from(random),
            24 => self.delete_using(random),
            25 => Change::new("TRUNCATE", format!("TRUNCATE {}", self.table().name)),
            0..7 => self.insert(random),
            7 | 8 => self.insert_select(random),
            9..13 => self.update(random),
            13 | 14 => self.update_by_subquery(random),
            15 | 16 => self.delete(random),
            17 | 18 => self.delete_by_subquery(random),
            _ => Change::new(
                "DELETE of all",
                format!("DELETE FROM {}", self.table().name),
            ),
        }
    }

    fn transaction(&mut self, random: &mut Random) -> Change {
        let mut whole = Change::new("transaction", "BEGIN; ".into());
        for _ in 0..random.random_range(2..=3) {
            let part = self.statement(random);
            whole.head.push_str(&format!("{}; ", part.sql()));
            whole.has_nulls |= part.has_nulls;
            whole.has_duplicates |= part.has_duplicates;
            self.at = random.random_range(0..self.all.len());
        }
        let end = if random.random_bool(0.15) {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        whole.head.push_str(end);
        whole
    }

    fn table(&self) -> &Table {
        &self.all[self.at]
    }

    fn other(&self, random: &mut Random) -> &Table {
        self.all.choose(random).unwrap_or(self.table())
    }

    fn insert(&mut self, random: &mut Random) -> Change {
        let table = &mut self.all[self.at];
        let mut change = Change::new("INSERT", format!("INSERT INTO {} VALUES ", table.name));
        change.retracts = false;
        for _ in 0..random.random_range(1..=8) {
            let row = row(table, None, &mut change.has_nulls, random);
            if !table.has_key && random.random_bool(0.3) {
                change.has_duplicates = true;
                change.rows.push(row.clone());
            }
            change.rows.push(row);
        }
        // With a key rows are never equal, but the rows that leave the first projection are.
        change.has_duplicates |= table.has_key && change.rows.len() > 2;
        change
    }

    /// New rows, and rows that there may be already.
    fn upsert(&mut self, random: &mut Random) -> Change {
        let table = &mut self.all[self.at];
        if !table.has_key {
            return self.insert(random);
        }
        let mut change = Change::new(
            "INSERT … ON CONFLICT",
            format!("INSERT INTO {} VALUES ", table.name),
        );
        let last = table.take_id();
        let mut ids: Vec<i64> = (1..=last).collect();
        while ids.len() > 4 {
            ids.remove(random.random_range(0..ids.len()));
        }
        for id in ids {
            let row = row(table, Some(id), &mut change.has_nulls, random);
            change.rows.push(row);
        }
        let name = &table.name;
        change.tail = match random.random_range(0..4) {
            0 => " ON CONFLICT (id) DO NOTHING".to_string(),
            1 => " ON CONFLICT (id) DO UPDATE SET a = EXCLUDED.a, s = EXCLUDED.s".to_string(),
            2 => format!(" ON CONFLICT (id) DO UPDATE SET a = COALESCE({name}.a, 0) + 1"),
            _ => format!(
                " ON CONFLICT (id) DO UPDATE SET ts = EXCLUDED.ts WHERE {name}.s IS DISTINCT FROM EXCLUDED.s"
            ),
        };
        change
    }

    /// From a table with a key, so that no more than one row gives a value.
    fn update_from(&mut self, random: &mut Random) -> Change {
        let keyed = self
            .all
            .iter()
            .find(|t| t.has_key && t.name != self.table().name);
        let Some(other) = keyed else {
            return self.update(random);
        };
        let name = &self.table().name;
        let condition = predicate(&[Column::new(format!("{name}.s"), Type::Text)], 1, random);
        let sql = format!(
            "UPDATE {name} SET a = o.a, s = COALESCE(o.s, {name}.s) FROM {} AS o WHERE o.id = {name}.a AND {condition}",
            other.name
        );
        Change::new("UPDATE … FROM", sql)
    }

    fn delete_using(&self, random: &mut Random) -> Change {
        let (name, other) = (&self.table().name, self.other(random));
        let condition = predicate(&[Column::new("o.a", Type::Int)], 1, random);
        let sql = format!(
            "DELETE FROM {name} USING {} AS o WHERE o.s = {name}.s AND {condition}",
            other.name
        );
        Change::new("DELETE … USING", sql)
    }

    /// Rows computed from another table, or from this one. Not for tables with a key, which would need new ones.
    fn insert_select(&mut self, random: &mut Random) -> Change {
        if self.table().has_key {
            return self.insert(random);
        }
        let (table, other) = (self.table(), self.other(random));
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        let mut ignored = Features::new();
        let mut value = |c: &Column| match other
            .columns
            .iter()
            .any(|o| o.name == c.name && o.ty == c.ty)
        {
            true if random.random_bool(0.7) => c.name.clone(),
            _ => expression(c.ty, &other.columns, 1, &mut ignored, random),
        };
        let values: Vec<String> = table.columns.iter().map(&mut value).collect();
        let condition = predicate(&other.columns, 1, random);
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} WHERE {condition}",
            table.name,
            names.join(", "),
            values.join(", "),
            other.name
        );
        let mut change = Change::new("INSERT … SELECT", sql);
        change.has_duplicates = true;
        change.retracts = false;
        change
    }

    fn update(&self, random: &mut Random) -> Change {
        let table = self.table();
        let settable: Vec<&Column> = table.columns.iter().filter(|c| c.name != "id").collect();
        let mut ignored = Features::new();
        let count = random.random_range(1..=2);
        let chosen: Vec<&&Column> = settable.choose_multiple(random, count).collect();
        let mut has_nulls = false;
        let mut assignment = |column: &&&Column| {
            let name = &column.name;
            let value = match column.ty {
                Type::Int | Type::Big if random.random_bool(0.4) => format!("{name} + 1"),
                Type::Int | Type::Big => literal(column.ty, random),
                ty if random.random_bool(0.5) => {
                    expression(ty, &table.columns, 1, &mut ignored, random)
                }
                ty => literal(ty, random),
            };
            has_nulls |= value == "NULL";
            format!("{name} = {value}")
        };
        let assignments: Vec<String> = chosen.iter().map(&mut assignment).collect();
        let condition = predicate(&table.columns, 1, random);
        let sql = format!(
            "UPDATE {} SET {} WHERE {condition}",
            table.name,
            assignments.join(", ")
        );
        let mut change = Change::new("UPDATE", sql);
        change.has_nulls = has_nulls;
        change
    }

    fn update_by_subquery(&self, random: &mut Random) -> Change {
        let (table, other) = (self.table(), self.other(random));
        let sql = match random.random_range(0..3) {
            0 => format!(
                "UPDATE {} SET a = (SELECT max(a) FROM {}) WHERE {}",
                table.name,
                other.name,
                predicate(&table.columns, 1, random)
            ),
            1 => format!(
                "UPDATE {0} SET s = (SELECT min(o.s) FROM {1} AS o WHERE o.a = {0}.a) WHERE {2}",
                table.name,
                other.name,
                predicate(&table.columns, 1, random)
            ),
            _ => format!(
                "UPDATE {} SET a = a - 1 WHERE s IN (SELECT s FROM {} WHERE {})",
                table.name,
                other.name,
                predicate(&other.columns, 1, random)
            ),
        };
        Change::new("UPDATE with a subquery", sql)
    }

    fn delete(&self, random: &mut Random) -> Change {
        let condition = predicate(&self.table().columns, 1, random);
        Change::new(
            "DELETE",
            format!("DELETE FROM {} WHERE {condition}", self.table().name),
        )
    }

    fn delete_by_subquery(&self, random: &mut Random) -> Change {
        let (table, other) = (self.table(), self.other(random));
        let sql = match random.random_bool(0.5) {
            true => format!(
                "DELETE FROM {} WHERE a NOT IN (SELECT a FROM {} WHERE {})",
                table.name,
                other.name,
                predicate(&other.columns, 1, random)
            ),
            false => format!(
                "DELETE FROM {0} WHERE EXISTS (SELECT 1 FROM {1} AS o WHERE o.ts = {0}.ts)",
                table.name, other.name
            ),
        };
        Change::new("DELETE with a subquery", sql)
    }
}

/// A row of values in parentheses.
fn row(table: &mut Table, id: Option<i64>, has_nulls: &mut bool, random: &mut Random) -> String {
    let mut values = Vec::new();
    for i in 0..table.columns.len() {
        if table.columns[i].name == "id" {
            let id = id.unwrap_or_else(|| table.take_id());
            values.push(id.to_string());
            continue;
        }
        let value = literal(table.columns[i].ty, random);
        *has_nulls |= value == "NULL";
        values.push(value);
    }
    format!("({})", values.join(", "))
}
