//! Statements of few and of many new rows, in order and not, with keys that are taken and that come twice, against a plain
//! map of rows: several in an epoch, epochs that fail, and deletions between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rivermark_planner::TableId;
use tempfile::TempDir;

use super::RowStore;
use crate::error::ExecutorError;
use crate::rows::{RowFormat, RowLayout};
use crate::state::{CacheHandle, MemoryPlan, Store, StoreOptions, WriteSet};

/// How often each row of (id, v) is there.
type Model = BTreeMap<(i64, i64), i64>;

fn schema() -> Arc<Schema> {
    let column = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![column("id"), column("v")]))
}

fn batch(rows: &[(i64, i64)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let columns: [ArrayRef; 2] = [Arc::new(ids), Arc::new(values)];
    RecordBatch::try_new(schema(), columns.to_vec()).unwrap()
}

fn stored(rows: &RowStore) -> Model {
    let mut found = Model::new();
    let mut cursor = None;
    loop {
        let (delta, next) = rows.chunk(cursor.as_deref(), 1000).unwrap();
        let ids = delta.columns()[0].as_primitive::<Int64Type>();
        let values = delta.columns()[1].as_primitive::<Int64Type>();
        for (id, v) in ids.values().iter().zip(values.values()) {
            *found.entry((*id, *v)).or_default() += 1;
        }
        cursor = next;
        if cursor.is_none() {
            return found;
        }
    }
}

/// Rows of a statement: some of them over what is there, some twice.
fn new_rows(rng: &mut StdRng, next_id: &mut i64) -> Vec<(i64, i64)> {
    let count = match rng.random_bool(0.5) {
        true => rng.random_range(1..5),
        false => rng.random_range(500..700),
    };
    let mut rows: Vec<(i64, i64)> = (0..count).map(|i| (*next_id + i, i % 3)).collect();
    *next_id += count;
    if rng.random_bool(0.3) {
        let old = (rng.random_range(0..*next_id), rng.random_range(0..3));
        rows.push(old);
    }
    if rng.random_bool(0.3) {
        let twice = rows[rng.random_range(0..rows.len())];
        rows.push(twice);
    }
    if rng.random_bool(0.5) {
        rows.shuffle(rng);
    }
    rows
}

/// The first row whose key is taken, or else the model with the rows.
fn inserted(layout: &RowLayout, model: &Model, rows: &[(i64, i64)]) -> Result<Model, i64> {
    let mut after = model.clone();
    for (id, v) in rows {
        let is_taken = after
            .range((*id, i64::MIN)..=(*id, i64::MAX))
            .next()
            .is_some();
        if is_taken && *layout != RowLayout::Bag {
            return Err(*id);
        }
        *after.entry((*id, *v)).or_default() += 1;
    }
    Ok(after)
}

fn run(layout: &RowLayout, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = TempDir::new().unwrap();
    let memory = MemoryPlan {
        block_cache_bytes: 8 << 20,
        write_buffer_bytes: 16 << 20,
    };
    let store = Store::open(&StoreOptions::new(dir.path(), memory)).unwrap();
    let format = RowFormat::new(TableId(7), schema(), layout.clone()).unwrap();
    let cache = CacheHandle::new(1 << 16);
    let mut rows = RowStore::new(Arc::new(format), 0, &store, &cache).unwrap();
    let (mut committed, mut next_id) = (Model::new(), 0);
    for _ in 0..40 {
        let mut model = committed.clone();
        for _ in 0..rng.random_range(1..4) {
            if rng.random_bool(0.3) && !model.is_empty() {
                let at = rng.random_range(0..model.len());
                let gone: Vec<(i64, i64)> = model.keys().skip(at).take(3).copied().collect();
                rows.write(Some(&batch(&gone)), None, "t").unwrap();
                for row in gone {
                    let copies = model.get_mut(&row).unwrap();
                    *copies -= 1;
                    model.retain(|_, copies| *copies > 0);
                }
            }
            let new = new_rows(&mut rng, &mut next_id);
            let written = rows.write(None, Some(&batch(&new)), "t");
            match (written, inserted(layout, &model, &new)) {
                (Ok(_), Ok(after)) => model = after,
                (Err(ExecutorError::UniqueViolation { detail, .. }), Err(id)) => {
                    assert_eq!(detail, format!("Key (id)=({id}) already exists."));
                }
                (written, expected) => panic!("{written:?}, but expected {expected:?}"),
            }
        }
        assert!(stored(&rows) == model, "{layout:?}, seed {seed}");
        assert_eq!(rows.rows(), model.values().sum::<i64>() as u64);
        if rng.random_bool(0.2) {
            rows.discard();
            continue;
        }
        let mut writes = WriteSet::new();
        rows.drain_into(&mut writes).unwrap();
        store.commit(&writes, false).unwrap();
        rows.committed();
        committed = model;
    }
}

#[test]
fn new_rows_are_those_of_a_map() {
    for seed in 0..4 {
        run(&RowLayout::Keyed(vec![0]), seed);
        run(&RowLayout::Bag, seed);
    }
}
