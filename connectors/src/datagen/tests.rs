//! Datagen: rows are a pure function of their offset, and pacing and restarts agree with it.

use std::sync::Arc;

use rivermark_executor::source::{ConnectorFactory, ReadRequest, ReaderState};
use rivermark_planner::catalog::{ColumnDef, Positions, SourceDef};
use rivermark_planner::types::SqlType;

use super::*;
use crate::Registry;

fn column(name: &str, data_type: SqlType) -> ColumnDef {
    ColumnDef {
        name: name.to_string(),
        data_type,
        not_null: false,
        default: None,
        generated: None,
        include: None,
        comment: None,
    }
}

fn def(options: &[(&str, &str)]) -> SourceDef {
    let mut all = vec![
        ("connector", "datagen"),
        ("start_time", "2024-01-01T00:00:00Z"),
    ];
    all.extend(options);
    SourceDef {
        columns: vec![
            column("id", SqlType::BigInt),
            column("device", SqlType::Text { max_length: None }),
            column("value", SqlType::Double),
            column("ts", SqlType::Timestamptz),
        ],
        watermark: None,
        options: all
            .into_iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect(),
        secrets: std::collections::BTreeMap::new(),
        format: Format::Plain,
        encode: Encode::Native,
        encode_options: Default::default(),
        start: Positions::new(),
    }
}

/// Reads all rows in batches of `max_rows`, each row as text.
fn read(def: &SourceDef, start: Positions, max_rows: usize) -> Vec<String> {
    let source = Registry.source("s", def).expect("valid");
    let stop_at = Some(source.end_offsets(1000).expect("known"));
    let request = ReadRequest {
        columns: vec![0, 1, 2, 3],
        start,
        stop_at,
        prefetch_bytes: 1 << 20,
        wake: Arc::new(|| {}),
    };
    let mut reader = source.reader(request).expect("started");
    let mut rows = Vec::new();
    while let Some(batch) = reader.take(max_rows) {
        assert_eq!(
            batch.offsets.value(batch.rows.num_rows() - 1) + 1,
            batch.next_offset
        );
        for row in 0..batch.rows.num_rows() {
            let cells: Vec<_> = batch
                .rows
                .columns()
                .iter()
                .map(|c| arrow::util::display::array_value_to_string(c, row).expect("printable"))
                .collect();
            rows.push(cells.join("|"));
        }
    }
    assert_eq!(reader.status().state, ReaderState::Finished);
    rows
}

#[test]
fn rows_are_a_function_of_their_offset() {
    let mut def = def(&[
        ("rows_per_second", "100"),
        ("rows", "250"),
        ("fields.id.kind", "sequence"),
        ("fields.device.kind", "random"),
        ("fields.device.prefix", "device-"),
        ("fields.device.min", "1"),
        ("fields.device.max", "3"),
        ("fields.value.min", "20"),
        ("fields.value.max", "30"),
    ]);
    def.start = Registry
        .source("s", &def)
        .and_then(|s| s.resolve_start(1000))
        .expect("resolved");
    let all = read(&def, def.start.clone(), 7);
    assert_eq!(all.len(), 250);
    assert!(
        all[0].starts_with("1|device-") && all[0].ends_with("|2024-01-01T00:00:00Z"),
        "{}",
        all[0]
    );
    assert!(
        all[249].starts_with("250|device-") && all[249].ends_with("|2024-01-01T00:00:02.490Z"),
        "{}",
        all[249]
    );
    assert_eq!(read(&def, def.start.clone(), 100), all);
    let middle = Positions::from([(0, def.start[&0] + 100)]);
    assert_eq!(read(&def, middle, 64), all[100..]);
}

#[test]
fn wrong_options_are_refused() {
    let check = |options: &[(&str, &str)], expected: &str| {
        let error = Registry
            .source("s", &def(options))
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains(expected), "{options:?}: {error}");
    };
    check(
        &[("rows_per_second", "0")],
        "option \"rows_per_second\" takes a whole number between 1 and",
    );
    check(&[("speed", "1")], "unknown option \"speed\"");
    check(&[("fields.nope.kind", "random")], "names no column");
    check(
        &[("fields.id.knd", "random")],
        "unknown option \"fields.id.knd\"",
    );
    check(
        &[("fields.id.kind", "zigzag")],
        "takes 'sequence' or 'random' or 'now'",
    );
    check(
        &[("fields.id.kind", "now")],
        "does not fit the column's type bigint",
    );
    check(
        &[("fields.id.min", "x"), ("fields.id.kind", "random")],
        "takes a number, not 'x'",
    );
    check(&[("fields.value.min", "2")], "min 2 is above max 1");
    check(
        &[("start_time", "whenever")],
        "option \"start_time\" takes a timestamp",
    );
}

#[test]
fn schedules() {
    let schedule = Schedule {
        rows_per_second: 3,
        first: 0,
        last: None,
    };
    for offset in [0, 1, 2, 3, 1000, 5_000_000_000] {
        let time_us = schedule.time_us(offset);
        assert_eq!(schedule.end(time_us), offset + 1, "due at its time");
        assert_eq!(schedule.end(time_us - 1), offset, "not due before");
    }
}
