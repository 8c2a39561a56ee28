//! PostgreSQL's types as the protocol names them: OIDs, sizes and modifiers, and which of them an Arrow field is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use rivermark_planner::types::PG_TYPE_KEY;

/// `ARRAY` types beyond this depth do not exist in PostgreSQL (MAXDIM).
pub const MAX_ARRAY_DIMENSIONS: usize = 6;

/// A type on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgType {
    Bool,
    Bytea,
    /// The one-byte type `"char"` of the catalogs.
    Char,
    Name,
    Int8,
    Int2,
    Int2Vector,
    Int4,
    Regproc,
    Text,
    Oid,
    Xid,
    OidVector,
    Json,
    NodeTree,
    Float4,
    Float8,
    Bpchar,
    Varchar,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    /// `precision` and `scale` as declared; `None` for plain `numeric`.
    Numeric {
        declared: Option<(u8, i8)>,
    },
    Regprocedure,
    Regclass,
    Regtype,
    Regnamespace,
    Uuid,
    Jsonb,
    Record(Vec<PgType>),
    Array(Box<PgType>),
}

/// Name, OID, OID of the array type, size in bytes (-1: varies).
struct Entry(&'static str, u32, u32, i16);

impl PgType {
    fn entry(&self) -> Entry {
        match self {
            PgType::Bool => Entry("bool", 16, 1000, 1),
            PgType::Bytea => Entry("bytea", 17, 1001, -1),
            PgType::Char => Entry("char", 18, 1002, 1),
            PgType::Name => Entry("name", 19, 1003, 64),
            PgType::Int8 => Entry("int8", 20, 1016, 8),
            PgType::Int2 => Entry("int2", 21, 1005, 2),
            PgType::Int2Vector => Entry("int2vector", 22, 1006, -1),
            PgType::Int4 => Entry("int4", 23, 1007, 4),
            PgType::Regproc => Entry("regproc", 24, 1008, 4),
            PgType::Text => Entry("text", 25, 1009, -1),
            PgType::Oid => Entry("oid", 26, 1028, 4),
            PgType::Xid => Entry("xid", 28, 1011, 4),
            PgType::OidVector => Entry("oidvector", 30, 1013, -1),
            PgType::Json => Entry("json", 114, 199, -1),
            PgType::NodeTree => Entry("pg_node_tree", 194, 1009, -1),
            PgType::Float4 => Entry("float4", 700, 1021, 4),
            PgType::Float8 => Entry("float8", 701, 1022, 8),
            PgType::Bpchar => Entry("bpchar", 1042, 1014, -1),
            PgType::Varchar => Entry("varchar", 1043, 1015, -1),
            PgType::Date => Entry("date", 1082, 1182, 4),
            PgType::Time => Entry("time", 1083, 1183, 8),
            PgType::Timestamp => Entry("timestamp", 1114, 1115, 8),
            PgType::Timestamptz => Entry("timestamptz", 1184, 1185, 8),
            PgType::Interval => Entry("interval", 1186, 1187, 16),
            PgType::Numeric { .. } => Entry("numeric", 1700, 1231, -1),
            PgType::Regprocedure => Entry("regprocedure", 2202, 2207, 4),
            PgType::Regclass => Entry("regclass", 2205, 2210, 4),
            PgType::Regtype => Entry("regtype", 2206, 2211, 4),
            PgType::Regnamespace => Entry("regnamespace", 4089, 4090, 4),
            PgType::Record(_) => Entry("record", 2249, 2287, -1),
            PgType::Uuid => Entry("uuid", 2950, 2951, 16),
            PgType::Jsonb => Entry("jsonb", 3802, 3807, -1),
            PgType::Array(element) => {
                let array_oid = element.entry().2;
                Entry("array", array_oid, array_oid, -1)
            }
        }
    }

    /// All types that have an OID of their own, without arrays and records.
    fn scalars() -> [PgType; 31] {
        [
            PgType::Bool,
            PgType::Bytea,
            PgType::Char,
            PgType::Name,
            PgType::Int8,
            PgType::Int2,
            PgType::Int2Vector,
            PgType::Int4,
            PgType::Regproc,
            PgType::Text,
            PgType::Oid,
            PgType::Xid,
            PgType::OidVector,
            PgType::Json,
            PgType::NodeTree,
            PgType::Float4,
            PgType::Float8,
            PgType::Bpchar,
            PgType::Varchar,
            PgType::Date,
            PgType::Time,
            PgType::Timestamp,
            PgType::Timestamptz,
            PgType::Interval,
            PgType::Numeric { declared: None },
            PgType::Regprocedure,
            PgType::Regclass,
            PgType::Regtype,
            PgType::Regnamespace,
            PgType::Uuid,
            PgType::Jsonb,
        ]
    }

    /// The type's OID in `pg_type`.
    pub fn oid(&self) -> u32 {
        self.entry().1
    }

    /// `typlen`: bytes of a fixed-size type, -1 for one that varies.
    pub fn size(&self) -> i16 {
        self.entry().3
    }

    /// `atttypmod`: only `numeric(p, s)` has one here.
    pub fn modifier(&self) -> i32 {
        match self {
            PgType::Numeric {
                declared: Some((precision, scale)),
            } => ((i32::from(*precision) << 16) | i32::from(*scale)) + 4,
            _ => -1,
        }
    }

    /// The type with this OID, if Rivermark knows it.
    pub fn from_oid(oid: u32) -> Option<PgType> {
        PgType::scalars().into_iter().find_map(|t| {
            let Entry(_, own, array, _) = t.entry();
            if own == oid {
                Some(t)
            } else if array == oid && t != PgType::NodeTree {
                Some(PgType::Array(Box::new(t)))
            } else {
                None
            }
        })
    }

    /// The type with this `typname`.
    pub fn from_name(name: &str) -> Option<PgType> {
        PgType::scalars().into_iter().find(|t| t.entry().0 == name)
    }

    /// The type's `typname`; arrays have an underscore before their element's.
    pub fn name(&self) -> String {
        match self {
            PgType::Array(element) => format!("_{}", element.name()),
            other => other.entry().0.to_string(),
        }
    }

    /// The wire type of a result column.
    pub fn of_field(field: &Field) -> PgType {
        let plain = PgType::of_arrow(field.data_type());
        let tagged = field
            .metadata()
            .get(PG_TYPE_KEY)
            .and_then(|name| PgType::from_name(name));
        match tagged {
            Some(tagged) if tagged.can_be_stored_as(&plain) => tagged,
            _ => plain,
        }
    }

    /// Whether values of this type may be held in a column that without its tag would be `plain`.
    fn can_be_stored_as(&self, plain: &PgType) -> bool {
        let is_text = *plain == PgType::Text;
        let is_integer = matches!(plain, PgType::Int2 | PgType::Int4 | PgType::Int8);
        match self {
            PgType::Text
            | PgType::Name
            | PgType::Bpchar
            | PgType::Varchar
            | PgType::Json
            | PgType::NodeTree => is_text,
            PgType::Jsonb => is_text,
            PgType::Uuid => is_text || *plain == PgType::Bytea,
            PgType::Char => is_text || *plain == PgType::Int2,
            PgType::Int2Vector | PgType::OidVector => is_text || matches!(plain, PgType::Array(_)),
            other if other.is_oid_like() => is_text || is_integer,
            _ => false,
        }
    }

    /// Types whose binary form is an unsigned 4-byte number.
    pub fn is_oid_like(&self) -> bool {
        matches!(
            self,
            PgType::Oid
                | PgType::Xid
                | PgType::Regproc
                | PgType::Regprocedure
                | PgType::Regclass
                | PgType::Regtype
                | PgType::Regnamespace
        )
    }

    fn of_arrow(data_type: &DataType) -> PgType {
        match data_type {
            DataType::Boolean => PgType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => PgType::Int2,
            DataType::Int32 | DataType::UInt16 => PgType::Int4,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => PgType::Int8,
            DataType::Float16 | DataType::Float32 => PgType::Float4,
            DataType::Float64 => PgType::Float8,
            // NUMERIC(38, 10) is how plain `numeric` is stored.
            DataType::Decimal128(38, 10) => PgType::Numeric { declared: None },
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                let declared = (*scale >= 0).then_some((*precision, *scale));
                PgType::Numeric { declared }
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => PgType::Bytea,
            DataType::Date32 | DataType::Date64 => PgType::Date,
            DataType::Time32(_) | DataType::Time64(_) => PgType::Time,
            DataType::Timestamp(_, None) => PgType::Timestamp,
            DataType::Timestamp(_, Some(_)) => PgType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => PgType::Interval,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _)
            | DataType::ListView(element)
            | DataType::LargeListView(element) => match PgType::of_field(element) {
                // Dimensions are no part of an array's type.
                PgType::Array(innermost) => PgType::Array(innermost),
                element => PgType::Array(Box::new(element)),
            },
            DataType::Struct(fields) => {
                PgType::Record(fields.iter().map(|f| PgType::of_field(f)).collect())
            }
            DataType::Dictionary(_, values) => PgType::of_arrow(values),
            DataType::RunEndEncoded(_, values) => PgType::of_field(values),
            DataType::Null
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Map(_, _)
            | DataType::Union(_, _) => PgType::Text,
        }
    }

    /// The Arrow type in which a parameter of this type is decoded, `None` where parameters can not have it.
    pub fn parameter_type(&self) -> Option<DataType> {
        Some(match self {
            PgType::Bool => DataType::Boolean,
            PgType::Bytea => DataType::Binary,
            PgType::Int2 => DataType::Int16,
            PgType::Int4 => DataType::Int32,
            PgType::Int8 | PgType::Oid | PgType::Xid => DataType::Int64,
            PgType::Float4 => DataType::Float32,
            PgType::Float8 => DataType::Float64,
            PgType::Date => DataType::Date32,
            PgType::Time => DataType::Time64(TimeUnit::Microsecond),
            PgType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            PgType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            PgType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            PgType::Numeric { declared } => {
                let (precision, scale) = declared.unwrap_or((38, 10));
                if precision <= 38 {
                    DataType::Decimal128(precision, scale)
                } else {
                    DataType::Decimal256(precision, scale)
                }
            }
            PgType::Text
            | PgType::Char
            | PgType::Name
            | PgType::Bpchar
            | PgType::Varchar
            | PgType::Json
            | PgType::Jsonb
            | PgType::Uuid
            | PgType::NodeTree => DataType::Utf8,
            PgType::Regproc
            | PgType::Regprocedure
            | PgType::Regclass
            | PgType::Regtype
            | PgType::Regnamespace => DataType::Utf8,
            PgType::Array(element) => DataType::List(Arc::new(Field::new(
                "item",
                element.parameter_type()?,
                true,
            ))),
            PgType::Int2Vector | PgType::OidVector | PgType::Record(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn tagged(data_type: DataType, tag: &str) -> Field {
        Field::new("c", data_type, true)
            .with_metadata(HashMap::from([(PG_TYPE_KEY.to_string(), tag.to_string())]))
    }

    #[test]
    fn fields_have_the_oid_of_their_tag_where_the_storage_fits() {
        let list = |item: Field| DataType::List(Arc::new(item));
        let cases = [
            (Field::new("c", DataType::UInt64, true), 20),
            (Field::new("c", DataType::Utf8View, true), 25),
            (Field::new("c", DataType::Null, true), 25),
            (tagged(DataType::Utf8, "uuid"), 2950),
            (tagged(DataType::Utf8, "jsonb"), 3802),
            (tagged(DataType::Int64, "oid"), 26),
            (tagged(DataType::Utf8, "regclass"), 2205),
            (tagged(DataType::Float64, "oid"), 701),
            (tagged(DataType::Utf8, "no such type"), 25),
            (
                Field::new("c", list(Field::new("item", DataType::Int32, true)), true),
                1007,
            ),
            (
                Field::new("c", list(tagged(DataType::Utf8, "uuid")), true),
                2951,
            ),
            (
                Field::new(
                    "c",
                    list(Field::new(
                        "i",
                        list(Field::new("i", DataType::Utf8, true)),
                        true,
                    )),
                    true,
                ),
                1009,
            ),
        ];
        for (field, oid) in cases {
            assert_eq!(PgType::of_field(&field).oid(), oid, "{field:?}");
        }
    }

    #[test]
    fn oids_lead_back_to_their_types() {
        for t in PgType::scalars() {
            assert_eq!(PgType::from_oid(t.oid()), Some(t.clone()));
            assert_eq!(PgType::from_name(&t.name()), Some(t));
        }
        assert_eq!(
            PgType::from_oid(1009),
            Some(PgType::Array(Box::new(PgType::Text)))
        );
        assert_eq!(PgType::from_oid(0), None);
        let numeric = PgType::of_field(&Field::new("c", DataType::Decimal128(10, 2), true));
        assert_eq!(numeric.modifier(), 655_366);
    }
}
