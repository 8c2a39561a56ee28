//! Object identifiers as PostgreSQL clients know them: derived from our ids, so that they never change.
//!
//! An object has eight of them, from `FIRST + 8 * id`: the relation, its row type, the array of that, the index of
//! its primary key and that constraint. What is numbered within an object (defaults, checks) has ranges of its own.

use rivermark_planner::catalog::{Catalog, Object, ObjectId};
use rivermark_planner::types::SqlType;

/// PostgreSQL's first oid of a user's object.
const FIRST: i64 = 16_384;
const DEFAULTS: i64 = 0x2000_0000;
const CHECKS: i64 = 0x3000_0000;
const SCHEMAS: i64 = 0x4000_0000;

pub const PG_CATALOG: i64 = 11;
pub const PUBLIC: i64 = 2200;
pub const INFORMATION_SCHEMA: i64 = 13_000;
pub const RIVERMARK: i64 = 13_001;
/// System relations that have no oid of their own in PostgreSQL's sources.
pub const SYSTEM_RELATIONS: i64 = 12_000;
/// The one role.
pub const OWNER: i64 = 10;
/// The one database.
pub const DATABASE: i64 = 5;
/// The foreign-data wrapper and server that sources are shown under.
pub const SOURCE_WRAPPER: i64 = 13_100;
pub const SOURCE_SERVER: i64 = 13_101;

pub fn relation(id: ObjectId) -> i64 {
    FIRST + 8 * i64::from(id.0)
}

pub fn row_type(id: ObjectId) -> i64 {
    relation(id) + 1
}

pub fn key_index(id: ObjectId) -> i64 {
    relation(id) + 3
}

pub fn key_constraint(id: ObjectId) -> i64 {
    relation(id) + 4
}

pub fn rule(id: ObjectId) -> i64 {
    relation(id) + 5
}

/// The DEFAULT or generation expression of a column (`attribute` counts from 1).
pub fn default(id: ObjectId, attribute: usize) -> i64 {
    DEFAULTS + 2048 * i64::from(id.0) + attribute as i64
}

pub fn check(id: ObjectId, index: usize) -> i64 {
    CHECKS + 256 * i64::from(id.0) + index as i64
}

/// The object whose relation oid this is.
pub fn object(catalog: &Catalog, oid: i64) -> Option<&Object> {
    let offset = oid.checked_sub(FIRST).filter(|o| *o >= 0 && o % 8 == 0)?;
    let id = u32::try_from(offset / 8).ok()?;
    catalog.get(ObjectId(id)).map(|o| o.as_ref())
}

/// The object whose primary-key index or constraint this is.
pub fn keyed_object(catalog: &Catalog, oid: i64) -> Option<&Object> {
    let within = oid.checked_sub(FIRST).filter(|o| *o >= 0)? % 8;
    matches!(within, 3 | 4)
        .then(|| object(catalog, oid - within))
        .flatten()
}

/// The check constraint (its object and index) of this oid.
pub fn check_of(catalog: &Catalog, oid: i64) -> Option<(&Object, usize)> {
    let offset = oid
        .checked_sub(CHECKS)
        .filter(|o| (0..SCHEMAS - CHECKS).contains(o))?;
    let id = u32::try_from(offset / 256).ok()?;
    let object = catalog.get(ObjectId(id))?;
    Some((object.as_ref(), usize::try_from(offset % 256).ok()?))
}

/// The oid of a schema: PostgreSQL's own, or a hash of the name.
pub fn schema(name: &str) -> i64 {
    match name {
        "pg_catalog" => PG_CATALOG,
        "public" => PUBLIC,
        "information_schema" => INFORMATION_SCHEMA,
        "rivermark" => RIVERMARK,
        other => {
            // FNV-1a, 30 bits of it
            let hash = other.bytes().fold(0x811c_9dc5_u32, |h, b| {
                (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
            });
            SCHEMAS + i64::from(hash & 0x3fff_ffff)
        }
    }
}

/// Type oid, length in bytes (-1: variable), alignment, storage and type modifier of a column type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeFacts {
    pub oid: i64,
    pub length: i64,
    pub by_value: bool,
    pub align: &'static str,
    pub storage: &'static str,
    pub modifier: i64,
    /// `pg_type.typname`.
    pub name: &'static str,
}

/// What pg_attribute says of a type.
pub fn type_facts(data_type: &SqlType) -> TypeFacts {
    let facts = |oid, length, align, name| TypeFacts {
        oid,
        length,
        by_value: (0..=8).contains(&length),
        align,
        storage: if length < 0 { "x" } else { "p" },
        modifier: -1,
        name,
    };
    match data_type {
        SqlType::Boolean => facts(16, 1, "c", "bool"),
        SqlType::SmallInt => facts(21, 2, "s", "int2"),
        SqlType::Integer => facts(23, 4, "i", "int4"),
        SqlType::BigInt => facts(20, 8, "d", "int8"),
        SqlType::Real => facts(700, 4, "i", "float4"),
        SqlType::Double => facts(701, 8, "d", "float8"),
        SqlType::Numeric { precision, scale } => {
            let plain = (*precision, *scale) == (38, 10);
            let modifier = if plain {
                -1
            } else {
                (i64::from(*precision) << 16) + i64::from(*scale) + 4
            };
            TypeFacts {
                modifier,
                storage: "m",
                ..facts(1700, -1, "i", "numeric")
            }
        }
        SqlType::Text { max_length: None } => facts(25, -1, "i", "text"),
        SqlType::Text {
            max_length: Some(n),
        } => TypeFacts {
            modifier: i64::from(*n) + 4,
            ..facts(1043, -1, "i", "varchar")
        },
        SqlType::Bytea => facts(17, -1, "i", "bytea"),
        SqlType::Date => facts(1082, 4, "i", "date"),
        SqlType::Time => facts(1083, 8, "d", "time"),
        SqlType::Timestamp => facts(1114, 8, "d", "timestamp"),
        SqlType::Timestamptz => facts(1184, 8, "d", "timestamptz"),
        SqlType::Interval => facts(1186, 16, "d", "interval"),
        SqlType::Uuid => facts(2950, 16, "c", "uuid"),
        SqlType::Json => facts(114, -1, "i", "json"),
        SqlType::Jsonb => facts(3802, -1, "i", "jsonb"),
        SqlType::Struct(_) => facts(2249, -1, "d", "record"),
        SqlType::Array(element) => array_facts(element),
    }
}

fn array_facts(element: &SqlType) -> TypeFacts {
    let inner = type_facts(element);
    let (oid, name) = match inner.oid {
        16 => (1000, "_bool"),
        21 => (1005, "_int2"),
        23 => (1007, "_int4"),
        20 => (1016, "_int8"),
        700 => (1021, "_float4"),
        701 => (1022, "_float8"),
        1700 => (1231, "_numeric"),
        25 => (1009, "_text"),
        1043 => (1015, "_varchar"),
        17 => (1001, "_bytea"),
        1082 => (1182, "_date"),
        1083 => (1183, "_time"),
        1114 => (1115, "_timestamp"),
        1184 => (1185, "_timestamptz"),
        1186 => (1187, "_interval"),
        2950 => (2951, "_uuid"),
        114 => (199, "_json"),
        3802 => (3807, "_jsonb"),
        2249 => (2287, "_record"),
        // an array of arrays has the inner array's type, as in PostgreSQL
        _ => (inner.oid, inner.name),
    };
    TypeFacts {
        oid,
        length: -1,
        by_value: false,
        align: "i",
        storage: "x",
        modifier: inner.modifier,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_modifiers_are_postgres_own() {
        let numeric = type_facts(&SqlType::Numeric {
            precision: 10,
            scale: 2,
        });
        assert_eq!((numeric.oid, numeric.modifier), (1700, 655_366));
        assert_eq!(
            type_facts(&SqlType::Text {
                max_length: Some(30)
            })
            .modifier,
            34
        );
        assert_eq!(
            type_facts(&SqlType::Array(Box::new(SqlType::Integer))).oid,
            1007
        );
    }

    #[test]
    fn schemas_keep_their_oid_and_ranges_stay_apart() {
        assert_eq!(schema("public"), 2200);
        assert_eq!(schema("sales"), schema("sales"));
        assert_ne!(schema("sales"), schema("stock"));
        assert!(schema("sales") >= SCHEMAS && schema("sales") <= i64::from(i32::MAX));
        assert!(relation(ObjectId(1 << 20)) < DEFAULTS);
    }
}
