//! Random tables, and the values that they hold.

use rand::Rng;
use rand::seq::IndexedRandom;

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

/// The columns that a table may have besides its key.
const COLUMNS: [(&str, Type, &str); 15] = [
    ("a", Type::Int, "INT"),
    ("b", Type::Big, "BIGINT"),
    ("c", Type::Float, "DOUBLE PRECISION"),
    ("d", Type::Numeric, "NUMERIC(10,2)"),
    ("s", Type::Text, "TEXT"),
    ("f", Type::Bool, "BOOLEAN"),
    ("ts", Type::Time, "TIMESTAMP"),
    ("r", Type::Real, "REAL"),
    ("dt", Type::Date, "DATE"),
    ("tz", Type::Zoned, "TIMESTAMPTZ"),
    ("iv", Type::Span, "INTERVAL"),
    ("u", Type::Uuid, "UUID"),
    ("by", Type::Bytes, "BYTEA"),
    ("arr", Type::Ints, "INT[]"),
    ("j", Type::Json, "JSONB"),
];
/// The first columns are met more often than the others.
const USUAL_COLUMNS: usize = 7;

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
        for (i, (name, ty, _)) in COLUMNS.into_iter().enumerate() {
            let probability = if i < USUAL_COLUMNS { 0.7 } else { 0.25 };
            if matches!(name, "a" | "s" | "ts") || random.random_bool(probability) {
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

    /// A key that no row has yet.
    pub(super) fn take_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
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
    let one = |texts: &[&str], random: &mut Random| texts.choose(random).unwrap_or(&"").to_string();
    let quarters = |random: &mut Random| f64::from(random.random_range(-4..=6)) / 4.0;
    match ty {
        Type::Int | Type::Big => random.random_range(-2..=5).to_string(),
        Type::Float => format!("{}::double precision", quarters(random)),
        Type::Real => format!("{}::real", quarters(random)),
        Type::Numeric => format!("{}::numeric(10,2)", quarters(random)),
        Type::Text => {
            let text = one(&["", "a", "b", "B", "ab", "été", "o''c", "%"], random);
            format!("'{text}'")
        }
        Type::Bool => random.random_bool(0.5).to_string(),
        Type::Time => format!("TIMESTAMP '{}'", moment(random)),
        Type::Zoned => format!("TIMESTAMPTZ '{}+00'", moment(random)),
        Type::Date => format!("DATE '2024-02-{:02}'", random.random_range(26..=29)),
        Type::Span => format!("INTERVAL '{} seconds'", random.random_range(-3..=6) * 15),
        Type::Uuid => format!(
            "UUID '00000000-0000-4000-8000-00000000000{}'",
            random.random_range(0..6)
        ),
        Type::Bytes => {
            let digits = one(&["", "00", "61", "6162", "ff", "00ff"], random);
            format!("'\\x{digits}'::bytea")
        }
        Type::Ints => {
            let items = one(&["", "1", "1,2", "2,1", "NULL", "1,NULL,3"], random);
            format!("'{{{items}}}'::int[]")
        }
        Type::Json => {
            let json = one(
                &[
                    r#"{"a": 1}"#,
                    r#"{"a": 2, "b": "x"}"#,
                    "[1, 2]",
                    r#""x""#,
                    "null",
                    "7",
                    "{}",
                ],
                random,
            );
            format!("'{json}'::jsonb")
        }
        Type::Opaque => "NULL".into(),
    }
}

fn moment(random: &mut Random) -> String {
    let second = random.random_range(0..18) * 10;
    format!("2024-01-01 00:{:02}:{:02}", second / 60, second % 60)
}
