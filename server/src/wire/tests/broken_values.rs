//! Parameters that are no value of their type.

use super::value_check::unhex;
use crate::sqlstate::SqlState;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;
use crate::wire::{decode_binary, decode_text};

#[test]
fn broken_text_is_refused_with_its_state() {
    let array = |element: PgType| PgType::Array(Box::new(element));
    for (pg_type, text, state) in [
        (PgType::Int4, "x", SqlState::InvalidTextRepresentation),
        (PgType::Int4, "2147483648", SqlState::NumericValueOutOfRange),
        (PgType::Bool, "maybe", SqlState::InvalidTextRepresentation),
        (PgType::Bool, "o", SqlState::InvalidTextRepresentation),
        (
            PgType::Numeric { declared: None },
            "1.2.3",
            SqlState::InvalidTextRepresentation,
        ),
        (
            PgType::Numeric { declared: None },
            "1e99999999",
            SqlState::InvalidTextRepresentation,
        ),
        (PgType::Date, "2026-02-30", SqlState::DatetimeFieldOverflow),
        (
            PgType::Timestamp,
            "yesterday-ish",
            SqlState::InvalidDatetimeFormat,
        ),
        (
            PgType::Timestamptz,
            "2026-01-01 00:00 Mars/Olympus",
            SqlState::InvalidParameterValue,
        ),
        (PgType::Time, "25:00", SqlState::DatetimeFieldOverflow),
        (
            PgType::Interval,
            "1 fortnight",
            SqlState::InvalidDatetimeFormat,
        ),
        (
            PgType::Interval,
            "3000000000 months",
            SqlState::IntervalFieldOverflow,
        ),
        (
            PgType::Uuid,
            "6e47bc22",
            SqlState::InvalidTextRepresentation,
        ),
        (PgType::Json, "{", SqlState::InvalidTextRepresentation),
        (PgType::Bytea, "\\x0", SqlState::InvalidParameterValue),
        (
            array(PgType::Int4),
            "{1,2",
            SqlState::InvalidTextRepresentation,
        ),
        (
            array(PgType::Int4),
            "{1,}",
            SqlState::InvalidTextRepresentation,
        ),
        (
            array(PgType::Int4),
            "{1}x",
            SqlState::InvalidTextRepresentation,
        ),
    ] {
        let error = decode_text::parse(&pg_type, text, &SessionTimeZone::UTC).unwrap_err();
        assert_eq!(error.state, state, "{text}");
    }
}

#[test]
fn broken_binary_is_refused() {
    let array = |element: PgType| PgType::Array(Box::new(element));
    for (pg_type, binary) in [
        (PgType::Int4, "00000001ff"),
        (PgType::Int8, "00000001"),
        (PgType::Numeric { declared: None }, "00020000000000000001"),
        (PgType::Numeric { declared: None }, "0001000000000000ffff"),
        (PgType::Jsonb, "027b7d"),
        (PgType::Uuid, "6e47"),
        (array(PgType::Int4), "000000010000000000000017"),
        (
            array(PgType::Int4),
            "0000000100000000000000177fffffff00000001",
        ),
        (
            array(PgType::Int4),
            "0000000200000000000000177fffffff000000017fffffff00000001",
        ),
    ] {
        let error = decode_binary::parse(&pg_type, &unhex(binary)).unwrap_err();
        assert_eq!(
            error.state,
            SqlState::InvalidBinaryRepresentation,
            "{binary}"
        );
    }
    let invalid = decode_binary::parse(&PgType::Text, b"a\xff").unwrap_err();
    assert_eq!(invalid.state, SqlState::CharacterNotInRepertoire);
}
