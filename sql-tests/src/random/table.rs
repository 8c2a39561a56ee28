//! Random tables and random changes of them: INSERT, also with ON CONFLICT, UPDATE and DELETE, also with the rows of
//! another table, and TRUNCATE.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::expression::predicate;
use super::{Column, Random, Type};

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns; with a key, `id` comes first.
    pub columns: Vec<Column>,
    /// Whether `id` is a primary key. Without one, equal rows may occur.
    pub has_key: bool,
    next_id: i64,
}

/// One change of a table, and what it brings along.
#[derive(Debug, Clone)]
pub struct Change {
    /// The statement, for both servers; without the rows, if it has some.
    pub head: String,
    /// The rows of an INSERT.
    pub rows: Vec<String>,
    /// What stands behind the rows.
    pub tail: String,
    /// Whether a NULL is written.
    pub has_nulls: bool,
    /// Whether a row is written twice, or rows are deleted or updated (if any match).
    pub has_duplicates: bool,
    /// Whether rows are taken away, if any match.
    pub retracts: bool,
}

/// The columns that a table may have besides its key.
const COLUMNS: [(&str, Type, &str); 7] = [
    ("a", Type::Int, "INT"),
    ("b", Type::Big, "BIGINT"),
    ("c", Type::Float, "DOUBLE PRECISION"),
    ("d", Type::Numeric, "NUMERIC(10,2)"),
    ("s", Type::Text, "TEXT"),
    ("f", Type::Bool, "BOOLEAN"),
    ("ts", Type::Time, "TIMESTAMP"),
];

impl Change {
    /// The statement, for both servers.
    pub fn sql(&self) -> String {
        format!("{}{}{}", self.head, self.rows.join(", "), self.tail)
    }
}

impl Table {
    /// A table with a random choice of columns; `a`, `s` and `ts` are always there.
    pub fn random(name: String, random: &mut Random) -> Table {
        let has_key = random.random_bool(0.5);
        let mut columns = Vec::new();
        if has_key {
            columns.push(Column {
                name: "id".into(),
                ty: Type::Int,
            });
        }
        for (name, ty, _) in COLUMNS {
            if matches!(name, "a" | "s" | "ts") || random.random_bool(0.7) {
                columns.push(Column {
                    name: name.into(),
                    ty,
                });
            }
        }
        Table {
            name,
            columns,
            has_key,
            next_id: 1,
        }
    }

    /// Its CREATE TABLE.
    pub fn ddl(&self) -> String {
        let column =
            |column: &Column| match COLUMNS.iter().find(|(name, _, _)| *name == column.name) {
                Some((name, _, ty)) => format!("{name} {ty}"),
                None => "id INT PRIMARY KEY".to_string(),
            };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }

    /// A change, which may read `other`; `first` ones only insert, since there is nothing to delete yet.
    pub fn change(&mut self, other: &Table, first: bool, random: &mut Random) -> Change {
        match random.random_range(0..14) {
            _ if first => self.insert(random),
            0..4 => self.insert(random),
            4 => self.insert_select(random),
            5..8 => self.update(random),
            8 | 9 => self.upsert(random),
            10 => self.update_from(other, random),
            11 => self.delete_using(other, random),
            12 if random.random_bool(0.3) => self.truncate(),
            _ => self.delete(random),
        }
    }

    fn insert(&mut self, random: &mut Random) -> Change {
        let mut rows = Vec::new();
        let mut change = Change {
            head: format!("INSERT INTO {} VALUES ", self.name),
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: false,
            retracts: false,
        };
        for _ in 0..random.random_range(1..=8) {
            let mut values = Vec::new();
            for column in &self.columns {
                if column.name == "id" {
                    values.push(self.next_id.to_string());
                    self.next_id += 1;
                    continue;
                }
                let value = literal(column.ty, random);
                change.has_nulls |= value == "NULL";
                values.push(value);
            }
            let row = format!("({})", values.join(", "));
            if !self.has_key && random.random_bool(0.3) {
                change.has_duplicates = true;
                rows.push(row.clone());
            }
            rows.push(row);
        }
        // With a key rows are never equal, but the rows that leave the first projection are.
        change.has_duplicates |= self.has_key && rows.len() > 2;
        change.rows = rows;
        change
    }

    /// An INSERT of keys of which some are taken.
    fn upsert(&mut self, random: &mut Random) -> Change {
        let mut change = self.insert(random);
        if !self.has_key || self.next_id > 10_000 {
            change.tail = " ON CONFLICT DO NOTHING".into();
            return change;
        }
        let first = random.random_range(1..=self.next_id);
        let rows = random.random_range(1..=6);
        self.next_id = self.next_id.max(first + rows);
        let mut row = |id: i64, random: &mut Random| {
            let rest = self.columns.iter().filter(|c| c.name != "id");
            let values: Vec<String> = rest.map(|c| literal(c.ty, random)).collect();
            change.has_nulls |= values.iter().any(|v| v == "NULL");
            format!("({id}, {})", values.join(", "))
        };
        let rows = (first..first + rows).map(|id| row(id, random)).collect();
        let column = &self.settable(random).name;
        let action = match random.random_range(0..4) {
            0 => "NOTHING".to_string(),
            1 => format!(
                "UPDATE SET {column} = excluded.{column} WHERE excluded.a > {0}.a OR {0}.s IS NULL",
                self.name
            ),
            2 => format!("UPDATE SET a = {}.a + 1, s = excluded.s", self.name),
            _ => format!("UPDATE SET {column} = excluded.{column}, s = upper(excluded.s)"),
        };
        let action = match column.as_str() {
            // a column is assigned once
            "s" => action.replace(", s = upper(excluded.s)", ""),
            _ => action,
        };
        change.rows = rows;
        change.tail = format!(" ON CONFLICT (id) DO {action}");
        change.has_duplicates = true;
        change.retracts = true;
        change
    }

    /// An UPDATE of rows that meet rows of another table, one or several.
    fn update_from(&self, other: &Table, random: &mut Random) -> Change {
        let (name, other) = (&self.name, &other.name);
        let sql = match random.random_bool(0.5) {
            true => format!(
                "UPDATE {name} SET a = o.n FROM (SELECT a AS k, count(*) AS n FROM {other} GROUP BY a) AS o
                 WHERE {name}.a = o.k"
            ),
            false => format!(
                "UPDATE {name} SET s = {} FROM {other} AS o WHERE {name}.a = o.a AND o.a > {}",
                known_literal(Type::Text, random),
                known_literal(Type::Int, random)
            ),
        };
        Change {
            head: sql,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: true,
            retracts: true,
        }
    }

    fn delete_using(&self, other: &Table, random: &mut Random) -> Change {
        let sql = format!(
            "DELETE FROM {0} USING {1} AS o WHERE {0}.a = o.a AND o.s > {2}",
            self.name,
            other.name,
            known_literal(Type::Text, random)
        );
        Change {
            head: sql,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: false,
            retracts: true,
        }
    }

    fn truncate(&self) -> Change {
        Change {
            head: format!("TRUNCATE {}", self.name),
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: false,
            retracts: true,
        }
    }

    fn settable(&self, random: &mut Random) -> &Column {
        let settable: Vec<&Column> = self.columns.iter().filter(|c| c.name != "id").collect();
        settable
            .choose(random)
            .expect("a, s and ts are always there")
    }

    fn insert_select(&mut self, random: &mut Random) -> Change {
        let columns: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let mut values: Vec<String> = columns.iter().map(|c| c.to_string()).collect();
        if self.has_key {
            values[0] = format!("id + {}", self.next_id);
            self.next_id *= 2;
            if self.next_id > 10_000 {
                return self.insert(random);
            }
        }
        let (columns, values) = (columns.join(", "), values.join(", "));
        let condition = predicate(&self.columns, 1, random);
        let sql = format!(
            "INSERT INTO {0} ({columns}) SELECT {values} FROM {0} WHERE {condition}",
            self.name
        );
        Change {
            head: sql,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: true,
            retracts: false,
        }
    }

    fn update(&self, random: &mut Random) -> Change {
        let column = self.settable(random);
        let value = match column.ty {
            Type::Int | Type::Big if random.random_bool(0.5) => format!("{} + 1", column.name),
            Type::Text if random.random_bool(0.3) => format!("upper({})", column.name),
            ty => literal(ty, random),
        };
        let has_nulls = value == "NULL";
        let condition = predicate(&self.columns, 1, random);
        let sql = format!(
            "UPDATE {} SET {} = {value} WHERE {condition}",
            self.name, column.name
        );
        Change {
            head: sql,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls,
            has_duplicates: false,
            retracts: true,
        }
    }

    fn delete(&self, random: &mut Random) -> Change {
        let sql = match random.random_bool(0.1) {
            true => format!("DELETE FROM {}", self.name),
            false => format!(
                "DELETE FROM {} WHERE {}",
                self.name,
                predicate(&self.columns, 1, random)
            ),
        };
        Change {
            head: sql,
            rows: Vec::new(),
            tail: String::new(),
            has_nulls: false,
            has_duplicates: false,
            retracts: true,
        }
    }
}

/// A literal of a type, NULL one time in five.
pub fn literal(ty: Type, random: &mut Random) -> String {
    if random.random_bool(0.2) {
        return "NULL".into();
    }
    known_literal(ty, random)
}

/// A literal of a type that is not NULL.
pub fn known_literal(ty: Type, random: &mut Random) -> String {
    match ty {
        Type::Int | Type::Big => random.random_range(-4..=9).to_string(),
        Type::Float => format!(
            "{}::double precision",
            f64::from(random.random_range(-10..=10)) / 4.0
        ),
        Type::Numeric => format!(
            "{}::numeric(10,2)",
            f64::from(random.random_range(-10..=10)) / 4.0
        ),
        Type::Text => format!(
            "'{}'",
            ["", "a", "b", "B", "ab", "été", "o''c", "%"]
                .choose(random)
                .unwrap_or(&"")
        ),
        Type::Bool => random.random_bool(0.5).to_string(),
        Type::Time => {
            let second = random.random_range(0..180);
            format!(
                "TIMESTAMP '2024-01-01 00:{:02}:{:02}'",
                second / 60,
                second % 60
            )
        }
        Type::Opaque => "NULL".into(),
    }
}
