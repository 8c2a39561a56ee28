//! Forgetting rows by time, in all layouts, against a plain list of rows: random changes, floors, failed epochs and
//! restarts, with an index all along.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rivermark_planner::TableId;
use rivermark_planner::catalog::{IndexColumn, IndexDef, ObjectId};
use tempfile::TempDir;

use super::RowStore;
use crate::delta::Delta;
use crate::index::{IndexFormat, IndexProgress, RowIndex};
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout};
use crate::state::{
    CacheHandle, KeyRange, MemoryPlan, StateTable, Store, StoreOptions, TableId as StateTableId,
    WriteSet,
};

/// (id, time), as often as it is there.
type Bag = BTreeMap<(i64, Option<i64>), i64>;

fn schema() -> Arc<Schema> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("ts", time, true),
    ]))
}

fn format(layout: &RowLayout) -> RowFormat {
    let format = RowFormat::new(TableId(7), schema(), layout.clone()).unwrap();
    format.in_order_of(1).unwrap()
}

fn index(store: &Store) -> RowIndex {
    let def = IndexDef {
        relation: ObjectId(1),
        columns: vec![IndexColumn {
            column: 0,
            is_descending: false,
            nulls_first: false,
        }],
        is_unique: false,
        is_complete: true,
        entries: TableId(8),
    };
    let format = IndexFormat::new(ObjectId(2), "i", &def, &schema()).unwrap();
    RowIndex::new(format, true, IndexProgress::default(), store)
}

fn delta(changes: &[((i64, Option<i64>), i64)]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.0.0))),
        Arc::new(TimestampMicrosecondArray::from_iter(
            changes.iter().map(|c| c.0.1),
        )),
    ];
    let batch = RecordBatch::try_new(schema(), columns).unwrap();
    let weights: Vec<i64> = changes.iter().map(|c| c.1).collect();
    let is_plain = weights.iter().all(|weight| *weight == 1);
    Delta::new(batch, (!is_plain).then(|| weights.into()))
}

fn stored(rows: &RowStore) -> Bag {
    let mut found = Bag::new();
    let mut cursor = None;
    loop {
        let (delta, next) = rows.chunk(cursor.as_deref(), 3).unwrap();
        let ids = delta.columns()[0].as_primitive::<Int64Type>();
        let times = delta.columns()[1].as_primitive::<TimestampMicrosecondType>();
        for (id, time) in ids.values().iter().zip(times) {
            *found.entry((*id, time)).or_default() += 1;
        }
        cursor = next;
        if cursor.is_none() {
            return found;
        }
    }
}

fn run(layout: &RowLayout, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let memory = MemoryPlan {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 16 << 20,
    };
    let store = Store::open(&StoreOptions::new(dir.path(), memory)).unwrap();
    let cache = CacheHandle::new(1 << 16);
    let open = |rows, floor| {
        let mut opened = RowStore::new(Arc::new(format(layout)), rows, &store, &cache).unwrap();
        opened.add_index(index(&store));
        opened.set_floor(floor);
        opened
    };
    let mut rows = open(0, None);
    let (mut model, mut next_id, mut floor) = (Bag::new(), 0, None::<i64>);
    for epoch in 0..30_i64 {
        let mut changes: Vec<((i64, Option<i64>), i64)> = Vec::new();
        for _ in 0..rng.random_range(0..6) {
            let time = rng.random_range(epoch - 4..epoch + 3);
            // Of rows that are appended, NULLs go with their neighbours: not compared here.
            let is_null = *layout != RowLayout::Log && rng.random_bool(0.1);
            next_id += i64::from(*layout != RowLayout::Bag || rng.random_bool(0.6));
            changes.push(((next_id, (!is_null).then_some(time)), 1));
        }
        if *layout != RowLayout::Log {
            let known = model.iter().flat_map(|(row, n)| (0..*n).map(move |_| *row));
            let gone: Vec<_> = known.filter(|_| rng.random_bool(0.1)).collect();
            changes.extend(gone.into_iter().map(|row| (row, -1)));
        }
        let is_above = |row: &(i64, Option<i64>), floor: Option<i64>| {
            row.1.is_none() || floor.is_none_or(|floor| row.1 >= Some(floor))
        };
        let new_floor = rng.random_bool(0.4).then(|| epoch - 3).max(floor);
        let apply = |rows: &mut RowStore| {
            let net = crate::consolidate::consolidate(delta(&changes)).unwrap();
            rows.apply_delta(&net).unwrap();
            if let Some(floor) = new_floor {
                rows.forget_before(floor).unwrap();
            }
        };
        if rng.random_bool(0.2) {
            apply(&mut rows);
            rows.discard();
        }
        apply(&mut rows);
        for (row, weight) in changes.iter().filter(|(row, _)| is_above(row, floor)) {
            *model.entry(*row).or_default() += weight;
        }
        floor = new_floor;
        model.retain(|row, weight| *weight != 0 && is_above(row, floor));
        let mut writes = WriteSet::default();
        rows.drain_into(&mut writes).unwrap();
        store.commit(&writes, false).unwrap();
        rows.committed();
        let label = format!("{layout:?}, seed {seed}, epoch {epoch}");
        let found = stored(&rows);
        match layout {
            // What came behind a younger row may stay a while.
            RowLayout::Log => assert!(
                model.iter().all(|row| found.get(row.0) == Some(row.1)),
                "{label}: {found:?} without some of {model:?}"
            ),
            RowLayout::Keyed(_) | RowLayout::Bag => assert_eq!(found, model, "{label}"),
        }
        assert_eq!(rows.rows(), found.values().sum::<i64>() as u64, "{label}");
        let id = StateTableId(8);
        let entries = StateTable::new(id, ROWS_FAMILY, store.clone(), CacheHandle::new(0));
        let entries = entries.scan(&KeyRange::all()).unwrap().count();
        let expected = match layout {
            RowLayout::Bag => found.len() as i64,
            RowLayout::Keyed(_) | RowLayout::Log => found.values().sum(),
        };
        assert_eq!(entries as i64, expected, "index: {label}");
        if rng.random_bool(0.2) {
            rows = open(rows.rows(), rows.floor_us());
        }
    }
}

#[test]
fn rows_go_with_their_time_and_nothing_else_does() {
    for seed in 0..20 {
        run(&RowLayout::Keyed(vec![0]), seed);
        run(&RowLayout::Bag, seed);
        run(&RowLayout::Log, seed);
    }
}
