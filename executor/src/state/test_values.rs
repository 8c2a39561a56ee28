//! Random columns of every type that can be stored, and SQL's order on them, for the codecs' tests.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeListArray,
    LargeListArray, ListArray, NullArray, StringArray, StructArray, make_array, make_comparator,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, IntervalUnit, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::column::{Shape, shape};

/// A generator whose seed is printed, and taken from `RIVERMARK_TEST_SEED` if set.
pub(super) fn rng() -> StdRng {
    let seed = std::env::var("RIVERMARK_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("RIVERMARK_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// One of every storable type, nested ones too.
pub(super) fn all_types() -> Vec<DataType> {
    use DataType::*;
    let item = |data_type| Arc::new(Field::new_list_field(data_type, true));
    let fields = Fields::from(vec![
        Field::new("a", Int32, true),
        Field::new("b", Utf8, true),
    ]);
    let mut types = vec![
        Null, Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64,
    ];
    types.extend([
        Decimal128(38, 10),
        Decimal128(10, 2),
        Decimal256(76, 20),
        FixedSizeBinary(3),
        Date32,
        Date64,
    ]);
    types.extend([Utf8, LargeUtf8, Utf8View, Binary, LargeBinary, BinaryView]);
    types.extend([
        Time32(TimeUnit::Second),
        Time64(TimeUnit::Microsecond),
        Duration(TimeUnit::Millisecond),
    ]);
    types.extend([
        Timestamp(TimeUnit::Microsecond, None),
        Timestamp(TimeUnit::Nanosecond, Some("Europe/Vienna".into())),
    ]);
    types.extend(
        [
            IntervalUnit::YearMonth,
            IntervalUnit::DayTime,
            IntervalUnit::MonthDayNano,
        ]
        .map(Interval),
    );
    types.extend([
        List(item(Int64)),
        LargeList(item(Utf8)),
        FixedSizeList(item(Float64), 2),
        Struct(fields.clone()),
    ]);
    types.extend([List(item(Struct(fields))), List(item(List(item(Boolean))))]);
    types
}

/// A column with many ties, extremes and awkward values.
pub(super) fn random_array(
    data_type: &DataType,
    len: usize,
    nulls: f64,
    rng: &mut StdRng,
) -> ArrayRef {
    let validity: Vec<bool> = (0..len).map(|_| !rng.random_bool(nulls)).collect();
    let validity = (nulls > 0.0).then(|| NullBuffer::from(validity));
    match (data_type, shape(data_type).expect("a storable type")) {
        (DataType::Null, _) => Arc::new(NullArray::new(len)),
        (_, Shape::Boolean) => {
            let values = (0..len).map(|_| rng.random_bool(0.5)).collect::<Vec<_>>();
            Arc::new(BooleanArray::new(values.into(), validity))
        }
        (_, Shape::Fixed(width)) => {
            let mut bytes = Vec::with_capacity(len * width);
            (0..len).for_each(|_| bytes.extend(random_fixed(data_type, width, rng)));
            let mut buffer = arrow::buffer::MutableBuffer::new(bytes.len());
            buffer.extend_from_slice(&bytes);
            let data = ArrayData::builder(data_type.clone())
                .len(len)
                .add_buffer(buffer.into())
                .nulls(validity);
            make_array(data.build().expect("fixed values are valid"))
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, _) => {
            const TEXTS: [&str; 8] = [
                "",
                "a",
                "a\0",
                "a\0b",
                "ab",
                "é",
                "\0",
                "a rather long text, not inlined",
            ];
            let texts: Vec<&str> = (0..len)
                .map(|_| TEXTS[rng.random_range(0..TEXTS.len())])
                .collect();
            let array = StringArray::from(texts);
            let array = StringArray::new(array.offsets().clone(), array.values().clone(), validity);
            cast(&array, data_type).expect("text casts to text")
        }
        (_, Shape::Bytes) => {
            let texts: Vec<Vec<u8>> = (0..len)
                .map(|_| {
                    (0..rng.random_range(0..4))
                        .map(|_| [0, 1, 0xFE, 0xFF][rng.random_range(0..4)])
                        .collect()
                })
                .collect();
            let array = BinaryArray::from_iter_values(&texts);
            let array = BinaryArray::new(array.offsets().clone(), array.values().clone(), validity);
            cast(&array, data_type).expect("binary casts to binary")
        }
        _ => random_nested(data_type, len, validity, rng),
    }
}

fn random_nested(
    data_type: &DataType,
    len: usize,
    validity: Option<NullBuffer>,
    rng: &mut StdRng,
) -> ArrayRef {
    let lengths: Vec<usize> = (0..len).map(|_| rng.random_range(0..4)).collect();
    let total = lengths.iter().sum();
    match data_type {
        DataType::List(field) => {
            let child = random_array(field.data_type(), total, 0.2, rng);
            Arc::new(ListArray::new(
                field.clone(),
                OffsetBuffer::from_lengths(lengths),
                child,
                validity,
            ))
        }
        DataType::LargeList(field) => {
            let child = random_array(field.data_type(), total, 0.2, rng);
            Arc::new(LargeListArray::new(
                field.clone(),
                OffsetBuffer::from_lengths(lengths),
                child,
                validity,
            ))
        }
        DataType::FixedSizeList(field, size) => {
            let child = random_array(field.data_type(), len * *size as usize, 0.2, rng);
            Arc::new(FixedSizeListArray::new(
                field.clone(),
                *size,
                child,
                validity,
            ))
        }
        DataType::Struct(fields) => {
            let children = fields
                .iter()
                .map(|field| random_array(field.data_type(), len, 0.2, rng))
                .collect();
            Arc::new(StructArray::new(fields.clone(), children, validity))
        }
        other => unreachable!("{other} is not nested"),
    }
}

fn random_fixed(data_type: &DataType, width: usize, rng: &mut StdRng) -> Vec<u8> {
    let small = rng.random_range(-3i64..=3);
    match data_type {
        DataType::Float64 => {
            let special = [
                0.0,
                -0.0,
                f64::NAN,
                -f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE,
            ];
            let value = if rng.random_bool(0.5) {
                special[rng.random_range(0..7)]
            } else {
                small as f64 * 1.5
            };
            value.to_le_bytes().to_vec()
        }
        DataType::Float32 => {
            let special = [
                0.0,
                -0.0,
                f32::NAN,
                -f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
            ];
            let value = if rng.random_bool(0.5) {
                special[rng.random_range(0..6)]
            } else {
                small as f32 * 1.5
            };
            value.to_le_bytes().to_vec()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let (days, hours) = (rng.random_range(-60i32..60), rng.random_range(-48i64..48));
            [
                &(small as i32).to_le_bytes()[..],
                &days.to_le_bytes(),
                &(hours * 3_600_000_000_000).to_le_bytes(),
            ]
            .concat()
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let millis = rng.random_range(-3i32..3) * 86_400_000 / 2;
            [(small as i32).to_le_bytes(), millis.to_le_bytes()].concat()
        }
        _ => match rng.random_range(0..4) {
            0 => (0..width).map(|_| rng.random()).collect(),
            1 => std::iter::repeat_n(0xFF, width - 1).chain([0x7F]).collect(),
            2 => std::iter::repeat_n(0, width - 1).chain([0x80]).collect(),
            _ => {
                let fill = if small < 0 { 0xFF } else { 0 };
                small
                    .to_le_bytes()
                    .into_iter()
                    .chain(std::iter::repeat(fill))
                    .take(width)
                    .collect()
            }
        },
    }
}

/// PostgreSQL's order of two rows of a column.
pub(super) fn sql_compare(array: &ArrayRef, a: usize, b: usize, options: SortOptions) -> Ordering {
    let nulls = if options.nulls_first {
        Ordering::Less
    } else {
        Ordering::Greater
    };
    let is_null = |row| array.data_type() == &DataType::Null || array.is_null(row);
    match (is_null(a), is_null(b)) {
        (true, true) => Ordering::Equal,
        (true, false) => nulls,
        (false, true) => nulls.reverse(),
        (false, false) if options.descending => compare_values(array, a, b).reverse(),
        (false, false) => compare_values(array, a, b),
    }
}

fn compare_values(array: &ArrayRef, a: usize, b: usize) -> Ordering {
    let ascending = SortOptions {
        descending: false,
        nulls_first: false,
    };
    match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            compare_floats(values.value(a), values.value(b))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            compare_floats(f64::from(values.value(a)), f64::from(values.value(b)))
        }
        DataType::Interval(unit) => {
            interval_nanos(array, *unit, a).cmp(&interval_nanos(array, *unit, b))
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            compare_lists(&list.value(a), &list.value(b))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            compare_lists(&list.value(a), &list.value(b))
        }
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            compare_lists(&list.value(a), &list.value(b))
        }
        DataType::Struct(_) => {
            let mut fields = array
                .as_struct()
                .columns()
                .iter()
                .map(|field| sql_compare(field, a, b, ascending));
            fields
                .find(|ordering| ordering.is_ne())
                .unwrap_or(Ordering::Equal)
        }
        _ => make_comparator(array, array, ascending).expect("a comparable type")(a, b),
    }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn compare_lists(a: &ArrayRef, b: &ArrayRef) -> Ordering {
    let ascending = SortOptions {
        descending: false,
        nulls_first: false,
    };
    let both = arrow::compute::concat(&[a, b]).expect("lists of one type");
    (0..a.len().min(b.len()))
        .map(|item| sql_compare(&both, item, a.len() + item, ascending))
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn interval_nanos(array: &ArrayRef, unit: IntervalUnit, row: usize) -> i128 {
    use arrow::datatypes::{IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType};
    let day = 86_400_000_000_000i128;
    match unit {
        IntervalUnit::YearMonth => {
            i128::from(array.as_primitive::<IntervalYearMonthType>().value(row)) * 30 * day
        }
        IntervalUnit::DayTime => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            i128::from(value.days) * day + i128::from(value.milliseconds) * 1_000_000
        }
        IntervalUnit::MonthDayNano => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            (i128::from(value.months) * 30 + i128::from(value.days)) * day
                + i128::from(value.nanoseconds)
        }
    }
}
