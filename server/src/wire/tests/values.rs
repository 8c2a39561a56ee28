//! Scalar values, in text and binary, against PostgreSQL 15's own.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, i256};
use datafusion::scalar::ScalarValue;

use super::value_check::{check, encode, tagged, unhex};
use crate::wire::decode_text;
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;

#[test]
fn numbers() {
    for (value, text, binary) in [
        (1e20, "1e+20", "4415af1d78b58c40"),
        (1e15, "1e+15", "430c6bf526340000"),
        (999999999999999.0, "999999999999999", "430c6bf52633fff8"),
        (
            123456789012345678.0,
            "1.2345678901234568e+17",
            "437b69b4ba630f35",
        ),
        (0.0001, "0.0001", "3f1a36e2eb1c432d"),
        (0.00001, "1e-05", "3ee4f8b588e368f1"),
        (-0.0, "-0", "8000000000000000"),
        (0.0, "0", "0000000000000000"),
        (f64::INFINITY, "Infinity", "7ff0000000000000"),
        (f64::NEG_INFINITY, "-Infinity", "fff0000000000000"),
        (f64::NAN, "NaN", "7ff8000000000000"),
        (1.5, "1.5", "3ff8000000000000"),
        (1e100, "1e+100", "54b249ad2594c37d"),
        (5e-324, "5e-324", "0000000000000001"),
        (f64::MAX, "1.7976931348623157e+308", "7fefffffffffffff"),
        (100000.0, "100000", "40f86a0000000000"),
        (-123.456, "-123.456", "c05edd2f1a9fbe77"),
    ] {
        check(ScalarValue::Float64(Some(value)), "", text, binary);
    }
    for (value, text, binary) in [
        (1e20f32, "1e+20", "60ad78ec"),
        (1e6, "1e+06", "49742400"),
        (999999.0, "999999", "497423f0"),
        (1234567.0, "1.234567e+06", "4996b438"),
        (0.0001, "0.0001", "38d1b717"),
        (0.00001, "1e-05", "3727c5ac"),
        (-0.0, "-0", "80000000"),
        (f32::MAX, "3.4028235e+38", "7f7fffff"),
        (1e-45, "1e-45", "00000001"),
    ] {
        check(ScalarValue::Float32(Some(value)), "", text, binary);
    }
    check(ScalarValue::Boolean(Some(true)), "", "t", "01");
    check(ScalarValue::Boolean(Some(false)), "", "f", "00");
    check(ScalarValue::Int16(Some(-2)), "", "-2", "fffe");
    check(
        ScalarValue::Int32(Some(i32::MIN)),
        "",
        "-2147483648",
        "80000000",
    );
    check(
        ScalarValue::Int64(Some(i64::MIN)),
        "",
        "-9223372036854775808",
        "8000000000000000",
    );
    check(ScalarValue::Int64(Some(26)), "oid", "26", "0000001a");
    check(ScalarValue::Int32(Some(26)), "regclass", "26", "0000001a");
    check(
        ScalarValue::Utf8(Some("26".into())),
        "oid",
        "26",
        "0000001a",
    );
}

#[test]
fn numerics() {
    for (value, scale, text, binary) in [
        (0, 0, "0", "0000000000000000"),
        (0, 2, "0.00", "0000000000000002"),
        (1, 0, "1", "00010000000000000001"),
        (-15, 1, "-1.5", "000200004000000100011388"),
        (
            12345678900,
            6,
            "12345.678900",
            "0003000100000006000109291a85",
        ),
        (1, 4, "0.0001", "0001ffff000000040001"),
        (1, 5, "0.00001", "0001fffe0000000503e8"),
        (10000, 0, "10000", "00010001000000000001"),
        (100000000, 0, "100000000", "00010002000000000001"),
        (
            999999999999,
            4,
            "99999999.9999",
            "0003000100000004270f270f270f",
        ),
        (-5, 1, "-0.5", "0001ffff400000011388"),
        (
            123456789012345678901234567890123,
            3,
            "123456789012345678901234567890.123",
            "0009000700000003000c0d801ed204d2162e23340d801ed204ce",
        ),
        (120, 5, "0.00120", "0001ffff00000005000c"),
    ] {
        check(
            ScalarValue::Decimal128(Some(value), 38, scale),
            "",
            text,
            binary,
        );
        let wide = i256::from_i128(value);
        check(
            ScalarValue::Decimal256(Some(wide), 76, scale),
            "",
            text,
            binary,
        );
    }
    let rounded = encode(
        &tagged(DataType::Decimal128(5, -2), ""),
        &ScalarValue::Decimal128(Some(-12), 5, -2)
            .to_array()
            .unwrap(),
        &SessionTimeZone::UTC,
    );
    assert_eq!(rounded, ("-1200".into(), "000100004000000004b0".into()));
}

#[test]
fn dates_and_times() {
    let us = |text: &str| {
        ScalarValue::TimestampMicrosecond(
            Some(rivermark_planner::pg_text::datetime_input::parse_timestamp(text).unwrap()),
            None,
        )
    };
    for (text, binary) in [
        ("2026-01-01 00:00:00", "0002ea470ae86000"),
        ("2026-01-01 12:34:56.5", "0002ea5196ca1d20"),
        ("1999-12-31 23:59:59.999999", "ffffffffffffffff"),
        ("0044-03-15 00:00:00 BC", "ff1af9deec5b2000"),
        ("12345-01-02 03:04:05.000001", "0487ceb9b72b7341"),
        ("0001-01-01 00:00:00", "ff1fe2ffc59c6000"),
        ("1970-01-01 00:00:00", "fffca2fec4c82000"),
        ("294246-12-31 23:59:59", "7ffca2465a941dc0"),
    ] {
        check(us(text), "", text, binary);
    }
    for (days, text, binary) in [
        (20454, "2026-01-01", "00002519"),
        (-735160, "0044-03-15 BC", "fff49d7b"),
        (3789392, "12345-01-02", "0039a783"),
        (0, "1970-01-01", "ffffd533"),
    ] {
        check(ScalarValue::Date32(Some(days)), "", text, binary);
    }
    for (us, text, binary) in [
        (0, "00:00:00", "0000000000000000"),
        (45_296_500_000, "12:34:56.5", "0000000a8be1bd20"),
        (86_399_999_999, "23:59:59.999999", "000000141dd75fff"),
        (86_400_000_000, "24:00:00", "000000141dd76000"),
    ] {
        check(ScalarValue::Time64Microsecond(Some(us)), "", text, binary);
    }
    for (text, binary) in [
        ("2026-01-01 00:00:00+00", "0002ea470ae86000"),
        ("2026-07-01 12:00:00.25+00", "0002f88a331ec090"),
    ] {
        let ScalarValue::TimestampMicrosecond(value, _) = us(text) else {
            unreachable!()
        };
        check(
            ScalarValue::TimestampMicrosecond(value, Some("+02:00".into())),
            "",
            text,
            binary,
        );
    }
}

#[test]
fn moments_are_shown_and_read_in_the_session_zone() {
    for (zone, moment, shown) in [
        (
            "Asia/Kolkata",
            "2026-01-01 00:00:00+00",
            "2026-01-01 05:30:00+05:30",
        ),
        (
            "Asia/Kolkata",
            "1800-01-01 00:00:00Z",
            "1800-01-01 05:53:28+05:53:28",
        ),
        (
            "Asia/Kolkata",
            "0044-03-15 00:00:00+00 BC",
            "0044-03-15 05:53:28+05:53:28 BC",
        ),
        (
            "America/St_Johns",
            "2026-01-01T00:00:00Z",
            "2025-12-31 20:30:00-03:30",
        ),
        (
            "America/St_Johns",
            "2026-07-01 02:00:00+02",
            "2026-06-30 21:30:00-02:30",
        ),
        ("-3", "2026-01-01 00:00:00 UTC", "2025-12-31 21:00:00-03"),
        (
            "Europe/Berlin",
            "2026-07-01 12:00",
            "2026-07-01 12:00:00+02",
        ),
        (
            "Europe/Berlin",
            "2026-07-01 12:00 America/New_York",
            "2026-07-01 18:00:00+02",
        ),
    ] {
        let zone = SessionTimeZone::parse(zone).unwrap();
        let value = decode_text::parse(&PgType::Timestamptz, moment, &zone).unwrap();
        let array = value.to_array().unwrap();
        let field = tagged(array.data_type().clone(), "");
        assert_eq!(encode(&field, &array, &zone).0, shown, "{moment}");
    }
}

#[test]
fn intervals() {
    for (months, days, us, text, binary) in [
        (0, 0, 0, "00:00:00", "00000000000000000000000000000000"),
        (
            14,
            3,
            14_706_500_000,
            "1 year 2 mons 3 days 04:05:06.5",
            "000000036c9361a0000000030000000e",
        ),
        (
            -14,
            3,
            -14_706_500_000,
            "-1 years -2 mons +3 days -04:05:06.5",
            "fffffffc936c9e6000000003fffffff2",
        ),
        (-1, 0, 0, "-1 mons", "000000000000000000000000ffffffff"),
        (
            0,
            1,
            -1_000_000,
            "1 day -00:00:01",
            "fffffffffff0bdc00000000100000000",
        ),
    ] {
        let value = IntervalMonthDayNano {
            months,
            days,
            nanoseconds: us * 1000,
        };
        check(
            ScalarValue::IntervalMonthDayNano(Some(value)),
            "",
            text,
            binary,
        );
    }
}

#[test]
fn intervals_with_parts_of_both_signs() {
    for (months, days, us, text, binary) in [
        (
            0,
            -3,
            14_400_000_000,
            "-3 days +04:00:00",
            "000000035a4e9000fffffffd00000000",
        ),
        (
            12,
            -1,
            0,
            "1 year -1 days",
            "0000000000000000ffffffff0000000c",
        ),
        (
            0,
            0,
            360_000_000_000,
            "100:00:00",
            "00000053d1ac10000000000000000000",
        ),
        (
            0,
            0,
            -1,
            "-00:00:00.000001",
            "ffffffffffffffff0000000000000000",
        ),
        (
            -13,
            5,
            0,
            "-1 years -1 mons +5 days",
            "000000000000000000000005fffffff3",
        ),
        (
            0,
            -1,
            -500_000,
            "-1 days -00:00:00.5",
            "fffffffffff85ee0ffffffff00000000",
        ),
    ] {
        let value = IntervalMonthDayNano {
            months,
            days,
            nanoseconds: us * 1000,
        };
        check(
            ScalarValue::IntervalMonthDayNano(Some(value)),
            "",
            text,
            binary,
        );
    }
}

#[test]
fn intervals_are_read_in_other_spellings() {
    for (text, canonical) in [
        ("P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
        ("1.5 days", "1 day 12:00:00"),
        ("@ 1 day 2 hours ago", "-1 days -02:00:00"),
        ("2 weeks, 0:00:01", "14 days 00:00:01"),
        ("90", "00:01:30"),
        ("250ms", "00:00:00.25"),
    ] {
        let value = decode_text::parse(&PgType::Interval, text, &SessionTimeZone::UTC).unwrap();
        let array = value.to_array().unwrap();
        let field = tagged(array.data_type().clone(), "");
        assert_eq!(encode(&field, &array, &SessionTimeZone::UTC).0, canonical);
    }
}

#[test]
fn text_and_its_cousins() {
    let text = |s: &str| ScalarValue::Utf8(Some(s.to_string()));
    check(text("grün"), "", "grün", "6772c3bc6e");
    check(text(""), "", "", "");
    check(ScalarValue::LargeUtf8(Some("a".into())), "name", "a", "61");
    check(ScalarValue::Utf8View(Some("a".into())), "", "a", "61");
    let uuid = "6e47bc22-84ad-4303-8e7b-8ab08ac91cf1";
    check(text(uuid), "uuid", uuid, "6e47bc2284ad43038e7b8ab08ac91cf1");
    check(text("{\"a\": 1}"), "json", "{\"a\": 1}", "7b2261223a20317d");
    check(
        text("{\"a\": 1}"),
        "jsonb",
        "{\"a\": 1}",
        "017b2261223a20317d",
    );
    check(text("r"), "char", "r", "72");
    let vector = "0000000100000000000000150000000200000000000000020001000000020002";
    check(text("1 2"), "int2vector", "1 2", vector);
    check(
        ScalarValue::Binary(Some(vec![0, 255, 16])),
        "",
        "\\x00ff10",
        "00ff10",
    );
    check(ScalarValue::BinaryView(Some(vec![])), "", "\\x", "");
    let bytes = decode_text::parse(&PgType::Bytea, "a\\\\b\\001", &SessionTimeZone::UTC).unwrap();
    assert_eq!(bytes, ScalarValue::Binary(Some(b"a\\b\x01".to_vec())));
    let stored: ArrayRef = Arc::new(
        FixedSizeBinaryArray::try_from_iter([unhex(&uuid.replace('-', ""))].iter()).unwrap(),
    );
    let field = tagged(stored.data_type().clone(), "uuid");
    assert_eq!(encode(&field, &stored, &SessionTimeZone::UTC).0, uuid);
}
